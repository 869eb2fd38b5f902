"""The specification of a connector: is a configuration valid.

A specification is a JSON schema (draft 7) with additions of Airbyte. No message that is made here holds a
value of the configuration: a wrong one may be a secret in the wrong place. How faults are told is in
`airberg.sources.spec_problems`; what is a secret is decided in `airberg.sources.secret_fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

from jsonschema import Draft7Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from airberg.errors import Problem
from airberg.sources.secret_fields import MAX_DEPTH, Schema
from airberg.sources.spec_problems import ROOT, misspelt_fields, spec_problems

Errors: TypeAlias = Iterator[ValidationError]

_MAX_PROBLEMS = 50


def config_problems(spec: Schema, config: object) -> list[Problem]:
    """Compare a configuration with a connector's specification.

    Properties that the specification does not know are tolerated, as in Airbyte, even where it says
    `additionalProperties: false`: connectors ignore them. Unless one has almost the name of a property that
    is not given: then it is a misspelling, and ignoring it would do something else than what was meant. A
    specification that is no valid JSON schema is not enforced, the connector's own check decides then.

    Args:
        spec: The `connectionSpecification`.
        config: The configuration, of any form.

    Returns:
        What is wrong, one problem a place, with JSON pointers below `/source_config`; no value of `config`.
    """
    if not isinstance(config, dict):
        return [Problem(ROOT, "type", "The source configuration must be an object.", "Write `{...}`.")]
    if _depth(config) > MAX_DEPTH:
        return [Problem(ROOT, "nesting", "The source configuration is nested too deeply.", "Flatten it.")]
    try:
        Draft7Validator.check_schema(spec, format_checker=FormatChecker([]))
    except (SchemaError, RecursionError):
        return []
    problems: dict[str, Problem] = {}
    try:
        for error in _SpecValidator(spec, registry=Registry()).iter_errors(config):
            for problem in spec_problems(error):
                problems.setdefault(problem.pointer, problem)
        for problem in misspelt_fields(spec, config, told=problems):
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
