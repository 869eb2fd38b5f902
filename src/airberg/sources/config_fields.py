"""The fields of a connector's configuration as a flat list, for forms and for people.

The specification itself (a JSON schema) says more; the list says what most need of it. A field inside an
object has a dotted path, one inside a list has `[]` in it. Of alternatives (`oneOf`), each with a constant
that tells it from the others, the fields say in `when` with which constant they apply.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from airberg.sources.secret_fields import resolve_reference, secret_name

Schema: TypeAlias = dict[str, Any]

MAX_FIELDS = 1_000
MAX_LEVELS = 12
MAX_STEPS = 10_000
"""Objects that are looked into: alternatives that refer to each other would go on for ever."""
_TAG = re.compile(r"<[^<>]*>")


class ConfigField(msgspec.Struct, frozen=True, kw_only=True):
    """One field.

    Attributes:
        path: Where it is in the configuration: `credentials.token`, `streams[].name`.
        title: Its name for people.
        type: `string`, `integer`, `number`, `boolean`, `object`, `array`; several are joined with ` or `.
        required: Whether it must be given, where the object that it is in is given.
        secret: Whether its value is kept as a secret.
        description: Plain text.
        default: What the connector takes when it is left out; null: nothing is said.
        enum: The values that it may have; null: any.
        when: The constant with which it applies, such as `credentials.auth_type = "oauth2.0"`.
    """

    path: str
    title: str
    type: str
    required: bool
    secret: bool
    description: str = ""
    default: Any = None
    enum: list[Any] | None = None
    when: str | None = None


class _Spec(NamedTuple):
    root: Schema
    steps: Iterator[int]


def config_fields(spec: Schema) -> list[ConfigField]:
    """The fields of a specification, in its order; at most `MAX_FIELDS`, `MAX_LEVELS` deep."""
    fields: dict[tuple[str, str | None], ConfigField] = {}
    for field in _of_object(_Spec(spec, itertools.count()), spec, "", None, 1):
        known = fields.get((field.path, field.when))
        if known is None and len(fields) >= MAX_FIELDS:
            break
        fields[field.path, field.when] = field if known is None else _joined(known, field)
    return list(fields.values())


def plain_text(text: object) -> str:
    """A description without markup."""
    return " ".join(_TAG.sub("", text).split()) if isinstance(text, str) else ""


def discriminator(branches: list[Schema]) -> str | None:
    """The property whose constants tell alternatives apart, if each of them has one of its own."""
    shared = [name for name in _properties(branches[0]) if all(name in _properties(b) for b in branches)]
    for name in shared:
        constants = [constant(_properties(b)[name]) for b in branches]
        if None not in constants and len({str(c) for c in constants}) == len(branches):
            return name
    return None


def constant(schema: object) -> Any:  # noqa: ANN401 - JSON
    """The one value that a schema allows, or None."""
    if not isinstance(schema, dict):
        return None
    allowed = schema.get("enum")
    if "const" in schema:
        return schema["const"]
    return allowed[0] if isinstance(allowed, list) and len(allowed) == 1 else None


def _of_object(
    spec: _Spec, schema: Schema, prefix: str, when: str | None, level: int
) -> Iterator[ConfigField]:
    if level > MAX_LEVELS or next(spec.steps) > MAX_STEPS:
        return
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    for name, inner in sorted(_properties(schema).items(), key=_order):
        found = _resolved(spec, inner)
        if found is not None:
            yield from _field(spec, found, f"{prefix}{name}", name in needed, when, level)
    branches = _branches(spec, schema)
    told_by = discriminator(branches) if branches else None
    for branch in branches:
        condition = when
        if told_by is not None:
            value = msgspec.json.encode(constant(_properties(branch)[told_by])).decode()
            condition = f"{prefix}{told_by} = {value}"
        for field in _of_object(spec, branch, prefix, condition, level + 1):
            shared = told_by is not None and field.path == f"{prefix}{told_by}"
            yield msgspec.structs.replace(field, when=when, required=True) if shared else field


def _field(
    spec: _Spec, schema: Schema, path: str, required: bool, when: str | None, level: int
) -> Iterator[ConfigField]:
    name = path.rpartition(".")[2].removesuffix("[]")
    kind, only, allowed = _type(spec, schema), constant(schema), schema.get("enum")
    plain = kind.startswith(("string", "integer", "number"))
    yield ConfigField(
        path=path,
        title=schema["title"] if isinstance(schema.get("title"), str) else name,
        type=kind,
        required=required,
        secret=schema.get("airbyte_secret") is True or (plain and only is None and secret_name(name)),
        description=plain_text(schema.get("description")),
        default=schema.get("default"),
        enum=[only] if only is not None else allowed if isinstance(allowed, list) else None,
        when=when,
    )
    if "object" in kind:
        yield from _of_object(spec, schema, f"{path}.", when, level + 1)
    items = _resolved(spec, schema.get("items"))
    if "array" in kind and items is not None:
        yield from _of_object(spec, items, f"{path}[].", when, level + 1)


def _joined(known: ConfigField, other: ConfigField) -> ConfigField:
    """A field that several alternatives have: all of its values."""
    values = [*(known.enum or ()), *(v for v in other.enum or () if v not in (known.enum or ()))]
    return msgspec.structs.replace(known, enum=values or None)


def _type(spec: _Spec, schema: Schema) -> str:
    declared = schema.get("type")
    kinds = [k for k in (declared if isinstance(declared, list) else [declared]) if isinstance(k, str)]
    if not kinds and _properties(schema):
        kinds = ["object"]
    if not kinds:
        declared = [b.get("type") for b in _branches(spec, schema)]
        kinds = list(dict.fromkeys(k for k in declared if isinstance(k, str)))
    return " or ".join(k for k in kinds if k != "null") or "string"


def _branches(spec: _Spec, schema: Schema) -> list[Schema]:
    for keyword in ("oneOf", "anyOf"):
        branches = schema.get(keyword)
        if isinstance(branches, list):
            return [found for b in branches if (found := _resolved(spec, b)) is not None]
    return []


def _resolved(spec: _Spec, schema: object) -> Schema | None:
    for _ in range(MAX_LEVELS):
        if not isinstance(schema, dict) or "$ref" not in schema:
            break
        schema = resolve_reference(spec.root, schema["$ref"])
    return schema if isinstance(schema, dict) and "$ref" not in schema else None


def _properties(schema: object) -> Schema:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else {}


def _order(item: tuple[str, Any]) -> float:
    order = item[1].get("order") if isinstance(item[1], dict) else None
    return float(order) if isinstance(order, int | float) else float("inf")
