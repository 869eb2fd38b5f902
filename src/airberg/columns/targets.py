"""Targets of casts: the names that a request may use, and which casts can never work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    LONG,
    SHORT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Json,
    List,
    Struct,
)
from airberg.quoted import quoted

TARGET_TYPES: Final[Mapping[str, ColumnType]] = {
    "string": STRING,
    "int": INT,
    "integer": INT,
    "long": LONG,
    "bigint": LONG,
    "short": SHORT,
    "smallint": SHORT,
    "byte": BYTE,
    "tinyint": BYTE,
    "float": FLOAT,
    "double": DOUBLE,
    "decimal": Decimal(38, 9),
    "boolean": BOOLEAN,
    "date": DATE,
    "timestamp": TIMESTAMPTZ,
    "timestamp_ntz": TIMESTAMP,
    "time": TIME,
    "binary": BINARY,
    "json": JSON,
}
"""The contract's `target_type` names; `timestamp` has a zone, as in Spark."""

_DECIMAL = re.compile(r"decimal\s*\(\s*([0-9]{1,3})\s*(?:,\s*([0-9]{1,3})\s*)?\)")

_NUMBERS: Final = frozenset({BYTE, SHORT, INT, LONG, FLOAT, DOUBLE})
_TIMESTAMPS: Final = frozenset({TIMESTAMP, TIMESTAMPTZ})


def parse_target_type(text: str) -> ColumnType:
    """The type that a `target_type` names; case and surrounding space do not matter.

    `byte` and `short` keep their range as the target of the cast; `stored_type` gives the table's type.

    Raises:
        ValueError: There is no such type; the text names the nearest one.
    """
    name = text.strip().lower()
    if found := TARGET_TYPES.get(name):
        return found
    if match := _DECIMAL.fullmatch(name):
        precision, scale = int(match[1]), int(match[2] or 0)
        if not 1 <= precision <= 38 or scale > precision:
            raise ValueError(
                f"{quoted(name)} is not a possible decimal: the precision is 1 to 38, the scale at most that."
            )
        return Decimal(precision, scale)
    near = get_close_matches(re.sub(r"[^a-z_].*", "", name), TARGET_TYPES, n=1, cutoff=0.5)
    hint = (
        f"did you mean {quoted(near[0])}?"
        if near
        else "known: " + ", ".join(TARGET_TYPES) + ", decimal(p,s)."
    )
    raise ValueError(f"There is no type {quoted(text.strip()[:60])} to cast to; {hint}")


def cast_problem(source: ColumnType, target: ColumnType) -> str | None:
    """Why no value of `source` can ever be cast to `target`; None when some can.

    Follows Spark: numbers and booleans go over into each other, numbers are seconds since 1970 to a
    timestamp, text is read. Everything can become a string or JSON.
    """
    if target in (STRING, JSON) or isinstance(source, Json) or source in (STRING, target):
        return None
    if isinstance(source, Struct | List):
        kind = "an object" if isinstance(source, Struct) else "a list"
        return f"{kind} can only be cast to string or json."
    from_number = source in _NUMBERS or isinstance(source, Decimal)
    to_number = target in _NUMBERS or isinstance(target, Decimal)
    possible = (
        (from_number or source == BOOLEAN) and (to_number or target == BOOLEAN),
        from_number and target in _TIMESTAMPS,
        source in _TIMESTAMPS and (to_number or target in (DATE, TIME) or target in _TIMESTAMPS),
        source == DATE and target in _TIMESTAMPS,
    )
    return None if any(possible) else f"a {source} can never become a {target}."
