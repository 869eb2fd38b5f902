"""How to start one connector: found once through PyAirbyte, then read from a file.

PyAirbyte lives in an environment of its own and takes seconds to import, so it is asked once per connector
and version: it installs the connector and gives its command line and specification, and that becomes a
`LaunchDescription` in `CONNECTORS_DIR/NAME/VERSION/launch.json`. Checks, discovers and reads need only that.

One process per connector installs at a time (an flock, which dies with its holder), apart from the process
that asked, and goes on when that one has no more time to wait. The description is written last and at once,
so a killed installation leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import uv

from airberg.errors import Unavailable
from airberg.sources.redact import without_url_credentials

if TYPE_CHECKING:
    from airberg.settings import Settings
    from airberg.sources.registry import ConnectorEntry

_FORMAT = 1  # of the description and of the folder; part of every fingerprint
_BRIDGE = Path(__file__).with_name("pyairbyte_bridge.py")
_INSTALL_LIMIT_S = 1_800
_FAILURE_HOLDS_S = 30.0
_POLL_S = 0.1
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "NETRC", "XDG_CACHE_HOME", "XDG_DATA_HOME")
NETWORK_VARIABLES = (
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


class LaunchDescription(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to run a connector.

    Attributes:
        source_name: Its name, `source-…`.
        version: Exact version of the package; `local` for an executable.
        argv: The command; the verb and its options follow.
        env: Variables that the command needs beside the minimum.
        spec: The `connectionSpecification`: JSON schema of the configuration.
        fingerprint: Changes when the connector has to be resolved anew.
        temporary: Folder for its temporary files; None for the system's.
    """

    source_name: str
    version: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    spec: dict[str, Any] = {}
    fingerprint: str = ""
    temporary: str | None = None


class _Failure(msgspec.Struct, frozen=True):
    message: str
    at: float
    fingerprint: str


def resolve(entry: ConnectorEntry, settings: Settings, *, deadline: float) -> LaunchDescription:
    """The launch description of a connector; installs the connector when that has not happened yet.

    Args:
        entry: Which connector.
        settings: For the folders.
        deadline: Until when to wait, on `time.monotonic`'s clock. The installation itself goes on after it.

    Raises:
        Unavailable: Code `connector-installing` when it takes longer; `connector-install-failed` when it
            could not be installed or gives no specification; `connector-missing` when the executable is not
            there; `pyairbyte-missing` when PyAirbyte's environment was not made.
    """
    place = _Place(entry, settings)
    while True:
        description = place.description()
        if description is not None:
            return description
        place.raise_failure()
        place.folder.mkdir(parents=True, exist_ok=True)
        lock = place.lock()
        if lock is not None:
            with lock:
                if place.description() is None:
                    _install(place, settings, lock, deadline)
        elif time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if time.monotonic() >= deadline and place.description() is None:
            place.raise_failure()
            raise Unavailable(
                f"The connector {entry.name} is being installed.",
                retry_after=30,
                guidance="Send the request again in half a minute.",
                code="connector-installing",
            )


