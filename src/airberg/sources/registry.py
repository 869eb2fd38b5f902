"""Which connectors there are. An unknown name is never downloaded.

The snapshot `registry.json` names connectors of Airbyte on PyPI with the version that was seen to resolve.
The deployment's own connectors come from a TOML file (`Settings.connectors_file`) and win over the snapshot:

```toml
[connectors.source-orders]
executable = "bin/source-orders"        # relative to the file; any program that speaks the Airbyte protocol

[connectors.source-s3]                  # another version than the snapshot's
package = "airbyte-source-s3"
version = "4.14.2"
overrides = ["smart-open[s3]>=5.2,<8"]  # requirement lines that replace a broken pin
```
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from airberg.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from airberg.settings import Settings

POINTER = "/source_name"
_NAME = re.compile(r"source-[a-z0-9]+(-[a-z0-9]+)*")


class ConnectorEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to get one connector: a package with its exact version, or an executable.

    Attributes:
        name: `source-…`, as in `source_name`.
        title: Name for people.
        category: One word, `files`, `finance`, …; `own` for those of the deployment.
        package: Name on the package index.
        version: Exact version of the package.
        python: PEP 440 specifier of the interpreters that the package runs on.
        overrides: Requirement lines that replace pins of the package that cannot be met.
        executable: Absolute path of a program that is the connector; then there is no package.
    """

    name: str
    title: str = ""
    category: str = "own"
    package: Annotated[str, msgspec.Meta(pattern=r"^$|^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")] = ""
    version: Annotated[str, msgspec.Meta(pattern=r"^$|^[0-9][A-Za-z0-9.!+_-]*$")] = ""
    python: str = ">=3.10,<3.13"
    overrides: tuple[str, ...] = ()
    executable: str | None = None


class _Snapshot(msgspec.Struct):
    connectors: list[ConnectorEntry]
    snapshot: str = ""


class ConnectorRegistry:
    """The known connectors.

    Args:
        own: Connectors of the deployment; they win over those of the same name in the snapshot.
    """

    def __init__(self, own: Sequence[ConnectorEntry] = ()) -> None:
        self._entries = {entry.name: entry for entry in (*_snapshot(), *own)}

    def entries(self) -> list[ConnectorEntry]:
        """All of them, by name."""
        return sorted(self._entries.values(), key=lambda entry: entry.name)

    def find(self, name: str) -> ConnectorEntry:
        """The connector of that name.

        Raises:
            InvalidRequest: There is none; the problem's guidance has the nearest names.
        """
        entry = self._entries.get(name)
        if entry is not None:
            return entry
        near = _nearest(name, self._entries)
        raise InvalidRequest.one(
            POINTER,
            "unknown-source",
            f"There is no connector named {name[:100]!r}.",
            (f"Did you mean {', '.join(near)}? " if near else "")
            + "Own connectors are declared in the deployment's connectors file.",
        )


def load_registry(settings: Settings) -> ConnectorRegistry:
    """The snapshot with the connectors of `settings.connectors_file`.

    Raises:
        Unavailable: The file exists but is not well formed.
    """
    return ConnectorRegistry(_own_entries(settings.connectors_file))


def _nearest(name: str, names: dict[str, ConnectorEntry]) -> list[str]:
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    if not wanted.startswith("source-"):
        wanted = f"source-{wanted}"
    stem = wanted.removeprefix("source-")
    containing = sorted(known for known in names if stem and f"-{stem}-" in f"{known}-")
    return list(dict.fromkeys([*containing, *difflib.get_close_matches(wanted, names, n=3, cutoff=0.75)]))[:3]


@cache
def _snapshot() -> tuple[ConnectorEntry, ...]:
    data = resources.files("airberg.sources").joinpath("registry.json").read_bytes()
    return tuple(msgspec.json.decode(data, type=_Snapshot).connectors)


def _own_entries(file: Path) -> list[ConnectorEntry]:
    try:
        declared = tomllib.loads(file.read_text("utf-8"))["connectors"]
    except FileNotFoundError:
        return []
    except KeyError:
        raise _broken(file, "it has no table [connectors.…]") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _broken(file, str(error)) from None
    if not isinstance(declared, dict):
        raise _broken(file, "`connectors` is not a table")
    return [_own_entry(file, name, body) for name, body in declared.items()]


def _own_entry(file: Path, name: str, body: object) -> ConnectorEntry:
    if not _NAME.fullmatch(name):
        raise _broken(file, f"the name {name!r} is not of the form source-some-words")
    if not isinstance(body, dict):
        raise _broken(file, f"[connectors.{name}] is not a table")
    try:
        entry = msgspec.convert({**body, "name": name}, ConnectorEntry)
    except msgspec.ValidationError as error:
        raise _broken(file, f"[connectors.{name}]: {error}") from None
    if bool(entry.executable) == bool(entry.package) or bool(entry.package) != bool(entry.version):
        raise _broken(file, f"[connectors.{name}] needs `executable`, or `package` and `version`")
    title = entry.title or name.removeprefix("source-").replace("-", " ").capitalize()
    executable = str((file.parent / entry.executable).absolute()) if entry.executable else None
    return msgspec.structs.replace(entry, title=title, executable=executable)


def _broken(file: Path, why: str) -> Unavailable:
    return Unavailable(
        f"The connectors file {file.name} cannot be used: {why}.",
        retry_after=60,
        guidance="The operator of this deployment has to correct it.",
        code="connectors-file",
    )
