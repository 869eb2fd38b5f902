"""How to start one connector: found once through PyAirbyte, then read from a file.

PyAirbyte lives in an environment of its own and takes seconds to import, so it is asked once per connector
and version: it gives the command line of an installed connector and its specification, and that becomes a
`LaunchDescription` in `CONNECTORS_DIR/NAME/VERSION/launch.json`. Checks, discovers and reads need only that.

One process of a host prepares a connector and version at a time (an flock, which dies with its holder), and
one host of those that share the folder (`airberg.sources.claim`). It is apart from the process that asked,
and goes on when that one has no more time to wait. The description is written last and at once, so a killed
installation leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from airberg.errors import Unavailable
from airberg.sources.claim import kernel_lock
from airberg.sources.description import LaunchDescription as LaunchDescription
from airberg.sources.description import lock_of, read_description
from airberg.sources.environment import Recipe
from airberg.sources.installer import FAILURE, Failure, Request
from airberg.sources.limits import limits_of
from airberg.sources.redact import without_url_credentials
from airberg.sources.variables import NETWORK_VARIABLES

if TYPE_CHECKING:
    from airberg.settings import Settings
    from airberg.sources.registry import ConnectorEntry

_FORMAT = 2  # of the description and of the folder; part of every fingerprint
_INSTALL_LIMIT_S = 1_800
_FAILURE_HOLDS_S = 30.0
_POLL_S = 0.1
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "NETRC")
_FOR_UV = ("UV_", "XDG_")
_CACHES = {"UV_CACHE_DIR", "UV_NO_CACHE", "XDG_CACHE_HOME"}


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
    if entry.manifest:
        from airberg.sources.manifest import resolve_manifest  # it comes back here for the CDK

        return resolve_manifest(entry, settings, deadline=deadline)
    if entry.image:
        from airberg.sources.container import resolve_image

        return resolve_image(entry, settings, deadline=deadline)
    place = _Place(entry, settings)
    while True:
        description = place.description()
        if description is not None:
            return msgspec.structs.replace(description, limits=limits_of(settings.sources))
        place.raise_failure()
        try:
            place.folder.mkdir(parents=True, exist_ok=True)
            lock = kernel_lock(lock_of(place.folder))
        except OSError as error:
            raise place.failed(f"its folder cannot be written: {error.strerror}.") from None
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


def installed(entry: ConnectorEntry, settings: Settings) -> LaunchDescription | None:
    """The launch description of a connector that is ready to be asked; None otherwise. Installs nothing."""
    try:
        if entry.manifest:
            from airberg.sources.manifest import known_manifest

            return known_manifest(entry, settings)
        if entry.image:
            from airberg.sources.container import known_image

            return known_image(entry, settings)
        return _Place(entry, settings).description()
    except Unavailable:  # its executable, or what would run it, is not there
        return None


class _Place:
    """Where one connector and version lives."""

    def __init__(self, entry: ConnectorEntry, settings: Settings) -> None:
        self.entry = entry
        self.version = entry.known_version
        self.fingerprint = _fingerprint(entry)
        self.folder = settings.connectors_dir / entry.name / self.version

    def description(self) -> LaunchDescription | None:
        found = read_description(self.folder)
        return found if found is not None and found.fingerprint == self.fingerprint else None

    def raise_failure(self) -> None:
        """A failure holds for a while, so that all who waited hear of it and nobody hammers the index."""
        try:
            failure = msgspec.json.decode((self.folder / FAILURE).read_bytes(), type=Failure)
        except (OSError, msgspec.DecodeError):
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
            guidance="`airberg up` and `airberg sources install` make it.",
            code="pyairbyte-missing",
        )
    request = Request(
        name=place.entry.name,
        version=place.version,
        fingerprint=place.fingerprint,
        folder=str(place.folder),
        recipe=None if place.entry.executable else _recipe(place.entry),
        executable=place.entry.executable,
        python=str(python),
        work=str(settings.connectors_dir / ".pyairbyte"),
        limit_s=_INSTALL_LIMIT_S,
        limits=limits_of(settings.sources),
    )
    with (place.folder / "install.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "airberg.sources.installer", msgspec.json.encode(request).decode()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=install_environment(settings),
            cwd=place.folder,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
    try:
        process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        # It goes on by itself; somebody has to take its exit code when it ends while we still live.
        threading.Thread(target=process.wait, name=f"install-{place.entry.name}", daemon=True).start()
        return
    if process.returncode != 0:
        place.raise_failure()
        raise place.failed(f"the installation ended with exit code {process.returncode}.")


def _recipe(entry: ConnectorEntry) -> Recipe:
    return Recipe(
        package=entry.package,
        version=entry.version,
        overrides=entry.overrides,
        python=entry.python,
        command=entry.name,
    )


def install_environment(settings: Settings) -> dict[str, str]:
    """What uv needs: its own variables, and where its configuration and its cache are.

    Without a home that can be written to (in a container) the cache is below ours.
    """
    names = {*_PASSED_ON, *NETWORK_VARIABLES}
    kept = {n: v for n, v in os.environ.items() if n in names or n.startswith(_FOR_UV)}
    if not _CACHES & kept.keys() and not _has_a_cache():
        kept["UV_CACHE_DIR"] = str(settings.home / "uv-cache")
    return kept


def _has_a_cache() -> bool:
    """Whether uv's own folder can be written to, or made."""
    try:
        folder = Path("~/.cache/uv").expanduser()
    except RuntimeError:  # neither a variable nor the list of users has a home
        return False
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
