"""Declarative manifests: connectors that are a YAML file, run by `airbyte-cdk` in a process of their own.

PyAirbyte's own way of running a manifest keeps no state between runs. The CDK's command does, so that is what
is run, in an environment that all manifests of one CDK version share.

A manifest is copied when it is first used, into a folder that is called by its digest: a job goes on with the
copy of the one that it was made with, whatever becomes of the file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airberg.errors import ConfigurationFailed, RunError, Unavailable
from airberg.sources.declared import digest_of
from airberg.sources.description import LaunchDescription, note_installed, write_whole
from airberg.sources.entry import ConnectorEntry
from airberg.sources.launch import installed, resolve
from airberg.sources.process import ConnectorProcess

if TYPE_CHECKING:
    from airberg.settings import Settings

_RUNNER = Path(__file__).with_name("declarative_runner.py")
_CDK = "source-declarative-manifest"  # the command in the package, and its folder among the connectors
_CDK_PYTHON = ">=3.10,<3.14"
_ALLOW_CODE = "AIRBYTE_ENABLE_UNSAFE_CODE"
_MANIFEST, _COMPONENTS = "manifest.yaml", "components.py"
_FORMAT = 1


class _Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a manifest: the custom components that it names, and its specification."""

    custom: tuple[str, ...]
    spec: dict[str, Any]


def resolve_manifest(entry: ConnectorEntry, settings: Settings, *, deadline: float) -> LaunchDescription:
    """How to run a manifest.

    Args:
        entry: The settled entry.
        settings: For the folders, and whether custom components may run.
        deadline: Until when to wait, on `time.monotonic`'s clock.

    Raises:
        ConfigurationFailed: It wants to load code, and this deployment does not (`custom-components`).
        Unavailable: As `launch.resolve`; `connector-missing` when the manifest that a job was made with is
            gone.
    """
    folder = _kept(entry, settings.connectors_dir / entry.name / entry.known_version)
    base = resolve(_cdk(entry), settings, deadline=deadline)
    launch = _launch(entry, base, folder)
    launch = _allowed(launch, _inspect(launch, _remembered(entry, folder), deadline), settings)
    note_installed(folder.parent, launch)
    return launch


def known_manifest(entry: ConnectorEntry, settings: Settings) -> LaunchDescription | None:
    """How to run a manifest that was inspected before; None otherwise. Installs nothing."""
    folder = _place(entry, settings.connectors_dir / entry.name / entry.known_version)
    base = installed(_cdk(entry), settings)
    found = _known(_remembered(entry, folder))
    if base is None or found is None:
        return None
    return msgspec.structs.replace(_launch(entry, base, folder), spec=found.spec)


def _cdk(entry: ConnectorEntry) -> ConnectorEntry:
    return ConnectorEntry(name=_CDK, package="airbyte-cdk", version=entry.cdk, python=_CDK_PYTHON)


def _launch(entry: ConnectorEntry, base: LaunchDescription, folder: Path) -> LaunchDescription:
    components = str(folder / _COMPONENTS) if entry.components else "-"
    python = Path(base.argv[0]).with_name("python")
    return msgspec.structs.replace(
        base,
        source_name=entry.name,
        version=entry.known_version,
        argv=(str(python), "-I", str(_RUNNER), str(folder / _MANIFEST), components),
        fingerprint=f"{_FORMAT}-{entry.cdk}-{entry.digest}",
    )


def _allowed(launch: LaunchDescription, found: _Inspection, settings: Settings) -> LaunchDescription:
    if not found.custom:
        return msgspec.structs.replace(launch, spec=found.spec)
    if not settings.sources.custom_components:
        raise ConfigurationFailed(
            f"The manifest of {launch.source_name} wants to load code ({', '.join(found.custom)}), "
            "which this deployment does not allow.",
            guidance="Its operator may allow it with AIRBERG_SOURCES__CUSTOM_COMPONENTS=true.",
            code="custom-components",
        )
    return msgspec.structs.replace(launch, spec=found.spec, env=launch.env | {_ALLOW_CODE: "true"})


def _place(entry: ConnectorEntry, folder: Path) -> Path:
    return folder / f"manifest-{entry.digest[:16]}"


def _remembered(entry: ConnectorEntry, folder: Path) -> Path:
    return folder / f"inspection-{_FORMAT}-{entry.cdk}.json"


def _known(remembered: Path) -> _Inspection | None:
    try:
        return msgspec.json.decode(remembered.read_bytes(), type=_Inspection)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _kept(entry: ConnectorEntry, folder: Path) -> Path:
    """The folder with our copy of the manifest that the entry was settled with."""
    kept = _place(entry, folder)
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".manifest-") as made:
        copy = _copied(entry, Path(made))
        if digest_of(copy) != entry.digest:
            raise Unavailable(
                f"The manifest of {entry.name} {entry.known_version} is not the one that was asked for.",
                retry_after=60,
                guidance="Put that one back, or move the job with `airberg sources upgrade`.",
                code="connector-missing",
            )
        Path(made).chmod(0o755)
        with suppress(FileExistsError, OSError):  # another process was faster
            Path(made).rename(kept)
    return kept


def _copied(entry: ConnectorEntry, folder: Path) -> ConnectorEntry:
    """The entry with copies of its files."""
    places = {}
    for field, name in (("manifest", _MANIFEST), ("components", _COMPONENTS)):
        if path := getattr(entry, field):
            digest_of(entry)  # tells of a file that is not there
            places[field] = shutil.copyfile(path, folder / name)
    return msgspec.structs.replace(entry, **{field: str(place) for field, place in places.items()})


def _inspect(launch: LaunchDescription, remembered: Path, deadline: float) -> _Inspection:
    """Let the CDK look at the manifest, once."""
    if (known := _known(remembered)) is not None:
        return known
    lines: list[bytes] = []
    left = max(deadline - time.monotonic(), 0.0)
    with ConnectorProcess(launch, "inspect") as process:
        try:
            for batch in process.batches(idle_timeout_s=left, deadline=deadline):
                lines += batch
        except RunError as error:
            raise _broken(launch, error.message) from None
        try:
            found = msgspec.json.decode(b"".join(lines[-1:]), type=_Inspection)
        except msgspec.DecodeError:
            raise _broken(launch, " ".join(process.stderr_tail.split())[-600:]) from None
    write_whole(remembered, found)
    return found


def _broken(launch: LaunchDescription, reason: str) -> Unavailable:
    return Unavailable(
        f"The manifest of {launch.source_name} cannot be used: {reason}",
        retry_after=60,
        guidance="The operator of this deployment has to correct the manifest.",
        code="manifest-broken",
    )
