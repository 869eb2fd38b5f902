"""JSON patches of DataHub, carried out on our side: for services that do not know them.

Pure functions of what was read. Members of arrays are told apart by key fields (`attribution␟source` is one
that lies deeper), as the patch says or as DataHub's templates of the aspect do; all other members, which are
those of people and of other programs, are left as they were read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from airberg.governance.port import Proposal

Json: TypeAlias = Any
"""Anything that JSON can be."""

SEPARATOR = "\u241f"

TEMPLATES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "globalTags": {"tags": ["tag"]},
    "ownership": {"owners": ["owner", "type"]},
    "editableSchemaMetadata": {
        "editableSchemaFieldInfo": ["fieldPath"],
        "editableSchemaFieldInfo/globalTags/tags": ["tag"],
        "editableSchemaFieldInfo/glossaryTerms/terms": ["urn"],
    },
}
"""Aspect → array in it → key fields, for patches that bring none."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch of one aspect.

    Attributes:
        operations: Of RFC 6902; `add`, `replace` and `remove`.
        keys: Array → key fields of its members.
        is_envelope: It came in DataHub's envelope (`GenericJsonPatch`), which older services do not know.
    """

    operations: tuple[dict[str, Any], ...]
    keys: Mapping[str, Sequence[str]]
    is_envelope: bool


class Stored(NamedTuple):
    """An aspect as DataHub has it.

    Attributes:
        value: None: there is none.
        version: What a write can be made conditional on, or None when the service knows no conditions.
    """

    value: Json
    version: str | None = None


def patch_of(proposal: Proposal) -> Patch | None:
    """The patch that a proposal is, if it is one that can be carried out here."""
    if proposal.changeType != "PATCH" or proposal.aspect is None:
        return None
    payload = json.loads(proposal.aspect.value)
    if isinstance(payload, dict):
        return Patch(tuple(payload["patch"]), payload.get("arrayPrimaryKeys") or {}, is_envelope=True)
    keys = TEMPLATES.get(proposal.aspectName)
    return None if keys is None else Patch(tuple(payload), keys, is_envelope=False)


def merged(value: Json, patch: Patch) -> dict[str, Any]:
    """The aspect after the patch; what was read is not changed."""
    after: dict[str, Any] = copy.deepcopy(value) or {}
    for array in patch.keys:
        if "/" not in array:
            after.setdefault(array, [])
    for operation in patch.operations:
        _carry_out(after, _parts(operation), operation, patch.keys, "")
    return after


def holds(value: Json, patch: Patch) -> bool:
    """Whether the aspect looks as after the patch: what it adds is there, what it removes is not."""
    return all(
        _is_there(value or {}, _parts(operation), patch.keys, "") is (operation["op"] != "remove")
        for operation in patch.operations
    )


def as_upserts(
    proposals: Iterable[Proposal], read: Callable[[str, str], Stored], *, envelopes_only: bool
) -> list[Proposal]:
    """The proposals with UPSERTs in the place of patches.

    Each patched aspect is read once, takes all its patches, and is written at the place of the last, on the
    condition that it is as it was read where the service knows conditions. One that has everything already
    is not written.

    Args:
        proposals: In the order in which they are to be applied.
        read: Gives an aspect by urn and name.
        envelopes_only: Leave patches as they are that older services know.
    """
    proposals = list(proposals)
    patches = {
        i: p for i, p in enumerate(map(patch_of, proposals)) if p and (p.is_envelope or not envelopes_only)
    }
    last = {place_of(proposals[i]): i for i in patches}
    before: dict[tuple[str, str], Stored] = {}
    after: dict[tuple[str, str], Json] = {}
    out: list[Proposal] = []
    for i, proposal in enumerate(proposals):
        place = place_of(proposal)
        if i not in patches:
            out.append(proposal)
            if place in last and proposal.changeType == "UPSERT":
                before[place], after[place] = Stored(None), _value_of(proposal)
            continue
        if place not in after:
            before[place] = read(*place)
            after[place] = before[place].value
        after[place] = merged(after[place], patches[i])
        if i == last[place] and after[place] != before[place].value:
            out.append(_upsert(proposal, after[place], before[place].version))
    return out


def place_of(proposal: Proposal) -> tuple[str, str]:
    """Urn and name of the aspect that a proposal is about."""
    return proposal.entityUrn, proposal.aspectName


def _value_of(proposal: Proposal) -> Json:
    packed = proposal.make_mcp() if hasattr(proposal, "make_mcp") else proposal
    return json.loads(packed.aspect.value)


def _upsert(patch: Proposal, value: Json, version: str | None) -> Proposal:
    """The value as JSON, not by DataHub's classes: those lose fields that a newer service has."""
    from datahub.metadata.schema_classes import GenericAspectClass, MetadataChangeProposalClass

    return MetadataChangeProposalClass(
        entityType=patch.entityType,
        entityUrn=patch.entityUrn,
        changeType="UPSERT",
        aspectName=patch.aspectName,
        aspect=GenericAspectClass(value=json.dumps(value).encode(), contentType="application/json"),
        systemMetadata=patch.systemMetadata,
        headers=None if version is None else {"If-Version-Match": version},
    )


# ---- paths -----------------------------------------------------------------------------------------------


def _parts(operation: Mapping[str, Any]) -> list[str]:
    return [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]


def _carry_out(
    node: dict[str, Any],
    parts: list[str],
    operation: Mapping[str, Any],
    keys: Mapping[str, Sequence[str]],
    above: str,
) -> None:
    name, rest = parts[0], parts[1:]
    at = f"{above}/{name}".lstrip("/")
    if not rest:
        if operation["op"] == "remove":
            node.pop(name, None)
        else:
            node[name] = operation["value"]
        return
    if at not in keys:
        inner = node[name] = node.get(name) or {}
        _carry_out(inner, rest, operation, keys, at)
        return
    fields = keys[at]
    members = node[name] = node.get(name) or []
    found = _matching(members, fields, rest)
    deeper = rest[len(fields) :] if fields else []
    if deeper:
        member = (
            found[0] if found else {f: v for f, v in zip(fields, rest, strict=False) if SEPARATOR not in f}
        )
        if not found:
            members.append(member)
        _carry_out(member, deeper, operation, keys, at)
    elif operation["op"] == "remove":
        node[name] = [m for m in members if not any(m is f for f in found)]
    elif found:
        members[next(i for i, m in enumerate(members) if m is found[0])] = operation["value"]
    else:
        members.append(operation["value"])


def _is_there(node: Json, parts: list[str], keys: Mapping[str, Sequence[str]], above: str) -> bool:
    name, rest = parts[0], parts[1:]
    at = f"{above}/{name}".lstrip("/")
    inner = node.get(name) if isinstance(node, dict) else None
    if inner is None or not rest:
        return inner is not None
    if at not in keys:
        return _is_there(inner, rest, keys, at)
    found = _matching(inner, keys[at], rest)
    deeper = rest[len(keys[at]) :] if keys[at] else []
    return bool(found) and (not deeper or _is_there(found[0], deeper, keys, at))


def _matching(members: Json, fields: Sequence[str], wanted: Sequence[str]) -> list[Any]:
    """Members whose key fields have the wanted values; fewer values match by the first fields."""
    if not fields:
        return [m for m in members if m == wanted[0]]
    return [m for m in members if all(_field(m, f) == w for f, w in zip(fields, wanted, strict=False))]


def _field(member: Json, field: str) -> str:
    for part in field.split(SEPARATOR):
        member = member.get(part) if isinstance(member, dict) else None
    return "" if member is None else str(member)
