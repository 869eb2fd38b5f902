"""What DataHub has against what it should have, aspect by aspect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from airberg.governance.patch_merge import Json, Patch, Stored, holds, patch_of, place_of
from airberg.governance.port import MADE_ONCE, Proposal
from airberg.governance.wire import as_json

Kind: TypeAlias = Literal["missing", "different", "extra", "kept"]
"""DataHub has not got it; has something else; has what should not be there; has what people or others added,
which stays and is no difference."""

EVENTS = frozenset({"operation", "datasetProfile", "dataProcessInstanceRunEvent"})
"""Aspects that are events: DataHub keeps all of them, and gives none back as what is now."""
OWN_MAPS = frozenset({"customProperties"})
"""Maps that are replaced as a whole, so that a member of somebody else is to go."""
KEYS = ("fieldPath", "dataset", "urn", "id", "tag", "owner")
"""What members of lists are told apart by."""
ADDED_BY_OTHERS: Mapping[str, tuple[str, str]] = {
    "globalTags": ("tags", "tag"),
    "ownership": ("owners", "owner"),
}
MAX_TEXT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference, or one thing of people's that is kept.

    Attributes:
        urn: The entity.
        aspect: Its aspect.
        kind: What kind of difference.
        pointer: Where in the aspect; empty for the whole.
        expected: What should be there, short, or None.
        found: What is there, short, or None.
    """

    urn: str
    aspect: str
    kind: Kind
    pointer: str = ""
    expected: str | None = None
    found: str | None = None


def differences(proposals: Iterable[Proposal], read: Callable[[str, str], Stored]) -> Iterator[Difference]:
    """Compare what proposals would make with what is there. Each aspect is read once; nothing is written.

    Args:
        proposals: Everything that should be there. Events are left out.
        read: Gives an aspect by urn and name.
    """
    wanted: dict[tuple[str, str], list[Proposal]] = {}
    for proposal in proposals:
        if proposal.aspectName not in EVENTS:
            wanted.setdefault(place_of(proposal), []).append(proposal)
    for (urn, name), of_place in wanted.items():
        found = read(urn, name).value
        if name in MADE_ONCE and found is not None:
            continue
        for proposal in of_place:
            patch = patch_of(proposal)
            pairs = _unpatched(found, patch) if patch else _unlike(_expected(proposal), found)
            for kind, pointer, expected, there in pairs:
                yield Difference(
                    urn=urn, aspect=name, kind=kind, pointer=pointer, expected=expected, found=there
                )
        patches = [p for p in map(patch_of, of_place) if p]
        for text in _of_others(name, found, patches):
            yield Difference(urn=urn, aspect=name, kind="kept", found=text)


_Found: TypeAlias = tuple[Kind, str, str | None, str | None]


def _expected(proposal: Proposal) -> Json:
    return as_json(proposal)["aspect"]["json"]


def _unpatched(found: Json, patch: Patch) -> Iterator[_Found]:
    for operation in patch.operations:
        if not holds(found, Patch((operation,), patch.keys, is_envelope=patch.is_envelope)):
            yield "missing", operation["path"], short(operation.get("value")), None


def _of_others(name: str, found: Json, patches: Sequence[Patch]) -> Iterator[str]:
    """Tags and owners that no patch of ours adds."""
    if name not in ADDED_BY_OTHERS or not isinstance(found, dict):
        return
    array, key = ADDED_BY_OTHERS[name]
    ours = {
        operation["value"].get(key)
        for patch in patches
        for operation in patch.operations
        if isinstance(operation.get("value"), dict)
    }
    for member in found.get(array) or ():
        if isinstance(member, dict) and member.get(key) not in ours:
            yield str(member.get(key))


def _unlike(expected: Json, found: Json, pointer: str = "") -> Iterator[_Found]:
    """Where two values differ. Members that only the service has are its defaults, but in maps of ours."""
    if found is None and expected is not None:
        yield "missing", pointer, short(expected), None
    elif isinstance(expected, dict) and isinstance(found, dict):
        yield from _unlike_objects(_plain(expected), _plain(found), pointer)
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _unlike_lists(expected, found, pointer)
    elif expected != found:
        yield "different", pointer, short(expected), short(found)


def _unlike_objects(expected: dict[str, Any], found: dict[str, Any], pointer: str) -> Iterator[_Found]:
    for name, value in expected.items():
        if value is not None:
            yield from _unlike(value, found.get(name), f"{pointer}/{name}")
    if pointer.rpartition("/")[2] in OWN_MAPS:
        for name in sorted(set(found) - set(expected)):
            yield "extra", f"{pointer}/{name}", None, short(found[name])


def _unlike_lists(expected: list[Any], found: list[Any], pointer: str) -> Iterator[_Found]:
    ours, theirs = _by_key(expected), _by_key(found)
    for key, value in ours.items():
        yield from _unlike(value, theirs.get(key), f"{pointer}/{key}")
    for key in theirs:
        if key not in ours:
            yield "extra", f"{pointer}/{key}", None, short(theirs[key])


def _by_key(members: Sequence[Any]) -> dict[str, Any]:
    """Members by what tells them apart: a key, what they say (lines of columns), or the text itself."""
    keyed: dict[str, Any] = {}
    for place, member in enumerate(members):
        name = str(place)
        if isinstance(member, str):
            name = member
        elif isinstance(member, dict):
            name = next((str(member[k]) for k in KEYS if k in member), name)
            if downstreams := member.get("downstreams"):
                name = " ".join(map(str, downstreams))
        keyed[name if name not in keyed else f"{name} ({place})"] = member
    return keyed


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Without the namespace that names of union members have in the client, and not in the service."""
    return {name.replace(".pegasus2avro", ""): member for name, member in value.items()}


def short(value: Json) -> str | None:
    """A value as people read it: one line, not long."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}\u2026"
