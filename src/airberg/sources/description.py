"""What is remembered of a connector once it was resolved: `CONNECTORS_DIR/NAME/VERSION/launch.json`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from airberg.sources.limits import Limits

DESCRIPTION = "launch.json"


class LaunchDescription(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to run a connector.

    Attributes:
        source_name: Its name, `source-…`.
        version: Exact version of the package; `local` for an executable.
        argv: The command; the verb and its options follow.
        env: Variables that the command needs beside the minimum.
        spec: The `connectionSpecification`: JSON schema of the configuration.
        fingerprint: Changes when the connector has to be resolved anew.
        limits: What a process of it may use; those of the deployment, not of the file.
        temporary: Folder for its temporary files; None for the system's.
        guard: What ends that which its processes leave behind (`airberg.sources.guard`); empty for most.
    """

    source_name: str
    version: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    spec: dict[str, Any] = {}
    fingerprint: str = ""
    limits: Limits = Limits()
    temporary: str | None = None
    guard: tuple[str, ...] = ()


def read_description(folder: Path) -> LaunchDescription | None:
    """The description in a folder of a connector and version, if its command is there too."""
    try:
        found = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=LaunchDescription)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.argv and Path(found.argv[0]).exists() else None


def lock_of(folder: Path) -> Path:
    """The file that the processes of a host lock; beside the folder, so that it outlives it."""
    return folder.with_name(f"{folder.name}.lock")


def write_description(folder: Path, description: LaunchDescription) -> None:
    """Write the description, at once and readable for whoever shares the folder."""
    write_whole(folder / DESCRIPTION, description)


def note_installed(folder: Path, launch: LaunchDescription) -> None:
    """Write the description of what is resolved in another way, for who lists or removes what is there."""
    noted = msgspec.structs.replace(launch, env={})
    if read_description(folder) != noted:
        write_description(folder, noted)


def write_whole(target: Path, content: object) -> None:
    """Write a JSON file that is either complete or not there."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(content))
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(target)
