"""Single values through the converter of a column, for the tests of reading and casting."""

from __future__ import annotations

import datetime as dt
from typing import Any, overload

import msgspec

from airberg.columns.convert import Change, converter
from airberg.columns.far_dates import FarDate
from airberg.columns.targets import parse_target_type
from airberg.columns.types import DATE, LONG, STRING, ColumnType, Field, List, Struct, stored_type
from airberg.keys.cipher import ColumnCipher
from airberg.keys.hashing import ColumnHash
from airberg.keys.port import DataKey
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule
from airberg.plan.protection import protected_type

KEY = DataKey("k", 1, 7, bytes(range(32)))
CAST, SIZE, SERIAL = (
    "DESTINATION_TYPECAST_ERROR",
    "DESTINATION_FIELD_SIZE_LIMITATION",
    "DESTINATION_SERIALIZATION_ERROR",
)
PERSON = Struct((Field("id", LONG), Field("tags", List(STRING)), Field("born", DATE)))
MOMENT = "2026-01-02T03:04:05.5+05:00"


@overload
def cipher_for(rule: EncryptRule, /) -> ColumnCipher: ...
@overload
def cipher_for(rule: HashRule, /) -> ColumnHash: ...
def cipher_for(rule: EncryptRule | HashRule, /) -> ColumnCipher | ColumnHash:
    """The cipher or the hash of any rule, with a fixed key."""
    if isinstance(rule, HashRule):
        return ColumnHash(KEY)
    return ColumnCipher(KEY, rule.aad.encode(), rule.mode)


def plan(source: ColumnType, cast: str | None = None, protect: str | None = None) -> ColumnPlan:
    """The plan of a column `c` from the property `p`, as the planner would make it.

    Args:
        source: Its declared type.
        cast: Target of its cast.
        protect: Mode of its encryption, `hash` or `mask`.
    """
    target = parse_target_type(cast) if cast else None
    made = ColumnPlan(
        source="p",
        name="c",
        source_type=source,
        type=stored_type(target) if target else source,
        cast_to=target,
        encrypt=EncryptRule(key_name="k", mode=protect, aad="a.b.c")  # type: ignore[arg-type]  # text
        if protect in ("random", "deterministic")
        else None,
        hash=HashRule(key_name="k") if protect == "hash" else None,
        mask=MaskRule() if protect == "mask" else None,
    )
    return msgspec.structs.replace(made, type=protected_type(made.protection) or made.type)


def convert(column: ColumnPlan, value: Any) -> tuple[Any, list[Change]]:
    """One value through a fresh converter."""
    changes: list[Change] = []
    return converter(column, cipher_for)(value, changes), changes


def change(reason: str, field: str = "c") -> Change:
    """The change of a value that was nulled."""
    return {"field": field, "change": "NULLED", "reason": reason}


def utc(*parts: int) -> dt.datetime:
    """A moment in UTC."""
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc]  # year, month, day at least


def day(year: int, month: int, date: int) -> FarDate:
    """A day of any year, by the calendar's own rule: every 400 years are 146,097 days."""
    in_cycle = dt.date(year % 400 + 400, month, date)
    return FarDate((in_cycle - dt.date(1970, 1, 1)).days + (year // 400 - 1) * 146_097)


def far(kind: type[Any], year: int, month: int, date: int, *clock: int) -> Any:
    """A moment of any year."""
    passed = dt.datetime(1, 1, 1, *clock) - dt.datetime(1, 1, 1)
    return kind((day(year, month, date) * 86_400_000_000) + passed // dt.timedelta(microseconds=1))
