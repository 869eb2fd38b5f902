"""A connector's own environment: made by uv from a lock with hashes, compiled, and never changed afterwards.

The lock is resolved once, for the exact version of the connector, and kept beside the environments. Where it
is already there (from an earlier installation, or copied from another machine) exactly its packages are
installed, from uv's cache as far as they are in it. PyAirbyte installs too, but keeps one environment for
each name whatever the version, locks nothing, and fails when two processes install at once (decision 0020).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uv
from packaging.specifiers import SpecifierSet

from airberg.errors import TransientFailed

_HEAD = "# airberg: "
_ABOUT = """
import json, platform, sys, sysconfig
print(json.dumps([platform.python_version(), f"cp{sys.version_info[0]}{sys.version_info[1]}",
                  sysconfig.get_platform()]))
"""
_QUIET = {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into an environment.

    Attributes:
        package: Name on the package index.
        version: Its exact version.
        overrides: Requirement lines that replace pins of the package which cannot be met.
        python: PEP 440 specifier of the interpreters that it runs on.
        command: The program in the environment that is the connector.
    """

    package: str
    version: str
    overrides: tuple[str, ...] = ()
    python: str = ">=3.10,<3.13"
    command: str


def build(recipe: Recipe, environment: Path, locks: Path, preferred: Path) -> Path:
    """Make an environment.

    Args:
        recipe: What goes into it.
        environment: A folder that is not there yet.
        locks: Folder of the locks; gets one when there is none for this recipe and interpreter.
        preferred: Interpreter to use where the package runs on it.

    Returns:
        The connector's program.

    Raises:
        TransientFailed: Code `connector-install-failed`, with uv's reason; addresses in it may have logins.
    """
    chosen = str(preferred) if _about(preferred)[0] in SpecifierSet(recipe.python) else recipe.python
    _uv("venv", "--no-project", "--prompt", recipe.command, "--python", chosen, str(environment))
    python = environment / "bin" / "python"
    _install(_lock(recipe, python, locks), python)
    program = environment / "bin" / recipe.command
    if not os.access(program, os.X_OK):
        raise failed(f"the package {recipe.package} has no command {recipe.command}.")
    return program


@contextlib.contextmanager
def compiling(environment: Path) -> Iterator[None]:
    """Compile all of an environment while the block runs.

    Who runs connectors may be unable to write there, and each process would compile what the one before could
    not keep. Files that are no Python of this version are left as they are.
    """
    python = str(environment / "bin" / "python")
    compileall = ["-I", "-W", "ignore", "-m", "compileall", "-qq", "-j", "0", str(environment / "lib")]
    process = subprocess.Popen([python, *compileall], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    except BaseException:
        # Its workers wait for it for ever when only it is gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        process.wait()


def failed(reason: str) -> TransientFailed:
    """The error of an installation."""
    return TransientFailed(reason, code="connector-install-failed")


def _lock(recipe: Recipe, python: Path, locks: Path) -> Path:
    """The lock for this recipe and interpreter, made when it is not there."""
    _, version, platform = _about(python)
    file = locks / f"{version}-{platform}.lock.txt"
    head = _HEAD + json.dumps(
        {"requirement": f"{recipe.package}=={recipe.version}", "overrides": recipe.overrides}
    )
    if file.exists() and file.read_text().partition("\n")[0] == head:
        return file
    with tempfile.TemporaryDirectory(prefix=".locking-", dir=locks) as folder:
        wanted, overrides, made = (Path(folder) / name for name in ("wanted.in", "overrides.in", "lock.txt"))
        wanted.write_text(f"{recipe.package}=={recipe.version}\n")
        overrides.write_text("".join(f"{line}\n" for line in recipe.overrides))
        _resolve(
            *("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate"),
            *("--no-emit-index-url", "--no-emit-find-links", "--python", str(python)),
            *("--overrides", str(overrides), "--output-file", str(made), str(wanted)),
        )
        made.write_text(f"{head}\n{made.read_text()}")
        made.replace(file)
    return file


def _resolve(*arguments: str) -> None:
    """Ask the index which packages there are, or the cache where the index cannot be reached."""
    try:
        _uv(*arguments)
    except TransientFailed as error:
        if "No solution found" in error.message:  # it was reached
            raise
        try:
            _uv(*arguments, "--offline")
        except TransientFailed:
            raise error from None


def _install(lock: Path, python: Path) -> None:
    """Install a lock, from the cache alone where that has everything: then no index is asked."""
    arguments = ("pip", "sync", "--require-hashes", "--python", str(python), str(lock))
    try:
        _uv(*arguments, "--offline")
    except TransientFailed:
        _uv(*arguments)


def _about(python: Path) -> tuple[str, str, str]:
    """Version of an interpreter, its tag, and its platform."""
    answer = subprocess.run([python, "-I", "-c", _ABOUT], check=True, capture_output=True, text=True)
    version, tag, platform = json.loads(answer.stdout)
    return version, tag, platform


def _uv(*arguments: str) -> None:
    """Run uv. What it says goes to our own output, which is the log of the installation."""
    command = [uv.find_uv_bin(), *arguments]
    print("$ uv", *arguments, flush=True)
    done = subprocess.run(
        command,
        env=os.environ | _QUIET,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a lock is printed as well as written
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stderr)
    sys.stdout.flush()
    if done.returncode != 0:
        raise failed(done.stderr.strip() or f"uv ended with exit code {done.returncode}.")
