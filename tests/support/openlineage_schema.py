"""Checks events as OpenLineage's specification has them.

The client's classes are generated from the published JSON schemas of the specification, and each knows the
address of its schema. Here they are turned back into JSON schemas: types, enumerations, what is required,
and, stricter than the specification, no member that it does not name. What the classes do not carry, the
formats of strings, is added by the names of members.
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

FORMATS = {
    "eventTime": "date-time",
    "nominalStartTime": "date-time",
    "runId": "uuid",
    "producer": "uri",
    "_producer": "uri",
    "_schemaURL": "uri",
    "schemaURL": "uri",
}
KEYS = {"ParentRunFacet": "parent", "ProcessingEngineRunFacet": "processing_engine"}
"""Under which facets are put, where it is not the name of the class without its suffix."""
KEYS |= {"DatasetVersionDatasetFacet": "version"}
SUFFIXES = ("OutputDatasetFacet", "InputDatasetFacet", "DatasetFacet", "RunFacet", "JobFacet")
RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"


def check_event(event: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError, or AssertionError, when an event is not as specified."""
    assert event["schemaURL"] == RUN_EVENT
    _validate(event, RUN_EVENT)
    _check_facets(event["run"].get("facets", {}), "RunFacet")
    _check_facets(event["job"].get("facets", {}), "JobFacet")
    for dataset in (*event["inputs"], *event["outputs"]):
        _check_facets(dataset.get("facets", {}), "DatasetFacet")
    for dataset in event["outputs"]:
        _check_facets(dataset.get("outputFacets", {}), "OutputDatasetFacet")


def _check_facets(facets: dict[str, Any], kind: str) -> None:
    for key, facet in facets.items():
        name = facet["_schemaURL"].rpartition("/")[2]
        assert name.endswith(kind), (key, name)
        assert _key(name) == key, (key, name)
        _validate(facet, facet["_schemaURL"])


def _key(name: str) -> str:
    suffix = next(s for s in SUFFIXES if name.endswith(s))
    short = name.removesuffix(suffix)
    return KEYS.get(name, short[:1].lower() + short[1:])


def _validate(value: dict[str, Any], address: str) -> None:
    validator = jsonschema.Draft202012Validator(
        _schema(_classes()[address]), format_checker=jsonschema.FormatChecker()
    )
    validator.validate(value)


@functools.cache
def _classes() -> dict[str, type]:
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
        properties[field.name] = {"type": "object"} if facets else _of_type(hints[field.name], field.name)
        if field.default is attr.NOTHING or field.name in ("_producer", "_schemaURL", "producer"):
            required.append(field.name)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _of_type(hint: Any, name: str) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _of_type(next(t for t in inner if t is not type(None)), name)
    if origin is list:
        return {"type": "array", "items": _of_type(inner[0], name)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(inner[1], name)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if isinstance(hint, type) and attr.has(hint):
        return _recursive(hint)
    simple = {str: "string", int: "integer", float: "number", bool: "boolean"}
    schema: dict[str, Any] = {"type": simple[hint]}
    if hint is str and name in FORMATS:
        schema["format"] = FORMATS[name]
        if FORMATS[name] == "uri":  # jsonschema has no checker for it without a further library
            schema["pattern"] = r"^[a-z][a-z0-9+.-]*:\S+$"
    return schema


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
