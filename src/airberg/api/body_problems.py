"""What is wrong with a body, in terms of its fields. Values are never repeated: they may be secrets."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from airberg.api.body_limit import MAX_DEPTH
from airberg.errors import InvalidRequest, Problem

MAX_PROBLEMS = 100
WHOLE_BODY = ""
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

WRONG_TYPES = {
    "string_type": "a string",
    "string_sub_type": "a string",
    "string_unicode": "valid Unicode",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "an array",
    "tuple_type": "an array",
    "set_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "none_required": "null",
    "uuid_type": "a UUID",
    "uuid_parsing": "a UUID",
    "datetime_type": "a date and time",
    "datetime_parsing": "a date and time",
    "datetime_from_date_parsing": "a date and time",
    "date_type": "a date",
    "date_parsing": "a date",
}
HOW_TO_WRITE = {
    "a string": 'Put it in double quotes: "...".',
    "an integer": "Write digits, without quotes.",
    "a number": "Write digits, without quotes.",
    "true or false": "Write true or false, without quotes.",
    "an array": "Put it in square brackets, also a single one: [...].",
    "an object": 'Put it in braces: {"name": ...}.',
    "a UUID": "Write it like 8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d.",
    "a date": "Write it like 2026-01-31.",
    "a date and time": "Write it like 2026-01-31T12:00:00Z.",
}
"""For those who do not know JSON well."""
LIMITS = {
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
    "too_short": ("min_length", "at least {} items"),
    "too_long": ("max_length", "at most {} items"),
    "greater_than": ("gt", "a value greater than {}"),
    "greater_than_equal": ("ge", "a value of at least {}"),
    "less_than": ("lt", "a value less than {}"),
    "less_than_equal": ("le", "a value of at most {}"),
}


def pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def body_problems(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found in a body, one problem a field.

    Args:
        model: What the body was checked against; names the fields that there are.
    """
    found = error.errors(include_url=False, include_input=False)
    return [field_problem(e, e["loc"], model) for e in found[:MAX_PROBLEMS]]


def field_problem(
    error: Mapping[str, Any], location: Sequence[int | str], model: type[BaseModel] | None
) -> Problem:
    """One of pydantic's errors as a problem.

    The message is ours: pydantic's may repeat parts of the value. Errors that our own validators raise
    (`PydanticCustomError` with `message` and `guidance`) are passed on; they answer for what they say.
    """
    at, kind, context = pointer(location), str(error["type"]), error.get("ctx") or {}
    name = f"`{_shown(location[-1])}`" if location else "The body"
    if kind == "missing":
        return Problem(at, "required-field", f"{name} is missing.", "Add it.")
    if kind == "extra_forbidden":
        return _unknown_field(at, location, model)
    if kind in ("literal_error", "enum"):
        expected = str(context.get("expected", "one of a few values")).replace("'", '"')
        return Problem(at, "not-one-of", f"{name} must be {expected}.", "Send one of them, in this spelling.")
    if kind in WRONG_TYPES:
        wanted = WRONG_TYPES[kind]
        return Problem(at, "wrong-type", f"{name} must be {wanted}.", HOW_TO_WRITE.get(wanted, "Correct it."))
    if kind in LIMITS:
        key, text = LIMITS[kind]
        message = f"{name} must have {text.format(context.get(key, '?'))}."
        return Problem(at, "out-of-range", message, "Send one within the limit.")
    if isinstance(context.get("message"), str):
        return Problem(at, kind, context["message"], str(context.get("guidance", "")))
    return Problem(at, kind.replace("_", "-"), f"{name} is not valid.", "Correct it; /docs has its form.")


def _shown(part: int | str) -> str:
    return str(part) if len(str(part)) <= 100 else str(part)[:100] + "..."


def _unknown_field(at: str, location: Sequence[int | str], model: type[BaseModel] | None) -> Problem:
    known = known_names(model, location[:-1])
    asked = str(location[-1])
    nearest = get_close_matches(asked[:100].lower(), known, n=1, cutoff=0.6)
    if nearest:
        guidance = f"Did you mean `{nearest[0]}`?"
    else:
        guidance = f"Known fields are {', '.join(known)}." if known else "Leave it out."
    return Problem(at, "unknown-field", f"There is no field `{_shown(asked)}`.", guidance)


