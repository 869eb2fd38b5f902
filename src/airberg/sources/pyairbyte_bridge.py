"""Runs inside PyAirbyte's own environment: installs a connector and writes its launch description.

Not imported by Airberg, but started by path with that environment's interpreter (`airberg.sources.launch`),
one process per connector, detached from whoever asked. It holds the install lock through an inherited file
descriptor until it ends, and the description is the last thing that it writes: what is there is complete.

The only argument is a JSON object: name, package, version, python, overrides, executable, root (folder for
the environment), description (file to write), failure (file for the reason), fingerprint, limit_s.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_FOR_INSTALLING = ("UV_", "PIP_", "AIRBYTE_", "NETRC")


def main(request: dict[str, Any]) -> int:
    """Install, ask for the specification, write the description. Returns the exit code."""
    signal.signal(signal.SIGALRM, lambda *_: _give_up(request))
    signal.alarm(int(request["limit_s"]))
    Path(request["failure"]).unlink(missing_ok=True)
    try:
        description = _resolve(request)
    except Exception as error:  # noqa: BLE001 - whatever PyAirbyte raises becomes the reason that is shown
        _write(request["failure"], _failure(request, error))
        return 1
    _write(request["description"], description)
    return 0


def _resolve(request: dict[str, Any]) -> dict[str, Any]:
    import airbyte

    root = Path(request["root"])
    if request["executable"]:
        source = airbyte.get_source(request["name"], local_executable=Path(request["executable"]))
        version = request["version"]
    else:
        shutil.rmtree(root, ignore_errors=True)  # a half-built environment of a killed predecessor
        root.mkdir(parents=True)
        source = airbyte.get_source(
            request["name"],
            pip_url=_requirement(request, root),
            install_root=root,
            use_python=_interpreter(request["python"]),
        )
        version = _installed_version(source.executor.interpreter_path, request["package"])
        if version != request["version"]:
            raise RuntimeError(f"version {version} was installed where {request['version']} was asked for")
    with tempfile.TemporaryDirectory(prefix="airberg-spec-") as home:
        _forget_installing(home)
        spec = source.config_spec
    return {
        "source_name": request["name"],
        "version": version,
        # PyAirbyte has no public name for the command line of an executor.
        "argv": source.executor.map_cli_args(list(source.executor._cli)),
        "env": {},
        "spec": spec,
        "fingerprint": request["fingerprint"],
    }


def _requirement(request: dict[str, Any], root: Path) -> str:
    """PyAirbyte splits this like a shell and appends it to `uv pip install`: options ride along."""
    requirement = f"{request['package']}=={request['version']}"
    if not request["overrides"]:
        return requirement
    overrides = root / "overrides.txt"
    overrides.write_text("\n".join(request["overrides"]) + "\n")
    return f"{requirement} --overrides '{overrides}'"


def _interpreter(specifier: str) -> Path | str:
    """This interpreter where the connector takes it, else the newest that does, which uv finds or gets."""
    from packaging.specifiers import SpecifierSet

    allowed = SpecifierSet(specifier)
    here = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if here in allowed:
        return Path(getattr(sys, "_base_executable", sys.executable))
    for minor in ("3.12", "3.11", "3.10"):
        if f"{minor}.99" in allowed:
            return minor
    raise RuntimeError(f"no interpreter fits {specifier}")


def _installed_version(interpreter: Path, package: str) -> str:
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    run = [str(interpreter), "-I", "-c", code, package]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()


def _forget_installing(home: str) -> None:
    """The connector's own code runs next: it needs no index credentials and no home of ours."""
    for name in [name for name in os.environ if name.startswith(_FOR_INSTALLING)]:
        del os.environ[name]
    os.environ["HOME"] = home


def _failure(request: dict[str, Any], error: BaseException) -> dict[str, Any]:
    reason = ""
    cause: BaseException | None = error
    while cause is not None and not reason:
        reason = str(getattr(cause, "log_text", None) or "")
        cause = cause.__cause__
    message = reason or getattr(error, "message", None) or str(error) or type(error).__name__
    return {"message": str(message)[-2000:], "at": time.time(), "fingerprint": request["fingerprint"]}


def _give_up(request: dict[str, Any]) -> None:
    _write(request["failure"], _failure(request, TimeoutError("installing took too long")))
    os.killpg(0, signal.SIGKILL)  # uv and the connector with us: we lead the process group


def _write(path: str, content: dict[str, Any]) -> None:
    """Write a file that is either complete or not there."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(target)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
