"""What is wrong with a configuration, in words for people who know JSON and no schema.

Of values that were sent only their kind is told (text, number, ...), and of names only those of fields.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jsonschema import ValidationError

from airberg.errors import Problem
from airberg.quoted import quoted
from airberg.sources.config_fields import constant, discriminator, plain_text
from airberg.sources.secret_fields import Place, Schema

ROOT = "/source_config"
_MAX_GUIDANCE = 300
_MAX_SHOWN = 20
_ALMOST = 0.8
"""Names at least so alike are one and its misspelling (`difflib`: 1 is the same name)."""
_LABELS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_HOW_TO_WRITE = {
    "string": 'Put it in double quotes: "...".',
    "integer": "Write digits without quotes and without a decimal point: 10.",
    "number": "Write it without quotes: 1.5.",
    "boolean": "Write true or false, without quotes.",
    "array": "Put it in square brackets, also a single one: [...].",
    "object": 'Put it in braces, with names: {"name": ...}.',
    "null": "Write null, or leave it out.",
}


# ---- faults that the schema finds --------------------------------------------------------------------------


def spec_problems(error: ValidationError) -> Iterator[Problem]:
    """One fault that the schema found; several when it lies in one of some alternatives."""
    if error.validator in ("oneOf", "anyOf"):
        told = _choice_problem(error)
        if told is not None:
            yield told
            return
        branch = _intended_branch(error)
        if branch is not None:
            for inner in branch:
                yield from spec_problems(inner)
            return
    yield _problem(error, list(error.absolute_path), _sentence(error))


def _problem(error: ValidationError, path: Sequence[object], sentence: str, guidance: str = "") -> Problem:
    return Problem(_pointer(path), _code(error), f"{_name(path)} {sentence}.", guidance or _guidance(error))


def _pointer(path: Sequence[object]) -> str:
    return ROOT + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _name(path: Sequence[object]) -> str:
    """`credentials.token`, `streams[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in path)
    return f"`{text.removeprefix('.')}`" if path else "The source configuration"


def _shown(name: object) -> str:
    """A field's name, also when it is long or has line ends in it."""
    text = str(name)
    return (text if text.isprintable() else quoted(text))[:100]


def _code(error: ValidationError) -> str:
    codes = {"required": "required", "type": "type", "oneOf": "no-alternative", "anyOf": "no-alternative"}
    return codes.get(str(error.validator), "not-allowed")


# ---- alternatives ------------------------------------------------------------------------------------------


def _choice_problem(error: ValidationError) -> Problem | None:
    """The property that says which alternative is meant is missing, or says what none of them is called."""
    alternatives: Any = error.validator_value
    branches = [branch for branch in alternatives if isinstance(branch, dict)]
    told_by = discriminator(branches) if len(branches) > 1 else None
    if told_by is None or not isinstance(error.instance, dict):
        return None
    titles = [(constant(b["properties"][told_by]), b.get("title")) for b in branches]
    path = [*error.absolute_path, told_by]
    choices = ", ".join(
        _value(value) + (f" ({title})" if isinstance(title, str) and title != value else "")
        for value, title in titles
    )
    if told_by not in error.instance:
        sentence = "is missing: it says which of the alternatives is meant"
        guidance = f"Set it to one of {choices}."
        return Problem(_pointer(path), "required", f"{_name(path)} {sentence}.", guidance)
    values = [value for value, _ in titles]
    if error.instance[told_by] in values:
        return None
    near = _nearest(error.instance[told_by], values)
    guidance = f"Did you mean {near}?" if near else "It says which of the alternatives is meant."
    return Problem(_pointer(path), "no-alternative", f"{_name(path)} must be one of {choices}.", guidance)


def _intended_branch(error: ValidationError) -> list[ValidationError] | None:
    """The faults of the alternative that was meant.

    That is the only one whose constants all fit; else the one that has most of the given properties.
    """
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    fitting = {
        number: errors
        for number, errors in branches.items()
        if not any(e.validator in ("const", "enum") and len(e.relative_path) == 1 for e in errors)
        and not any(e.validator == "type" and not e.relative_path for e in errors)
    }
    if len(fitting) <= 1:
        return next(iter(fitting.values()), None)
    given = set(error.instance) if isinstance(error.instance, dict) else set()
    alternatives: Any = error.validator_value
    shared = {n: len(given & set(_properties(alternatives[n]))) for n in fitting}
    best = [number for number, count in shared.items() if count and count == max(shared.values())]
    return fitting[best[0]] if len(best) == 1 else None


def _properties(schema: object) -> Schema:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else {}


# ---- sentences ---------------------------------------------------------------------------------------------


def _sentence(error: ValidationError) -> str:
    limit: Any = error.validator_value
    match error.validator:
        case "required":
            return "is missing"
        case "type":
            wanted = " or ".join(_LABELS.get(kind, kind) for kind in _kinds(limit))
            return f"must be {wanted}, and is {_kind_of(error.instance)}"
        case "enum":
            shown = ", ".join(_value(value) for value in limit[:_MAX_SHOWN])
            return f"must be one of {shown}" + (" …" if len(limit) > _MAX_SHOWN else "")
        case "const":
            return f"must be {_value(limit)}"
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
            return "fits none of the alternatives" + _needs(limit)
        case other:
            return f"does not satisfy `{other}` of the connector's specification"


def _needs(branches: Any) -> str:  # noqa: ANN401 - JSON
    """What each alternative is called and needs."""
    words = []
    for branch in branches if isinstance(branches, list) else ():
        if not isinstance(branch, dict):
            continue
        required = branch.get("required")
        names = ", ".join(f"`{_shown(n)}`" for n in required) if isinstance(required, list) else ""
        title = branch.get("title")
        words += [" with ".join(part for part in (title, names) if isinstance(part, str) and part)]
    shown = [word for word in words if word]
    return f": {'; '.join(shown)}" if shown else ""


def _kinds(declared: object) -> list[str]:
    return [str(kind) for kind in (declared if isinstance(declared, list) else [declared])]


def _kind_of(value: object) -> str:
    """What was sent, in the words of JSON; never the value itself."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string"
        case int() | float():
            return "a number" if isinstance(value, int) else "a number with a decimal point"
        case list():
            return "a list"
    return "an object"


def _value(value: object) -> str:
    """A value of the specification, as one writes it."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
    return str(value)


def _guidance(error: ValidationError) -> str:
    """What to do: how such a value is written, or what the connector's specification says about it."""
    schema: object = error.schema
    limit: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = [k for k in _kinds(limit) if k != "null"]
            return _HOW_TO_WRITE.get(kinds[0] if kinds else "null", "Look it up in the specification.")
        case "enum":
            near = _nearest(error.instance, limit)
            return f"Did you mean {near}?" if near else "Choose one of them, in this spelling."
        case "required":
            if stranger := _misspelt(error):
                return f"There is a `{_shown(stranger)}`, which the connector does not know: is it that?"
            schema = _properties(schema).get(str(error.absolute_path[-1]))
    described = plain_text(schema.get("description")) if isinstance(schema, dict) else ""
    example = _example(schema)
    if described and described[-1] not in ".!?":
        described += "."
    text = " ".join(part for part in (described, example) if part) or _fallback(str(error.validator))
    return text if len(text) <= _MAX_GUIDANCE else text[: _MAX_GUIDANCE - 1] + "…"


def _fallback(validator: str) -> str:
    return "Add it." if validator == "required" else "Correct it; the connector's `spec` has its rules."


def _example(schema: object) -> str:
    examples = schema.get("examples") if isinstance(schema, dict) else None
    first = examples[0] if isinstance(examples, list) and examples else None
    return f"For example {_value(first)}." if isinstance(first, str | int | float) else ""


def _nearest(value: object, allowed: Sequence[object]) -> str | None:
    """The allowed text that was meant. What is shown is from the specification, not what was sent."""
    texts = [option for option in allowed if isinstance(option, str)]
    if not isinstance(value, str) or len(value) > 100:
        return None
    folded = {text.casefold(): text for text in texts}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.6)
    return quoted(folded[near[0]]) if near else None


# ---- misspelt names ----------------------------------------------------------------------------------------


def misspelt_fields(spec: Schema, config: dict[str, Any], told: Collection[str]) -> Iterator[Problem]:
    """Fields that no branch of the specification knows, with almost the name of one that is not given.

    Args:
        spec: The specification.
        config: The configuration.
        told: Pointers of what is known to be wrong: a missing field's misspelling is told with it.
    """
    todo: list[tuple[Any, Place, tuple[object, ...]]] = [(config, Place(spec, (spec,)), ())]
    while todo:
        value, place, path = todo.pop(0)
        if isinstance(value, list):
            item = place.item()
            todo += [(inner, item, (*path, number)) for number, inner in enumerate(value)]
        if not isinstance(value, dict):
            continue
        known = {name for schema in place.schemas for name in _properties(schema)}
        for name, inner in value.items():
            if name in known or _is_map(place):
                todo.append((inner, place.property(name), (*path, name)))
                continue
            near = _almost(name, known - set(value))
            if near is not None and _pointer([*path, near]) not in told:
                meant = _name([*path, near])
                message = f"The connector knows no {_name([*path, name])}."
                yield Problem(_pointer([*path, name]), "unknown-field", message, f"Did you mean {meant}?")


def _is_map(place: Place) -> bool:
    """Any name may be there."""
    free = ("additionalProperties", "patternProperties")
    return any(isinstance(schema.get(keyword), dict) for schema in place.schemas for keyword in free)


def _almost(name: str, known: Collection[str]) -> str | None:
    plain = {_plain(other): other for other in known}
    near = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_ALMOST)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    """A name without what is often got wrong: case, and how words are joined."""
    return re.sub(r"[\s_.-]+", "", name[:100]).casefold()


def _misspelt(error: ValidationError) -> str | None:
    """A field that is there instead of the missing one."""
    if not isinstance(error.instance, dict):
        return None
    known = _properties(error.schema)
    strangers = {_plain(key): key for key in error.instance if isinstance(key, str) and key not in known}
    near = difflib.get_close_matches(_plain(str(error.absolute_path[-1])), strangers, n=1)
    return strangers[near[0]] if near else None
