"""Single values through the converter of a column, for the tests of reading and casting."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airberg.columns.convert import Change, converter
from airberg.columns.far_dates import FarDate
from airberg.columns.targets import parse_target_type
from airberg.columns.types import BINARY, DATE, LONG, STRING, ColumnType, Field, List, Struct, stored_type
from airberg.keys.cipher import ColumnCipher
from airberg.keys.port import DataKey
from airberg.plan.model import ColumnPlan, EncryptRule

KEY = DataKey("k", 1, 7, bytes(range(32)))
CAST, SIZE, SERIAL = (
    "DESTINATION_TYPECAST_ERROR",
    "DESTINATION_FIELD_SIZE_LIMITATION",
    "DESTINATION_SERIALIZATION_ERROR",
)
PERSON = Struct((Field("id", LONG), Field("tags", List(STRING)), Field("born", DATE)))
MOMENT = "2026-01-02T03:04:05.5+05:00"


def cipher_for(rule: EncryptRule) -> ColumnCipher:
    """The cipher of any rule, with a fixed key."""
    return ColumnCipher(KEY, rule.aad.encode(), rule.mode)


def plan(source: ColumnType, cast: str | None = None, encrypt: str | None = None) -> ColumnPlan:
    """The plan of a column `c` from the property `p`, as the planner would make it."""
    target = parse_target_type(cast) if cast else None
    rule = EncryptRule(key_name="k", mode=encrypt, aad="a.b.c") if encrypt else None  # type: ignore[arg-type]  # text
    kind = stored_type(target) if target else source
    return ColumnPlan(
        source="p", name="c", source_type=source, type=BINARY if rule else kind, cast_to=target, encrypt=rule
    )


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
