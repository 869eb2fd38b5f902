"""Casts in Spark: its literals for the values of a source, and its results as values of ours."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from airberg.columns.far_dates import day_at, moment_in_utc, without_zone
from airberg.columns.types import ColumnType, Decimal, Json, List, Primitive, Struct
from airberg.errors import ValueRejected
from support.spark import Spark

REFUSED = "refused"
"""Spark has no such cast."""

BEYOND = "beyond our range"

_TYPES = {
    "byte": "tinyint",
    "short": "smallint",
    "long": "bigint",
    "decimal": "decimal(38,9)",
    "time": "time(6)",
}
_NUMBERS = ("byte", "short", "int", "long", "float", "double")


def no_ansi(spark: Spark) -> None:
    """The kind of casts that ours follow, and the preview of the type TIME."""
    spark.sql("SET spark.sql.ansi.enabled=false")
    spark.sql("SET spark.sql.timeType.enabled=true")


def literal(source: ColumnType, value: str) -> str:
    """The value (JSON text) of a column in Spark; of JSON columns, as what it is."""
    decoded = json.loads(value)
    text = _quoted(decoded if isinstance(decoded, str) else value)
    match source:
        case Json():
            return _as_what_it_is(decoded, value)
        case Struct() | List():
            return f"from_json({text}, '{ddl(source)}')"
        case Decimal():
            return f"cast({text} as {source})"
        case Primitive(name="string"):
            return text
        case Primitive(name="binary"):
            return f"unbase64({text})"
        case Primitive(name="boolean"):
            return value
        case Primitive(name=name) if name in _NUMBERS:
            return f"cast({text} as {spark_type(name)})"
        case Primitive(name="date"):  # a literal does not know BC
            return f"date'{decoded.replace('0044-03-15 BC', '-0043-03-15')}'"
        case Primitive(name="timestamp"):
            return f"timestamp_ntz{text}"
        case Primitive(name="timestamptz"):
            return f"timestamp{text}"
        case Primitive(name="time"):
            return f"time{text}"
    raise AssertionError(source)


def _as_what_it_is(decoded: Any, text: str) -> str:
    match decoded:
        case bool():
            return text
        case int():
            return f"cast('{text}' as bigint)"
        case float():
            return f"cast('{text}' as double)"
        case str():
            return _quoted(decoded)
    return f"parse_json({_quoted(text)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def ddl(type_: ColumnType) -> str:
    """The type in Spark's words."""
    match type_:
        case Struct(fields=fields):
            return "struct<" + ", ".join(f"{f.name}: {ddl(f.type)}" for f in fields) + ">"
        case List(element=element):
            return f"array<{ddl(element)}>"
    return spark_type(str(type_))


def spark_type(target: str) -> str:
    """Spark's name of a target."""
    return _TYPES.get(target, target)


def cast(value: str, target: str) -> str:
    """The SQL of a cast whose result `received` understands: no date or time that Python has not."""
    made = f"cast({value} as {spark_type(target)})"
    match target:
        case "date":
            return f"unix_date({made})"
        case "timestamp":
            return f"unix_micros({made})"
        case "timestamp_ntz":
            return f"unix_micros(cast({made} as timestamp))"
        case "time":
            return f"cast({made} as string)"
    return made


def received(target: str, found: Any) -> Any:
    """What Spark gave as a value of ours."""
    if found is None:
        return None
    try:
        match target:
            case "date":
                return day_at(found)
            case "timestamp":
                return moment_in_utc(found)
            case "timestamp_ntz":
                return without_zone(moment_in_utc(found))
            case "time":
                return dt.time.fromisoformat(found.partition(".")[0]).replace(microsecond=_micros(found))
    except ValueRejected:
        return BEYOND
    return found


def _micros(time: str) -> int:
    return int(time.partition(".")[2].ljust(6, "0"))


def results(spark: Spark, casts: Sequence[tuple[str, str]]) -> list[Any]:
    """The results of casts (a literal, a target): all at once, those that Spark refuses one by one."""
    columns = [f"{cast(value, target)} AS c{i}" for i, (value, target) in enumerate(casts)]
    try:
        (row,) = spark.sql(f"SELECT {', '.join(columns)}")
        return [received(target, row[f"c{i}"]) for i, (_, target) in enumerate(casts)]
    except RuntimeError as error:
        if "DATATYPE_MISMATCH" not in str(error):
            raise
        if len(casts) == 1:
            return [REFUSED]
    middle = len(casts) // 2
    return results(spark, casts[:middle]) + results(spark, casts[middle:])
