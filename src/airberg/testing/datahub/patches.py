"""JSON patches, applied as DataHub's service does: arrays become maps by the keys of their members.

After `ArrayMergingTemplate`, `GenericPatchTemplate` and `TemplateUtil` of DataHub's `entity-registry`: the
members of an array are put into nested maps by the values of their key fields, the patch (RFC 6902) is
applied to those, and the maps become an array again. Parents that a path names are made when they are
missing; so are places that are to be removed, so that removing what is not there is no fault.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from airberg.testing.datahub.refusal import Refused
from airberg.testing.datahub.untyped import Json

SEPARATOR = "\u241f"
"""Between the names of a key that lies deeper: `attribution␟source`."""

_NOBODY = {"time": 0, "actor": "urn:li:corpuser:__datahub_system"}


class Template(NamedTuple):
    """How patches of one aspect are read when they bring no keys of their own.

    Attributes:
        default: The aspect where there is none yet.
        arrays: Array → key fields of its members; `a/*/b/c` is the array `c` below `b` of each member of `a`.
            No key fields: an array of texts.
    """

    default: dict[str, Any]
    arrays: dict[str, list[str]]


TEMPLATES = {
    "globalTags": Template({"tags": []}, {"tags": ["tag"]}),
    "glossaryTerms": Template({"terms": [], "auditStamp": _NOBODY}, {"terms": ["urn"]}),
    "domains": Template({"domains": []}, {"domains": []}),
    "ownership": Template({"owners": [], "lastModified": _NOBODY}, {"owners": ["owner", "type", "typeUrn"]}),
    "datasetProperties": Template({"customProperties": {}, "tags": []}, {}),
    "upstreamLineage": Template({"upstreams": []}, {"upstreams": ["dataset"]}),
    "status": Template({"removed": False}, {}),
    "editableSchemaMetadata": Template(
        {"editableSchemaFieldInfo": [], "created": _NOBODY, "lastModified": _NOBODY},
        {
            "editableSchemaFieldInfo": ["fieldPath"],
            "editableSchemaFieldInfo/*/globalTags/tags": ["tag"],
            "editableSchemaFieldInfo/*/glossaryTerms/terms": ["urn"],
        },
    ),
}


def patched(name: str, current: dict[str, Any] | None, patch: Json, *, envelopes: bool) -> dict[str, Any]:
    """The aspect after the patch.

    Args:
        name: Of the aspect.
        current: Its value, or None.
        patch: A list of operations, or the envelope (`GenericJsonPatch`) with keys of arrays.
        envelopes: Whether the service knows the envelope.

    Raises:
        Refused: The patch is malformed, or there is nothing that it can be applied to.
    """
    operations, keys = _read(patch, envelopes=envelopes)
    template = TEMPLATES.get(name)
    if template is None and (current is None or not keys):
        raise Refused(422, f"Patch not supported for aspect with name {name}.")
    arrays = keys or (template.arrays if template else {})
    node = copy.deepcopy(current if current is not None else template.default if template else {})
    for path in sorted(arrays, key=lambda p: p.count("/")):
        _each(node, path.split("/"), partial(_to_map, keys=arrays[path]))
    for operation in operations:
        _apply(node, operation, name)
    for path in sorted(arrays, key=lambda p: -p.count("/")):
        _each(node, path.split("/"), partial(_to_array, keys=arrays[path]))
    for field in arrays if keys else ():
        node.setdefault(field, [])
    return node


def _read(patch: Json, *, envelopes: bool) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    if isinstance(patch, dict):
        if not envelopes:
            raise Refused(400, "Invalid JSON Patch: JsonArray expected, JsonObject found")
        if unknown := set(patch) - {"patch", "arrayPrimaryKeys", "forceGenericPatch"}:
            raise Refused(400, f"Unrecognized field {sorted(unknown)} of GenericJsonPatch")
        operations, keys = patch.get("patch"), patch.get("arrayPrimaryKeys") or {}
    else:
        operations, keys = patch, {}
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise Refused(400, "Invalid JSON Patch: no list of operations")
    if not isinstance(keys, dict) or not all(isinstance(k, list) for k in keys.values()):
        raise Refused(400, "Invalid JSON Patch: arrayPrimaryKeys is no map of lists")
    for operation in operations:
        if operation.get("op") not in ("add", "remove", "replace"):
            raise Refused(400, f"Unsupported PATCH operation: `{operation.get('op')}`")
        if not str(operation.get("path", "")).startswith("/"):
            raise Refused(400, f"Invalid JSON Patch: path {operation.get('path')!r}")
        if operation["op"] != "remove" and operation.get("value") is None:
            raise Refused(400, f"Invalid JSON Patch: no value for {operation['path']}")
    return operations, keys


def _each(node: Json, path: list[str], change: Callable[[dict[str, Any], str], None]) -> None:
    """Change every field that a path leads to, `*` being each value of a map."""
    head, rest = path[0], path[1:]
    if not isinstance(node, dict):
        return
    if head == "*":
        for value in node.values():
            _each(value, rest, change)
    elif rest:
        _each(node.get(head), rest, change)
    elif head in node:
        change(node, head)


def _to_map(parent: dict[str, Any], field: str, keys: list[str]) -> None:
    members = parent[field]
    if not isinstance(members, list):
        return
    nested: dict[str, Any] = {}
    for member in members:
        if not keys:
            nested[member] = member
            continue
        place = nested
        for key in keys:
            place = place.setdefault(_value(member, key), {})
        place |= member
    parent[field] = nested


def _to_array(parent: dict[str, Any], field: str, keys: list[str]) -> None:
    nested = parent[field]
    if isinstance(nested, dict):
        parent[field] = _members(nested, keys) if keys else list(nested.values())


def _members(nested: Json, keys: list[str]) -> list[Any]:
    if not keys:
        return nested if isinstance(nested, list) else [nested]
    members: list[Any] = []
    for key_value, inner in nested.items() if isinstance(nested, dict) else ():
        for member in _members(inner, keys[1:]):
            # The key may have been in the path alone; the service restores it, but for nested keys.
            if isinstance(member, dict) and key_value and SEPARATOR not in keys[0]:
                member.setdefault(keys[0], key_value)
            members.append(member)
    return [m for m in members if m != {}]


def _value(member: Json, key: str) -> str:
    """The value of a key field, empty where there is none."""
    for part in key.split(SEPARATOR):
        member = member.get(part) if isinstance(member, dict) else None
    return str(member) if member is not None else ""


def _apply(node: dict[str, Any], operation: dict[str, Any], name: str) -> None:
    *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
    place: Any = node
    for part in parents:
        if not isinstance(place, dict):
            raise Refused(422, f"Error performing JSON PATCH on aspect {name}: {operation['path']}")
        place = place.setdefault(part, {})
    if not isinstance(place, dict):
        raise Refused(422, f"Error performing JSON PATCH on aspect {name}: {operation['path']}")
    if operation["op"] == "remove":
        place.pop(last, None)
    elif operation["op"] == "replace" and last not in place:
        raise Refused(422, f"Error performing JSON PATCH on aspect {name}: nothing at {operation['path']}")
    else:
        place[last] = copy.deepcopy(operation["value"])
