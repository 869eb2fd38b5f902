"""Checks events as OpenLineage's specification has them, in two ways.

By the facts of the published JSON schemas (`openlineage_specification`), and by the client's classes, which
are generated from those and each know the address of their schema. Here the classes are turned back into JSON
schemas: types, enumerations, what is required, and, stricter than the specification, no member that it does
not name. The classes do not carry the formats of strings: those are checked by the facts alone.
"""

from __future__ import annotations

import enum
import functools
import importlib
import pkgutil
import types
import typing
from typing import Any

import attr
import jsonschema
import openlineage.client.generated as generated

from support.openlineage_specification import RUN_EVENT, check_specified


def check_event(event: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError when an event is not as specified."""
    check_specified(event)
    _validate(event, RUN_EVENT)
    for part in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for facets in ("facets", "inputFacets", "outputFacets"):
            for facet in part.get(facets, {}).values():
                _validate(facet, facet["_schemaURL"])


def _validate(value: dict[str, Any], address: str) -> None:
    jsonschema.Draft202012Validator(_schema(client_classes()[address])).validate(value)


@functools.cache
def client_classes() -> dict[str, type]:
    """The generated classes by the address of their schema."""
    found: dict[str, type] = {}
    for info in pkgutil.iter_modules(generated.__path__, generated.__name__ + "."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and attr.has(value) and "_get_schema" in vars(value):
                found[value._get_schema()] = value
    return found


@functools.cache
def _schema(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    properties, required = {}, []
    for field in attr.fields(cls):
        facets = field.name in ("facets", "inputFacets", "outputFacets")
        properties[field.name] = {"type": "object"} if facets else _of_type(hints[field.name])
        if field.default is attr.NOTHING or field.name in ("_producer", "_schemaURL", "producer"):
            required.append(field.name)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _of_type(hint: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _of_type(next(t for t in inner if t is not type(None)))
    if origin is list:
        return {"type": "array", "items": _of_type(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(inner[1])}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if isinstance(hint, type) and attr.has(hint):
        return _recursive(hint)
    simple = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"type": simple[hint]}


def _recursive(cls: type) -> dict[str, Any]:
    """Fields of a schema hold fields: those are described to a depth that no test goes beyond."""
    depth = _recursive_depth.get(cls, 0)
    if depth >= 8:
        return {"not": {}}
    _recursive_depth[cls] = depth + 1
    try:
        return _schema.__wrapped__(cls)
    finally:
        _recursive_depth[cls] = depth


_recursive_depth: dict[type, int] = {}
