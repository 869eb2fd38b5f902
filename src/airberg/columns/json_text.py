"""JSON in and out of columns, for the values that the fast decoder does not take."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import msgspec

JsonValue: TypeAlias = Any
"""What a JSON text can hold, decoded."""

CellValue: TypeAlias = Any
"""What a column can hold, as Arrow takes it from Python."""

_MAX_DIGITS = 4_000
"""Integers with more digits are read as decimals: Python refuses to, for the time that it takes."""

_encode = msgspec.json.Encoder(decimal_format="number").encode
_FAULTS = (ValueError, RecursionError, InvalidOperation)  # msgspec's errors are ValueErrors
_decode_exact = msgspec.json.Decoder(float_hook=Decimal).decode


def parse_exact(data: bytes | msgspec.Raw) -> JsonValue:
    """Parse JSON text (any buffer) with every number exact: integers of any size, fractions as `Decimal`.

    Half a surrogate pair in a string is kept as it is, although no text can be made of it. What is no number
    (`NaN`, `Infinity`) or none that can be kept (1e9999999999999999999) is a string.

    Raises:
        ValueError: It is not JSON, or nests too deeply.
    """
    try:
        return _decode_exact(data)
    except _FAULTS:
        pass
    try:
        return json.loads(bytes(data), parse_int=_parse_int, parse_float=_parse_float, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_utf8(data: bytes | msgspec.Raw) -> bytes:
    """The text with U+FFFD in place of bytes that are no UTF-8."""
    return bytes(data).decode("utf-8", "replace").encode()


def json_text(value: JsonValue) -> str:
    """The JSON text of a value; `Decimal` as a number, half a surrogate pair escaped.

    Raises:
        ValueError: It nests too deeply.
    """
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        pass
    except RecursionError:
        raise ValueError("nested too deeply") from None
    try:
        return _escaped(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _escaped(value: JsonValue) -> str:
    """The JSON text of a value, in ASCII."""
    match value:
        case str():
            return json.dumps(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{_escaped(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_escaped, value)) + "]"
    return _encode(value).decode()


def _parse_int(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MAX_DIGITS else Decimal(digits)


def _parse_float(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text  # an exponent beyond all bounds: no number of any column
