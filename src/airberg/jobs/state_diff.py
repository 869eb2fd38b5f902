"""What differs between two states of a connector, member by member."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_CHANGES = 200
"""Of each kind; further ones are counted."""
MAX_DEPTH = 32
"""What is nested deeper is compared as a whole."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is not the same. `pointer` is a JSON pointer (RFC 6901) into the state."""

    pointer: str
    before: Any = None
    after: Any = None


@dataclass(slots=True)
class StateDiff:
    """All that differs; `more` counts what is left out."""

    added: list[Change] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)
    more: int = 0


def state_diff(before: object, after: object) -> StateDiff:
    """Compare two JSON values. Members of lists are compared by their place."""
    found = StateDiff()
    for kind, change in _changes(before, after):
        kept: list[Change] = getattr(found, kind)
        if len(kept) < MAX_CHANGES:
            kept.append(change)
        else:
            found.more += 1
    return found


def _changes(
    before: object, after: object, pointer: str = "", depth: int = 0
) -> Iterator[tuple[str, Change]]:
    old, new = _members(before), _members(after)
    if depth >= MAX_DEPTH or old is None or new is None or type(before) is not type(after):
        if before != after or type(before) is not type(after):  # 1 == True, and 1 == 1.0
            yield "changed", Change(pointer, before, after)
        return
    for name in old | new:
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in new:
            yield "removed", Change(place, before=old[name])
        elif name not in old:
            yield "added", Change(place, after=new[name])
        else:
            yield from _changes(old[name], new[name], place, depth + 1)


def _members(value: object) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(place): member for place, member in enumerate(value)}
    return None
