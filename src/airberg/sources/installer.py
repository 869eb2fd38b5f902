"""The process that prepares one connector: builds its environment, asks for its specification, describes it.

Started by `airberg.sources.launch`, apart from whoever asked, with the lock of the connector and version in
its hands. The description is the last thing that it writes: what is there is complete. The only argument is
a `Request` as JSON.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from airberg.errors import AirbergError
from airberg.sources.claim import CLAIM, Claim
from airberg.sources.description import (
    LaunchDescription,
    read_description,
    write_description,
    write_whole,
)
from airberg.sources.environment import Recipe, build, compiling, failed
from airberg.sources.limits import Limits

BRIDGE = Path(__file__).with_name("pyairbyte_bridge.py")
FAILURE = "failure.json"
ENVIRONMENTS = "env-"
_COMPLETE = "airberg-complete"
_FOR_INSTALLING = ("UV_", "PIP_", "NETRC", "XDG_")
SPEC_TIMEOUT_S = 300.0
"""A connector that was never started before may compile for a while."""
_MAX_REASON = 2_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to prepare.

    Attributes:
        name: The connector's, `source-…`.
        version: As the description has it.
        fingerprint: As the description has it.
        folder: Of this connector and version.
        recipe: What to build; None for an executable that is there.
        executable: The executable that is there.
        python: Interpreter of PyAirbyte's environment.
        work: PyAirbyte's own folders are made in it.
        limit_s: After so many seconds everything is given up.
        limits: What the connector may use when it is asked for its specification.
    """

    name: str
    version: str
    fingerprint: str
    folder: str
    recipe: Recipe | None = None
    executable: str | None = None
    python: str
    work: str
    limit_s: int
    limits: Limits = Limits()

    @property
    def place(self) -> Path:
        """The folder."""
        return Path(self.folder)


class Failure(msgspec.Struct, frozen=True):
    """Why an installation failed, and when (seconds since the epoch)."""

    message: str
    at: float
    fingerprint: str


def main(request: Request) -> int:
    """Prepare a connector. Returns the exit code."""
    signal.signal(signal.SIGALRM, lambda *_: _give_up(request))
    signal.alarm(request.limit_s)
    with Claim(request.place / CLAIM) as claim:
        if not claim.take(unless=lambda: _described(request)):
            return 0  # another host was faster
        try:
            _prepare(request)
        except (AirbergError, OSError, subprocess.SubprocessError) as error:
            if _described(request):
                return 0
            _fail(request, error.message if isinstance(error, AirbergError) else str(error))
            return 1
    return 0


def _prepare(request: Request) -> None:
    (request.place / FAILURE).unlink(missing_ok=True)
    _sweep(request.place)
    if request.recipe is None:
        if request.executable is None:
            raise failed("there is neither a package nor an executable.")
        description = _ask(request, Path(request.executable))
    else:
        environment = request.place / f"{ENVIRONMENTS}{request.fingerprint[:8]}-{secrets.token_hex(4)}"
        try:
            program = build(request.recipe, environment, request.place, Path(request.python))
            with compiling(environment):  # PyAirbyte's own start takes as long
                description = _ask(request, program)
            (environment / _COMPLETE).touch()
        except BaseException:
            shutil.rmtree(environment, ignore_errors=True)
            raise
    write_description(request.place, description)


def _sweep(folder: Path) -> None:
    """Remove what killed installations left. Environments that were complete may be in use, and stay."""
    for environment in folder.glob(f"{ENVIRONMENTS}*"):
        if not (environment / _COMPLETE).exists():
            shutil.rmtree(environment, ignore_errors=True)
    for unfinished in folder.glob(".locking-*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _ask(request: Request, program: Path) -> LaunchDescription:
    """PyAirbyte's command line of a program, and the specification that it gives."""
    from airberg.sources.verbs import specification  # the HTTP process imports this module, and asks nothing

    launch = LaunchDescription(
        source_name=request.name,
        version=request.version,
        argv=_command_line(request, program),
        fingerprint=request.fingerprint,
    )
    print("$", *launch.argv, "spec", flush=True)
    # Not through PyAirbyte, which takes whatever comes for however long it comes.
    limited = msgspec.structs.replace(launch, limits=request.limits)
    return msgspec.structs.replace(launch, spec=specification(limited, SPEC_TIMEOUT_S))


def _command_line(request: Request, program: Path) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="airberg-spec-") as home:
        answer = Path(home) / "answer.json"
        asked = {"name": request.name, "executable": str(program), "answer": str(answer)}
        command = [request.python, "-I", str(BRIDGE), msgspec.json.encode(asked).decode()]
        environment = _bridge_environment(Path(request.work), home)
        print("$ pyairbyte", program, flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, cwd=home, check=False)
        try:
            said = msgspec.json.decode(answer.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            raise failed(f"PyAirbyte ended with exit code {done.returncode}.") from None
    if "error" in said:
        raise failed(said["error"])
    return tuple(said["argv"])


def _bridge_environment(work: Path, home: str) -> dict[str, str]:
    """It needs no credentials of an index and no home of ours."""
    folders = {name: work / name for name in ("project", "cache", "logs", "tmp")}
    for folder in (work, *folders.values()):
        folder.mkdir(mode=0o700, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOR_INSTALLING)}
    return kept | {
        "HOME": home,
        "TMPDIR": home,
        # No list of connectors is fetched, and nobody is told that one was started.
        "AIRBYTE_OFFLINE_MODE": "1",
        "DO_NOT_TRACK": "1",
        "AIRBYTE_PROJECT_DIR": str(folders["project"]),
        "AIRBYTE_INSTALL_DIR": str(folders["project"]),
        "AIRBYTE_CACHE_ROOT": str(folders["cache"]),
        "AIRBYTE_LOGGING_ROOT": str(folders["logs"]),
        "AIRBYTE_TEMP_DIR": str(folders["tmp"]),
    }


def _described(request: Request) -> bool:
    found = read_description(request.place)
    return found is not None and found.fingerprint == request.fingerprint


def _fail(request: Request, reason: str) -> None:
    failure = Failure(reason[-_MAX_REASON:], time.time(), request.fingerprint)
    write_whole(request.place / FAILURE, failure)


def _give_up(request: Request) -> None:
    _fail(request, "installing took too long.")
    os.killpg(0, signal.SIGKILL)  # uv and the connector with us: we lead the process group


if __name__ == "__main__":
    sys.exit(main(msgspec.json.decode(sys.argv[1], type=Request)))
