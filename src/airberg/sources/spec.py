"""The specification of a connector: is a configuration valid, and which of its values are secrets.

A specification is a JSON schema (draft 7) with additions of Airbyte. No message that is made here holds a
value of the configuration: a wrong one may be a secret in the wrong place. What is a secret is decided in
`airberg.sources.secret_fields`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

from jsonschema import Draft7Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from airberg.errors import Problem
from airberg.sources.secret_fields import MAX_DEPTH, Schema, mask_config, secret_values

Errors: TypeAlias = Iterator[ValidationError]

ROOT = "/source_config"
_MAX_PROBLEMS = 50
_LABELS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def config_problems(spec: Schema, config: object) -> list[Problem]:
    """Compare a configuration with a connector's specification.

    Properties that the specification does not know are tolerated, as in Airbyte, even where it says
    `additionalProperties: false`: connectors ignore them. A specification that is no valid JSON schema is not
    enforced, the connector's own check decides then.

    Args:
        spec: The `connectionSpecification`.
        config: The configuration, of any form.

    Returns:
        What is wrong, one problem a place, with JSON pointers below `/source_config`; no value of `config`.
    """
    if not isinstance(config, dict):
        return [Problem(ROOT, "type", "The source configuration must be an object.")]
    if _depth(config) > MAX_DEPTH:
        return [Problem(ROOT, "nesting", "The source configuration is nested too deeply.")]
    try:
        Draft7Validator.check_schema(spec, format_checker=FormatChecker([]))
    except (SchemaError, RecursionError):
        return []
    problems: dict[str, Problem] = {}
    try:
        for error in _SpecValidator(spec, registry=Registry()).iter_errors(config):
            for problem in _problems(error):
                problems.setdefault(problem.pointer, problem)
    except (Unresolvable, RecursionError):
        # A reference that leads out of the document or in a circle: what was found so far still holds.
        pass
    return list(problems.values())[:_MAX_PROBLEMS]


def _depth(value: object) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo and deepest <= MAX_DEPTH:
        item, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict | list):
            children = item.values() if isinstance(item, dict) else item
            todo.extend((child, depth + 1) for child in children)
    return deepest


# ---- keywords of JSON schema that are read differently -----------------------------------------------------


def _additional_properties(validator: Validator, allowed: object, instance: object, schema: Schema) -> Errors:
    if isinstance(allowed, dict):
        yield from Draft7Validator.VALIDATORS["additionalProperties"](validator, allowed, instance, schema)


def _pattern(validator: Validator, pattern: str, instance: object, schema: Schema) -> Errors:
    try:
        re.compile(pattern)
    except re.error:  # a dialect that Python does not read: left to the connector
        return
    yield from Draft7Validator.VALIDATORS["pattern"](validator, pattern, instance, schema)


def _required(_validator: Validator, names: object, instance: object, schema: Schema) -> Errors:
    if isinstance(names, list) and isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield ValidationError("required", path=[name], instance=instance, schema=schema)


_extend = cast("Callable[..., type[Draft7Validator]]", extend)
_SpecValidator = _extend(
    Draft7Validator,
    {
        "additionalProperties": _additional_properties,
        "pattern": _pattern,
        "required": _required,
        # Without `additionalProperties: false` several branches may match: one is all that is asked for.
        "oneOf": Draft7Validator.VALIDATORS["anyOf"],
    },
)


# ---- from errors to problems -------------------------------------------------------------------------------


def _problems(error: ValidationError) -> Iterator[Problem]:
    if error.validator in ("oneOf", "anyOf"):
        branch = _intended_branch(error)
        if branch is not None:
            for inner in branch:
                yield from _problems(inner)
            return
    pointer = ROOT + "".join(f"/{_escape(part)}" for part in error.absolute_path)
    name = f"`{error.absolute_path[-1]}`" if error.absolute_path else "The source configuration"
    yield Problem(pointer, _code(error), f"{name} {_sentence(error)}.", _guidance(error))


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _intended_branch(error: ValidationError) -> list[ValidationError] | None:
    """The errors of the alternative that was meant: the only one whose constants all fit, if there is one."""
    branches: dict[object, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    fitting = [
        errors
        for errors in branches.values()
        if not any(e.validator in ("const", "enum") and len(e.relative_path) == 1 for e in errors)
        and not any(e.validator == "type" and not e.relative_path for e in errors)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _code(error: ValidationError) -> str:
    codes = {"required": "required", "type": "type", "oneOf": "no-alternative", "anyOf": "no-alternative"}
    return codes.get(str(error.validator), "not-allowed")


def _sentence(error: ValidationError) -> str:
    limit: Any = error.validator_value
    match error.validator:
        case "required":
            return "is missing" + _misspelt(error)
        case "type":
            kinds = limit if isinstance(limit, list) else [limit]
            return "must be " + " or ".join(_LABELS.get(str(kind), str(kind)) for kind in kinds)
        case "enum":
            shown = ", ".join(_quoted(value) for value in limit[:20])
            return f"must be one of {shown}" + (" …" if len(limit) > 20 else "")
        case "const":
            return f"must be {_quoted(limit)}"
        case "pattern":
            descriptor = error.schema.get("pattern_descriptor") if isinstance(error.schema, dict) else None
            return f"must look like {descriptor}" if descriptor else f"must match the pattern {limit}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            word = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "greater than"}
            return f"must be {word.get(error.validator, 'less than')} {limit}"
        case "minLength" | "minItems" | "minProperties":
            return f"is too short: {limit} is the least"
        case "maxLength" | "maxItems" | "maxProperties":
            return f"is too long: {limit} is the most"
        case "oneOf" | "anyOf":
            titles = [b["title"] for b in limit if isinstance(b, dict) and isinstance(b.get("title"), str)]
            return "fits none of the alternatives" + (f" {', '.join(titles)}" if titles else "")
        case other:
            return f"does not satisfy `{other}` of the connector's specification"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _misspelt(error: ValidationError) -> str:
    if not isinstance(error.instance, dict) or not isinstance(error.schema, dict):
        return ""
    known = error.schema.get("properties", {})
    strangers = [key for key in error.instance if isinstance(key, str) and key not in known]
    near = difflib.get_close_matches(str(error.absolute_path[-1]), strangers, n=1)
    return f" (there is a `{near[0]}`, which the connector does not know)" if near else ""


def _guidance(error: ValidationError) -> str:
    """The description of the property in the specification, as plain text, its first 300 characters."""
    schema: object = error.schema
    if error.validator == "required" and isinstance(schema, dict):
        schema = schema.get("properties", {}).get(error.absolute_path[-1])
    description = schema.get("description") if isinstance(schema, dict) else None
    if not isinstance(description, str):
        return ""
    plain = " ".join(re.sub(r"<[^<>]*>", "", description).split())
    return plain if len(plain) <= 300 else plain[:299] + "…"


__all__ = ["ROOT", "Schema", "config_problems", "mask_config", "secret_values"]
