"""What a machine without network does, for a test; runs in a network namespace of its own.

Arguments: the home of a deployment, PyAirbyte's environment, and a folder for environments. Prints a JSON
object: what was done, and after each step how often somebody has tried to leave the namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from airberg.sources.environment import Recipe, build
from support.deployment import Deployment
from support.no_network import attempts, raise_loopback

FAKER = {"count": 40, "seed": 1, "parallelism": 1, "always_updated": False}


def install(deployment: Deployment) -> None:
    """`airberg sources install source-faker`."""
    environment = os.environ | {
        "AIRBERG_HOME": str(deployment.settings.home),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(deployment.settings.pyairbyte_dir),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(deployment.settings.connectors_dir),
    }
    command = [sys.executable, "-m", "airberg.cli", "sources", "install", "source-faker"]
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)


def resolve_anew(folder: Path, name: str) -> str:
    """Make an environment without a lock; returns the program."""
    recipe = Recipe(package="airbyte-source-faker", version="7.2.1", command="source-faker")
    (folder / name).mkdir(parents=True)
    return str(build(recipe, folder / name / "env", folder / name, Path(sys.executable)))


def tries_that_count() -> int:
    """The counter counts: a connection by address, and a question for a name."""
    before = attempts()
    with socket.socket() as handle:
        handle.connect_ex(("192.0.2.1", 443))  # TEST-NET-1
    by_address = attempts()
    assert by_address > before
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo("airberg.invalid", 443)
    assert attempts() > by_address
    return attempts()


def main(home: Path, pyairbyte: Path, folder: Path) -> dict[str, Any]:
    """All steps."""
    raise_loopback()
    said: dict[str, Any] = {"counted": tries_that_count()}
    deployment = Deployment(home, pyairbyte, home / "connectors")
    install(deployment)
    said["installed"] = attempts() - said["counted"]
    job = deployment.job_of("source-faker", FAKER, streams=("users",))
    said["preflight"] = attempts() - said["counted"]
    run = deployment.run(job)
    said["rows"], said["status"] = run.report.streams[0].rows_written, run.status
    said["sync"] = attempts() - said["counted"]
    os.environ["UV_OFFLINE"] = "1"
    said["program"] = resolve_anew(folder, "told")
    said["resolved"] = attempts() - said["counted"]
    del os.environ["UV_OFFLINE"]
    os.environ["UV_HTTP_RETRIES"] = "0"
    said["program_after_all"] = resolve_anew(folder, "found-out")
    said["asked"] = attempts() - said["counted"]
    return said


if __name__ == "__main__":
    output, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(main(*(Path(argument) for argument in sys.argv[1:4]))), file=output)
