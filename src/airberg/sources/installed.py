"""What is in the folder of connectors: which versions, and taking one away."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from airberg.errors import Conflict, NotFound
from airberg.sources.claim import claimed_elsewhere, kernel_lock
from airberg.sources.description import lock_of, read_description

_REMOVED = ".removed-"


def installed_versions(connectors_dir: Path) -> dict[str, list[str]]:
    """The versions that are ready to run, by the connector's name."""
    found: dict[str, list[str]] = {}
    for folder in _folders(connectors_dir):
        if read_description(folder) is not None:
            found.setdefault(folder.parent.name, []).append(folder.name)
    return found


def remove_version(connectors_dir: Path, name: str, version: str | None) -> str:
    """Take away all that belongs to a version: environments, lock, description. Returns the version.

    It vanishes at once; a process of the connector that still runs may fail.

    Args:
        connectors_dir: The folder of connectors.
        name: The connector's.
        version: Which version; None for the only one that is there.

    Raises:
        NotFound: It is not there.
        Conflict: Code `version-not-named` when several are there; `connector-installing` when it is being
            installed.
    """
    folder = find_version(connectors_dir, name, version)
    held = kernel_lock(lock_of(folder))
    if held is None:
        raise _being_installed(name, folder.name)
    with held:
        if claimed_elsewhere(folder):
            raise _being_installed(name, folder.name)
        doomed = folder.with_name(f"{_REMOVED}{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):  # another host was faster
            folder.rename(doomed)
    for left in folder.parent.glob(f"{_REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
    return folder.name


def find_version(connectors_dir: Path, name: str, version: str | None) -> Path:
    """The folder of a version that is there, ready or not.

    Raises:
        NotFound: It is not there.
        Conflict: Code `version-not-named` when none is named and several are there.
    """
    here = [folder for folder in _folders(connectors_dir) if folder.parent.name == name]
    found = [folder for folder in here if version in (None, folder.name)]
    if not found:
        what = f"{name} {version}" if version else name
        raise NotFound(
            f"The connector {what[:100]} is not installed.",
            guidance=f"Installed: {', '.join(sorted(f.name for f in here))}."
            if here
            else "`airberg sources list --installed` shows which are.",
        )
    if len(found) > 1:
        raise Conflict(
            f"Several versions of {name} are installed: {', '.join(sorted(f.name for f in found))}.",
            guidance="Say which one: --version.",
            code="version-not-named",
        )
    return found[0]


def _folders(connectors_dir: Path) -> Iterator[Path]:
    for folder in sorted(connectors_dir.glob("[!.]*/[!.]*")):
        if folder.is_dir():
            yield folder


def _being_installed(name: str, version: str) -> Conflict:
    return Conflict(
        f"The connector {name} {version} is being installed.",
        guidance="Try again when that has ended.",
        code="connector-installing",
    )
