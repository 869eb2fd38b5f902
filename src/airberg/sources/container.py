"""Connectors that are container images, run by Docker or Podman where the deployment has one of them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airberg.errors import RunError, Unavailable
from airberg.sources.description import LaunchDescription, note_installed, write_whole
from airberg.sources.entry import ConnectorEntry
from airberg.sources.limits import limits_of
from airberg.sources.redact import without_url_credentials
from airberg.sources.variables import NETWORK_VARIABLES
from airberg.sources.verbs import specification

if TYPE_CHECKING:
    from airberg.settings import Settings, SourceSettings

_RUNNER = Path(__file__).with_name("container_runner.py")
_GUARD = Path(__file__).with_name("container_guard.py")
_ENGINES = ("docker", "podman")
_OF_ENGINES = (
    *("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "CONTAINER_HOST", "REGISTRY_AUTH_FILE"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
)
"""Variables with which the engines' commands find their service; the connector in the container has none."""
_LOOK_WITHIN_S = 20.0
_NOT_THERE = ("no such image", "image not known")
_FORMAT = 1


def resolve_image(entry: ConnectorEntry, settings: Settings, *, deadline: float) -> LaunchDescription:
    """How to run an image; it is pulled when the engine does not have it, and asked for its specification.

    Raises:
        Unavailable: `container-engine-missing` when there is no engine, or it does not answer;
            `connector-installing` while the image is pulled; `connector-install-failed` when that fails or
            the image gives no specification.
    """
    launch = _launch(entry, settings)
    remembered = _remembered(entry, settings)
    spec = _known(remembered)
    _ensure_image(entry, launch, remembered.parent, deadline)
    if spec is None:
        spec = _ask(launch, deadline)
        write_whole(remembered, spec)
    launch = msgspec.structs.replace(launch, spec=spec)
    note_installed(remembered.parent, launch)
    return launch


def known_image(entry: ConnectorEntry, settings: Settings) -> LaunchDescription | None:
    """How to run an image that was asked for its specification before; None otherwise. Pulls nothing."""
    spec = _known(_remembered(entry, settings))
    return None if spec is None else msgspec.structs.replace(_launch(entry, settings), spec=spec)


def _remembered(entry: ConnectorEntry, settings: Settings) -> Path:
    digest = hashlib.sha256((entry.image or "").encode()).hexdigest()[:16]
    return settings.connectors_dir / entry.name / entry.known_version / f"image-{_FORMAT}-{digest}.json"


def _known(remembered: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(remembered.read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _launch(entry: ConnectorEntry, settings: Settings) -> LaunchDescription:
    engine = _engine(settings.sources, entry)
    options = list(run_options(engine, settings.sources))
    recipe = {"engine": engine, "image": entry.image, "options": options}
    python = (sys.executable, "-I", "-S")
    return LaunchDescription(
        source_name=entry.name,
        version=entry.known_version,
        argv=(*python, str(_RUNNER), msgspec.json.encode(recipe).decode()),
        env={name: os.environ[name] for name in _OF_ENGINES if name in os.environ},
        fingerprint=f"{_FORMAT}-{entry.image}",
        limits=limits_of(settings.sources),
        guard=(*python, str(_GUARD), engine),
    )


def _engine(settings: SourceSettings, entry: ConnectorEntry) -> str:
    wanted = (settings.container_engine,) if settings.container_engine else _ENGINES
    for name in wanted:
        if found := shutil.which(name):
            return found
    raise _no_engine(entry, f"no {' or '.join(wanted)} was found here")


def run_options(engine: str, settings: SourceSettings) -> tuple[str, ...]:
    """Options that are the same for each run. The engine keeps no copy of the output: it holds the rows."""
    limits = [
        *(["--memory", str(settings.max_memory_bytes)] if settings.max_memory_bytes else []),
        *(["--pids-limit", str(settings.max_processes)] if settings.max_processes else []),
        *(["--ulimit", f"nofile={settings.max_open_files}"] if settings.max_open_files else []),
    ]
    # A rootless Podman has another user of that number in the container, unless it is told to keep it.
    keep = ["--userns", "keep-id"] if "podman" in Path(engine).name and os.getuid() else []
    proxies = [
        part for name in NETWORK_VARIABLES if name.lower().endswith("proxy") for part in ("--env", name)
    ]
    return (
        *("--pull", "never", "--log-driver", "none", "--network", settings.container_network),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *limits,
        *keep,
        *proxies,
        *settings.container_options,
    )


# ---- image and specification -------------------------------------------------------------------------------


def _ensure_image(entry: ConnectorEntry, launch: LaunchDescription, folder: Path, deadline: float) -> None:
    """Pull the image if the engine does not have it; whoever has no time to wait leaves that going."""
    if _has_image(entry, launch):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pull.lock").open("ab") as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() >= deadline:
                raise _pulling(entry)
            time.sleep(0.1)
        if not _has_image(entry, launch):  # else somebody else has just pulled it
            _pull(entry, launch, folder / "pull.log", lock.fileno(), deadline)


def _has_image(entry: ConnectorEntry, launch: LaunchDescription) -> bool:
    engine = launch.guard[-1]
    try:
        done = subprocess.run(
            [engine, "image", "inspect", str(entry.image)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(launch),
            timeout=_LOOK_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_engine(entry, f"{Path(engine).name} does not answer") from None
    said = done.stderr.decode(errors="replace")
    if done.returncode and not any(text in said.lower() for text in _NOT_THERE):
        raise _no_engine(entry, f"{Path(engine).name} says: {_short(said)}")
    return done.returncode == 0


def _pull(entry: ConnectorEntry, launch: LaunchDescription, log: Path, lock: int, deadline: float) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [launch.guard[-1], "pull", str(entry.image)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(launch),
            pass_fds=[lock],  # held until it has ended, whatever becomes of us
            start_new_session=True,
        )
    try:
        code = process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name=f"pull-{entry.name}", daemon=True).start()
        raise _pulling(entry) from None
    if code:
        raise _failed(entry.name, _short(log.read_text("utf-8", "replace")))


def _ask(launch: LaunchDescription, deadline: float) -> dict[str, Any]:
    try:
        return specification(launch, max(deadline - time.monotonic(), 0.0))
    except RunError as error:
        raise _failed(launch.source_name, error.message) from None


def _environment(launch: LaunchDescription) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", *NETWORK_VARIABLES) if name in os.environ}
    return kept | launch.env


# ---- errors ------------------------------------------------------------------------------------------------


def _short(text: str) -> str:
    return " ".join(without_url_credentials(text).split())[-600:]


def _no_engine(entry: ConnectorEntry, reason: str) -> Unavailable:
    return Unavailable(
        f"{entry.name} is a container image, and {reason}.",
        retry_after=60,
        guidance="Its operator installs Docker or Podman where Airberg runs, "
        "or names its command in AIRBERG_SOURCES__CONTAINER_ENGINE.",
        code="container-engine-missing",
    )


def _pulling(entry: ConnectorEntry) -> Unavailable:
    return Unavailable(
        f"The image of {entry.name} is being pulled.",
        retry_after=30,
        guidance="Send the request again in half a minute.",
        code="connector-installing",
    )


def _failed(name: str, reason: str) -> Unavailable:
    return Unavailable(
        f"The image of {name} could not be prepared: {reason}",
        retry_after=30,
        guidance="The operator of this deployment has to correct the connectors file, or the image.",
        code="connector-install-failed",
    )
