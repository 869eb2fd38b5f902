"""The environments of the embedded stack beside our own: Airflow's and PyAirbyte's.

Both are locked with hashes and made by uv, which comes with us. They cannot be one, nor ours: their pins
exclude each other (structlog, sqlalchemy, pyarrow).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uv

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.settings import Settings
from airberg.stack.supervisor import Command, Supervisor

PYTHON_RANGE = ">=3.11,<3.13"
"""What both can use: PyAirbyte's metadata excludes 3.13."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment to be made.

    Attributes:
        title: For people.
        folder: Where it is.
        lock: Requirements with hashes; exactly these are installed.
        compile: Whether to compile everything at once. Worth it where several processes start together
            and would each compile the same modules.
        imports: A module to import once after the installation: it compiles only what is used, and shows
            that the environment works.
    """

    title: str
    folder: Path
    lock: Path
    compile: bool = False
    imports: str | None = None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Says what is installed; written last."""
        return self.folder / "airberg-environment.json"

    def wanted(self) -> dict[str, str]:
        """What the stamp has to say. An environment cannot be moved, so its place is part of it."""
        return {"lock": hashlib.sha256(self.lock.read_bytes()).hexdigest(), "folder": str(self.folder)}

    def complete(self) -> bool:
        """Whether it is there and holds what the lock says."""
        return self.python.exists() and _read_stamp(self.stamp) == self.wanted()


def airflow_environment(settings: Settings) -> Environment:
    """Airflow's environment."""
    folder = settings.home / "airflow" / "venv"
    return Environment("Airflow's environment", folder, lock_file("airflow"), compile=True)


def pyairbyte_environment(settings: Settings) -> Environment:
    """PyAirbyte's environment."""
    # Compiling all of its 649 MB takes 11 s, importing it once 4 s more than when it is compiled.
    return Environment(
        "PyAirbyte's environment", settings.pyairbyte_dir, lock_file("pyairbyte"), imports="airbyte"
    )


def ensure_airflow_environment(
    settings: Settings, report: Report, supervisor: Supervisor | None = None
) -> Path:
    """Have Airflow's environment; returns its folder. See `ensure`."""
    return ensure(airflow_environment(settings), settings, report, supervisor)


def ensure_pyairbyte_environment(
    settings: Settings, report: Report, supervisor: Supervisor | None = None
) -> Path:
    """Have PyAirbyte's environment; returns its folder. See `ensure`."""
    return ensure(pyairbyte_environment(settings), settings, report, supervisor)


def ensure(
    environment: Environment, settings: Settings, report: Report, supervisor: Supervisor | None = None
) -> Path:
    """Make an environment, or bring it in line with its lock. Two processes at once make it once.

    Args:
        environment: Which.
        settings: Where logs go.
        report: Gets a line when there is something to wait for.
        supervisor: Runs uv, so that whoever stops the stack stops uv too.

    Raises:
        ConfigurationFailed: There is no Python for it, or its folder cannot be written.
        TransientFailed: The packages could not be installed.
    """
    if environment.complete():
        return environment.folder
    folder = environment.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder.with_name(f"{folder.name}.lock")):
            if not environment.complete():
                _build(environment, supervisor or Supervisor(settings.home / "logs"), report)
    except OSError as e:
        raise ConfigurationFailed(
            f"{environment.title} cannot be made in {folder}: {e.strerror}.",
            guidance="Make room there, or set AIRBERG_HOME to another folder.",
            code="environment-not-writable",
        ) from None
    return folder


def lock_file(name: str) -> Path:
    """The lock of an environment: package data, or `requirements/` of a source checkout.

    Raises:
        ConfigurationFailed: Neither is there.
    """
    packaged = Path(__file__).parent / "requirements" / f"{name}.txt"
    checkout = Path(__file__).parents[3] / "requirements" / f"{name}.txt"
    for path in (packaged, checkout):
        if path.is_file():
            return path
    raise ConfigurationFailed(
        f"The list of packages {packaged} is missing.",
        guidance="Install Airberg again.",
        code="installation-broken",
    )


def _build(environment: Environment, supervisor: Supervisor, report: Report) -> None:
    started = time.monotonic()
    report(f"installing {environment.title}")
    fresh = _read_stamp(environment.stamp) is None or not environment.python.exists()
    wanted = environment.wanted()
    environment.stamp.unlink(missing_ok=True)
    if fresh:
        code, lines = supervisor.run(
            _uv(environment, "venv", "--clear", "--python", _python_request(), str(environment.folder))
        )
        if code:
            raise ConfigurationFailed(
                f"{environment.title} needs a Python {PYTHON_RANGE}. uv says:\n{lines}",
                guidance="Install Python 3.12 or 3.11.",
                code="no-python",
            )
    options = ["--compile-bytecode"] if environment.compile else []
    code, lines = supervisor.run(
        _uv(
            environment,
            *("pip", "sync", "--require-hashes", "--python", str(environment.python)),
            *(*options, str(environment.lock)),
        )
    )
    if code:
        raise TransientFailed(
            f"{environment.title} could not be installed. uv says:\n{lines}",
            guidance="See whether the package index can be reached, and try again.",
            code="environment-failed",
        )
    if environment.imports:
        argv = (str(environment.python), "-W", "ignore", "-c", f"import {environment.imports}")
        code, lines = supervisor.run(_command(environment, *argv))
        if code:
            raise ConfigurationFailed(
                f"{environment.title} does not work. Its last lines:\n{lines}",
                guidance=f"Delete {environment.folder} and try again.",
                code="environment-broken",
            )
    environment.stamp.write_text(json.dumps(wanted))
    report(f"{environment.title} is ready ({time.monotonic() - started:.0f} s)")


def _uv(environment: Environment, *arguments: str) -> Command:
    return _command(environment, uv.find_uv_bin(), *arguments)


def _command(environment: Environment, *argv: str) -> Command:
    foreign = ("AIRBERG_", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables |= {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    return Command(
        name=f"{environment.folder.parent.name}-{environment.folder.name}-install",
        argv=argv,
        environment=variables,
        cwd=environment.folder.parent,
        grace_s=2.0,
    )


def _python_request() -> str:
    """Our own interpreter where it fits: it is there, and nothing is downloaded."""
    return sys.executable if (3, 11) <= sys.version_info[:2] < (3, 13) else PYTHON_RANGE


def _read_stamp(path: Path) -> dict[str, str] | None:
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