class _Place:
    """Where one connector and version lives."""

    def __init__(self, entry: ConnectorEntry, settings: Settings) -> None:
        self.entry = entry
        self.version = entry.known_version
        self.fingerprint = _fingerprint(entry)
        self.folder = settings.connectors_dir / entry.name / self.version
        self.file = self.folder / "launch.json"
        self.failure_file = self.folder / "failure.json"

    def description(self) -> LaunchDescription | None:
        try:
            found = msgspec.json.decode(self.file.read_bytes(), type=LaunchDescription)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        usable = found.fingerprint == self.fingerprint and found.argv and Path(found.argv[0]).exists()
        return found if usable else None

    def raise_failure(self) -> None:
        """A failure holds for a while, so that all who waited hear of it and nobody hammers the index."""
        try:
            failure = msgspec.json.decode(self.failure_file.read_bytes(), type=_Failure)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        if failure.fingerprint == self.fingerprint and abs(time.time() - failure.at) < _FAILURE_HOLDS_S:
            raise self.failed(" ".join(without_url_credentials(failure.message).split())[-600:])

    def failed(self, reason: str) -> Unavailable:
        return Unavailable(
            f"The connector {self.entry.name} {self.version} could not be prepared: {reason}",
            retry_after=int(_FAILURE_HOLDS_S),
            guidance="The log of the installation is in the connector's folder.",
            code="connector-install-failed",
        )

    def lock(self) -> IO[bytes] | None:
        """The open, locked lock file, or None when another process installs."""
        file = (self.folder / "install.lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


def _fingerprint(entry: ConnectorEntry) -> str:
    if entry.executable:
        try:
            status = Path(entry.executable).stat()
        except OSError:
            raise Unavailable(
                f"The executable of {entry.name} is not there.",
                retry_after=60,
                guidance="The operator of this deployment has to correct the connectors file.",
                code="connector-missing",
            ) from None
        parts: list[object] = [_FORMAT, entry.executable, status.st_mtime_ns, status.st_size]
    else:
        parts = [_FORMAT, entry.package, entry.version, entry.python, entry.overrides]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:24]


def _install(place: _Place, settings: Settings, lock: IO[bytes], deadline: float) -> None:
    """Start the installation with the lock in its hands, and wait for its end or the deadline."""
    python = settings.pyairbyte_dir / "bin" / "python"
    if not python.exists():
        raise Unavailable(
            "PyAirbyte's environment has not been made yet.",
            retry_after=60,
            guidance="`airberg up` makes it.",
            code="pyairbyte-missing",
        )
    entry = place.entry
    request = {
        "name": entry.name,
        "package": entry.package,
        "version": place.version,
        "python": entry.python,
        "overrides": list(entry.overrides),
        "executable": entry.executable,
        "root": str(place.folder / f"env-{place.fingerprint[:8]}"),
        "description": str(place.file),
        "failure": str(place.failure_file),
        "fingerprint": place.fingerprint,
        "limit_s": _INSTALL_LIMIT_S,
    }
    with (place.folder / "install.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-I", _BRIDGE, msgspec.json.encode(request).decode()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_bridge_environment(settings.connectors_dir),
            cwd=place.folder,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
    try:
        process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        # It goes on by itself; somebody has to take its exit code when it ends while we still live.
        threading.Thread(target=process.wait, name=f"install-{entry.name}", daemon=True).start()
        return
    if process.returncode != 0:
        place.raise_failure()
        raise place.failed(f"the installation ended with exit code {process.returncode}.")


def _bridge_environment(connectors_dir: Path) -> dict[str, str]:
    work = connectors_dir / ".pyairbyte"
    folders = {name: work / name for name in ("project", "cache", "logs", "tmp")}
    for folder in (work, *folders.values()):
        folder.mkdir(mode=0o700, exist_ok=True)
    kept = {name: os.environ[name] for name in (*_PASSED_ON, *NETWORK_VARIABLES) if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    return kept | {
        # PyAirbyte calls whichever uv comes first; ours is the one that was tested.
        "PATH": os.pathsep.join([str(Path(uv.find_uv_bin()).parent), kept.get("PATH", os.defpath)]),
        # Asking for the specification compiles what the connector uses; compiling all of its environment
        # would double the time of the installation and make no later start faster (measured).
        "UV_COMPILE_BYTECODE": "0",
        "AIRBYTE_OFFLINE_MODE": "1",
        "DO_NOT_TRACK": "1",
        "AIRBYTE_PROJECT_DIR": str(folders["project"]),
        "AIRBYTE_INSTALL_DIR": str(folders["project"]),
        "AIRBYTE_CACHE_ROOT": str(folders["cache"]),
        "AIRBYTE_LOGGING_ROOT": str(folders["logs"]),
        "AIRBYTE_TEMP_DIR": str(folders["tmp"]),
    }
