"""The connectors that a deployment declares in its `connectors.toml`.

```toml
[connectors.source-orders]
executable = "bin/source-orders"        # relative to the file; any program that speaks the Airbyte protocol

[connectors.source-s3]                  # another version than the snapshot's
package = "airbyte-source-s3"
version = "4.14.2"                      # the one that new jobs get
overrides = ["smart-open[s3]>=5.2,<8"]  # requirement lines that replace a broken pin
versions = ["4.16.1"]                   # others, installed side by side

[connectors.source-items]
manifest = "items.yaml"

[connectors.source-crm]
image = "registry.example/source-crm:1.4.0"
[connectors.source-crm.versions."1.3.2"] # what differs from the entry
image = "registry.example/source-crm:1.3.2"
```
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from airberg.errors import Unavailable
from airberg.sources.entry import ConnectorEntry

_NAME = re.compile(r"source-[a-z0-9]+(-[a-z0-9]+)*")
_KINDS = ("executable", "package", "manifest", "image")
_PATHS = ("executable", "manifest", "components")
_NOT_DECLARED = {"name", "digest", "tested", "python_from"}
_FIELDS = frozenset(ConnectorEntry.__struct_fields__) - _NOT_DECLARED
_LANGUAGES = {"package": "python", "manifest": "manifest-only"}
"""What is known by the kind; programs and images are written in anything."""
_SHORT = 12
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNPINNED = re.compile(r"(:latest|/[^:/]+|^[^:/]+)$")


def declared_entries(file: Path) -> dict[str, tuple[ConnectorEntry, ...]]:
    """Name → its versions, first the one that new jobs get. A missing file declares nothing.

    Raises:
        Unavailable: The file exists but is not well formed; code `connectors-file`.
    """
    try:
        declared = tomllib.loads(file.read_text("utf-8"))["connectors"]
    except FileNotFoundError:
        return {}
    except KeyError:
        raise _broken(file, "it has no table [connectors.…]") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _broken(file, str(error)) from None
    if not isinstance(declared, dict):
        raise _broken(file, "`connectors` is not a table")
    return {name: _versions(file, name, body) for name, body in declared.items()}


def settled(entry: ConnectorEntry) -> ConnectorEntry:
    """The entry with the digest of its manifest: what a job keeps, and what does not change with the file.

    A manifest for which no version was declared is called by its digest.

    Raises:
        Unavailable: The manifest, or its components, cannot be read; code `connector-missing`.
    """
    if not entry.manifest:
        return entry
    digest = digest_of(entry)
    return msgspec.structs.replace(entry, digest=digest, version=entry.version or f"0+{digest[:_SHORT]}")


def digest_of(entry: ConnectorEntry) -> str:
    """SHA-256 of a manifest with its components, as they are now.

    Raises:
        Unavailable: One of them cannot be read; code `connector-missing`.
    """
    parts = hashlib.sha256()
    for path in (entry.manifest, entry.components):
        try:
            content = Path(path).read_bytes() if path else b""
        except OSError:
            raise Unavailable(
                f"The file {Path(path or '').name} of {entry.name} cannot be read.",
                retry_after=60,
                guidance="The operator of this deployment has to correct the connectors file.",
                code="connector-missing",
            ) from None
        parts.update(hashlib.sha256(content).digest())
    return parts.hexdigest()


def _versions(file: Path, name: str, body: object) -> tuple[ConnectorEntry, ...]:
    if not _NAME.fullmatch(name):
        raise _broken(file, f"the name {name!r} is not of the form source-some-words")
    where = f"[connectors.{name}]"
    if not isinstance(body, dict):
        raise _broken(file, f"{where} is not a table")
    common = {key: value for key, value in body.items() if key != "versions"}
    entries = [_entry(file, name, where, common)]
    for version, differing in _others(file, where, body.get("versions", {})):
        merged = common | {"version": version} | differing
        entries.append(_entry(file, name, f"[connectors.{name}.versions.{version!r}]", merged))
    if len({entry.known_version for entry in entries}) < len(entries):
        raise _broken(file, f"{where} has one version twice")
    return tuple(entries)


def _others(file: Path, where: str, versions: object) -> Iterator[tuple[str, dict[str, object]]]:
    """The other versions: a list of their names, or a table of what differs in each."""
    if isinstance(versions, list):
        versions = {str(version): {} for version in versions}
    if not isinstance(versions, dict):
        raise _broken(file, f"{where}: `versions` is neither a list nor a table")
    for version, differing in versions.items():
        if not isinstance(differing, dict) or "version" in differing:
            raise _broken(file, f"{where}: the version {version!r} is not a table of what differs in it")
        yield version, differing


def _entry(file: Path, name: str, where: str, body: Mapping[str, object]) -> ConnectorEntry:
    if unknown := sorted(set(body) - _FIELDS):
        raise _broken(file, f"{where} has the unknown field `{unknown[0]}`")
    try:
        entry = msgspec.convert({**body, "name": name}, ConnectorEntry)
    except msgspec.ValidationError as error:
        raise _broken(file, f"{where}: {error}") from None
    if problem := _problem(entry):
        raise _broken(file, f"{where} {problem}")
    title = entry.title or name.removeprefix("source-").replace("-", " ").capitalize()
    paths = {
        field: str((file.parent / path).absolute())
        for field in _PATHS
        if (path := getattr(entry, field)) is not None
    }
    version = entry.version or (_version_of_image(entry.image) if entry.image else "")
    known = (language for kind, language in _LANGUAGES.items() if getattr(entry, kind))
    return msgspec.structs.replace(
        entry,
        title=title,
        version=version,
        language=entry.language or next(known, ""),
        python_from="assumed" if entry.package and "python" not in body else "package",
        **paths,
    )


def _version_of_image(reference: str) -> str:
    """Its tag, else the beginning of its digest."""
    name, _, digest = reference.partition("@")
    _, colon, tag = name.rpartition(":")
    return tag if colon and _TAG.fullmatch(tag) else f"0+{digest.rpartition(':')[2][:_SHORT]}"


def _problem(entry: ConnectorEntry) -> str | None:
    kinds = [kind for kind in _KINDS if getattr(entry, kind)]
    if len(kinds) != 1 or (entry.package and not entry.version):
        return (
            "needs `executable`, or `package` and `version`, or `manifest`, or `image`, and only one of them"
        )
    if entry.components and not entry.manifest:
        return "has `components` without a `manifest`"
    if entry.image and "@" not in entry.image and _UNPINNED.search(entry.image):
        return (
            f"names the image {entry.image} without a version: give it a tag other than latest, or a digest"
        )
    return None


def _broken(file: Path, why: str) -> Unavailable:
    return Unavailable(
        f"The connectors file {file.name} cannot be used: {why}.",
        retry_after=60,
        guidance="The operator of this deployment has to correct it.",
        code="connectors-file",
    )
