"""What the published JSON schemas of OpenLineage's specification say, and a check of events against it.

`openlineage_specification.json` has the facts of each schema, by its `$id`: names of members, types, formats,
enumerations and what is required, in the notation below. They are those of specification 2-0-2 and of the
facets that our events have (`tags` is the client's), each in the version that the `_schemaURL` of our events
names. `sha256` is of the published file that was read; where there is none, `read` says which version was
(the members that the named one has in addition are those of the client's class). Nothing else of those files
is kept, no text, title or example, and no kind of event but RunEvent.

To renew it, put the published files into a folder (their names do not matter) and call
`python tests/support/openlineage_specification.py FOLDER`.

The notation: `name` may be there, `name!` must; `string`, `integer`, `boolean`, with the format behind it,
or the least value (`integer from 1`); `A|B` is one of those; `[X]` an array; `*` any other member; `<` what
it is in addition. A name with a capital is a shape of the same schema, an address one of another.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import referencing
from referencing.jsonschema import DRAFT202012

FACTS = Path(__file__).with_suffix(".json")
RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
PLACES = {"RunFacet": ("run",), "JobFacet": ("job",), "DatasetFacet": ("inputs", "outputs")}
"""Where facets of a kind are."""

_FORMATS = jsonschema.FormatChecker()


@_FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    """By scheme and characters, as RFC 3986: jsonschema checks these with a further library only."""
    return not isinstance(value, str) or re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", value) is not None


# ---- checking --------------------------------------------------------------------------------------------


def check_specified(event: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError when an event, or a facet of it, is not as its schema has it."""
    _validate(event, RUN_EVENT, event.get("schemaURL"))
    for facet_kind, parts in PLACES.items():
        for part in parts:
            holders = event.get(part, [])
            for holder in holders if isinstance(holders, list) else [holders]:
                _check_facets(holder.get("facets", {}), facet_kind)
    for dataset in event.get("inputs", []):
        _check_facets(dataset.get("inputFacets", {}), "InputDatasetFacet")
    for dataset in event.get("outputs", []):
        _check_facets(dataset.get("outputFacets", {}), "OutputDatasetFacet")


def _check_facets(facets: dict[str, Any], kind: str) -> None:
    for key, facet in facets.items():
        address = facet["_schemaURL"]
        schema, _, shape = address.partition("#/$defs/")
        known = facts().get(schema, {}).get("shapes", {}).get(shape)
        if known is None:
            raise jsonschema.ValidationError(f"facet {key}: no schema of the specification is at {address}")
        if facts()[schema]["key"] != key or known["<"].rpartition("/")[2] != kind:
            raise jsonschema.ValidationError(f"facet {key}: {shape} is not a {kind} of that name")
        _validate(facet, address, address)


def _validate(value: object, address: str, named: object) -> None:
    if named != address:
        raise jsonschema.ValidationError(f"names the schema {named!r}, not {address}")
    _validator(address).validate(value)


@functools.cache
def _validator(address: str) -> Any:
    return jsonschema.Draft202012Validator({"$ref": address}, registry=_registry(), format_checker=_FORMATS)


@functools.cache
def _registry() -> Any:
    schemas = [
        {"$id": address, "$defs": {name: schema_of(shape) for name, shape in known["shapes"].items()}}
        for address, known in facts().items()
    ]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    resources = [(s["$id"], referencing.Resource(contents=s, specification=DRAFT202012)) for s in schemas]
    return referencing.Registry().with_resources(resources)


@functools.cache
def facts() -> dict[str, Any]:
    """What is known, by the `$id` of the schema: `key` of the facet and `shapes` by name."""
    known: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    return known


def schema_of(fact: Any) -> dict[str, Any]:
    """The JSON schema of a fact."""
    if isinstance(fact, list):
        return {"type": "array", "items": schema_of(fact[0])}
    if isinstance(fact, dict):
        return _schema_of_object(fact)
    if "|" in fact:
        return {"type": "string", "enum": fact.split("|")}
    if fact.startswith("https:"):
        return {"$ref": fact}
    if fact[0].isupper():
        return {"$ref": f"#/$defs/{fact}"}
    kind, _, more = fact.partition(" ")
    if more.startswith("from "):
        return {"type": kind, "minimum": int(more.removeprefix("from "))}
    return {"type": kind, "format": more} if more else {"type": kind}


def _schema_of_object(fact: dict[str, Any]) -> dict[str, Any]:
    members = {name: value for name, value in fact.items() if name not in ("<", "*")}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name.removesuffix("!"): schema_of(value) for name, value in members.items()},
        "required": [name.removesuffix("!") for name in members if name.endswith("!")],
    }
    if "*" in fact:
        schema["additionalProperties"] = schema_of(fact["*"])
    if "<" in fact:
        schema["allOf"] = [schema_of(fact["<"])]
    return schema


# ---- renewing --------------------------------------------------------------------------------------------


def facts_of(published: dict[str, Any]) -> dict[str, Any]:
    """The facts of one published schema.

    Raises:
        ValueError: It says something that the notation has no word for.
    """
    definitions = {name: _fact(schema) for name, schema in published["$defs"].items() if _wanted(name)}
    keys = list(published.get("properties", {}))
    return {"key": keys[0], "shapes": definitions} if keys else {"shapes": definitions}


def _wanted(name: str) -> bool:
    return name not in ("DatasetEvent", "JobEvent", "StaticDataset")


_TEXTS = {"description", "documentation", "title", "example", "examples", "deprecated", "$comment"}


def _fact(schema: dict[str, Any]) -> Any:
    said = {word: value for word, value in schema.items() if word not in _TEXTS}
    if "$ref" in said:
        return said["$ref"].removeprefix("#/$defs/")
    if len(said.get("anyOf", ())) == 1:
        return _fact(said["anyOf"][0])
    kind = said.pop("type", "object")
    if kind == "array":
        return [_fact(said.pop("items"))]
    if kind != "object":
        return _simple_fact(kind, said)
    fact: dict[str, Any] = {}
    for part in said.pop("allOf", ()):
        found = _fact(part)
        fact |= found if isinstance(found, dict) else {"<": found}
    required = set(said.pop("required", ()))
    for name, value in said.pop("properties", {}).items():
        fact[name + "!" * (name in required)] = _fact(value)
    if isinstance(others := said.pop("additionalProperties", True), dict):
        fact["*"] = _fact(others)
    if said or others is False:
        raise ValueError(f"There is no word here for {said or 'additionalProperties'} of a published schema.")
    return fact


def _simple_fact(kind: str, said: dict[str, Any]) -> str:
    more = {"enum": "|".join, "format": f"{kind} {{}}".format, "minimum": f"{kind} from {{}}".format}
    if len(said) > 1 or not said.keys() <= more.keys():
        raise ValueError(f"There is no word here for {said} of a published schema.")
    return next((more[word](value) for word, value in said.items()), kind)


def main(folder: str) -> None:
    """Write the facts of all published files of a folder, keeping the schemas that are not there."""
    known = facts()
    for path in sorted(Path(folder).glob("*.json")):
        data = path.read_bytes()
        published = json.loads(data)
        known[published["$id"]] = {"sha256": hashlib.sha256(data).hexdigest()} | facts_of(published)
    FACTS.write_text(json.dumps(known, indent=1, sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