def known_names(model: type[BaseModel] | None, location: Sequence[int | str]) -> list[str]:
    """The names of the fields at a place of a body, sorted; empty where a body is free."""
    place: Any = model
    for part in location:
        fields = _fields(place)
        if isinstance(part, int):
            place = next(iter(get_args(_plain(place))), None)
        elif part in fields:
            place = fields[part]
        elif get_origin(_plain(place)) is dict:  # any name, with values of one kind
            place = get_args(_plain(place))[1]
        else:
            return []
    return sorted(_fields(place))


def _fields(annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - any annotation
    plain = _plain(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return {}
    return {f.alias or name: f.annotation for name, f in plain.model_fields.items()}


def _plain(annotation: Any) -> Any:  # noqa: ANN401 - any annotation
    """The annotation without `Annotated` and `| None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else None
    return annotation


# ---- JSON ------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """JSON that Python would take, and that we do not."""

    def __init__(self, code: str, message: str, guidance: str) -> None:
        super().__init__(message)
        self.code, self.message, self.guidance = code, message, guidance


def read_json_object(raw: bytes) -> dict[str, Any]:
    """A body as an object.

    Stricter than Python's parser, which takes UTF-16, NaN, 1e999 (as infinity) and an object that has a
    name twice (as its last value): none of that is interoperable JSON (RFC 8259).

    Raises:
        InvalidRequest: It is not one JSON object, is nested too deeply, or has a text that is no Unicode.
    """
    if not raw.strip():
        raise InvalidRequest.one(WHOLE_BODY, "empty-body", "The body is empty.", "Send a JSON object.")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except _Refused as e:
        raise InvalidRequest.one(WHOLE_BODY, e.code, e.message, e.guidance) from None
    except json.JSONDecodeError as e:
        raise _bad_json(f"The body is not JSON: line {e.lineno}, column {e.colno}.") from None
    except UnicodeDecodeError as e:
        raise _bad_json(f"The body is not UTF-8: byte {e.start}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer with thousands of digits
        raise _bad_json("The body has a number that is too long.") from None
    if not isinstance(value, dict):
        raise InvalidRequest.one(
            WHOLE_BODY, "not-an-object", "The body is not a JSON object.", "Send a JSON object: {...}."
        )
    _check_depth(value)
    if _ESCAPED_SURROGATE.search(raw):
        _check_texts(value)
    return value


def _bad_json(message: str) -> InvalidRequest:
    return InvalidRequest.one(WHOLE_BODY, "bad-json", message, "Send JSON in UTF-8 (RFC 8259).")


def _too_deep() -> InvalidRequest:
    return InvalidRequest.one(
        WHOLE_BODY, "too-deep", f"The body is nested more than {MAX_DEPTH} levels deep.", "Flatten it."
    )


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            values = item.values() if isinstance(item, dict) else item
            inner += [v for v in values if isinstance(v, dict | list)]
        if not inner:
            return
        level = inner
    raise _too_deep()


def _check_texts(value: dict[str, Any]) -> None:
    """Half of a surrogate pair is JSON, and no Unicode: neither UTF-8 nor a database could carry it on."""
    found = [
        field_problem({"type": "string_unicode"}, path, None)
        for path, text in _texts(value, ())
        if any("\ud800" <= character <= "\udfff" for character in text)
    ]
    if found:
        raise InvalidRequest(found[:MAX_PROBLEMS])


def _texts(value: Any, path: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], str]]:  # noqa: ANN401 - JSON
    """All texts with where they are, names of members too; the depth has been checked."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield (*path, name), name
            yield from _texts(member, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # add() is for its effect
        raise _Refused("duplicate-field", f"The field `{_shown(twice)}` is there twice.", "Send it once.")
    return value


def _constant(name: str) -> float:
    raise _Refused("bad-json", f"The body has the number {name}, which JSON does not know.", "Send null.")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("bad-json", "The body has a number that is too large.", "Send a smaller number.")
    return value
