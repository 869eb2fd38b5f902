"""Merge: the newest version of each key, against a plain dictionary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
    Struct,
)
from airberg.lake.arrow import arrow_schema
from airberg.lake.tables import describe
from airberg.lake.writers import MergeKey
from airberg.plan.model import DeleteFormat
from support.duckdb_reader import duckdb_table
from support.lake_tables import (
    files_on_disk,
    files_referenced,
    note,
    sql_catalog,
    users,
    writer,
)

# ---- the model ---------------------------------------------------------------------------------------------

KEYS: dict[str, tuple[ColumnType, list[Any]]] = {
    "long": (LONG, [0, 1, -1, 2**63 - 1, -(2**63), None]),
    "int": (INT, [0, 1, -(2**31), None]),
    "double": (DOUBLE, [0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, None]),
    "float": (FLOAT, [0.0, 1.5, math.nan, None]),
    "boolean": (BOOLEAN, [True, False, None]),
    "string": (STRING, ["", "a", "a\0b", "é", "x" * 20, "x" * 20 + "y", "k" * 5000, None]),
    "binary": (BINARY, [b"", b"\0", b"\xff" * 20, b"\xff" * 20 + b"a", b"ab", None]),
    "decimal": (
        Decimal(38, 9),
        [Number("0"), Number("1.5"), Number("-99999999999999999999.000000001"), None],
    ),
    "small_decimal": (Decimal(9, 2), [Number("0.01"), Number("-7"), None]),
    "date": (DATE, [date(1, 1, 1), date(2024, 2, 29), date(1969, 12, 31), None]),
    "time": (TIME, [time(0), time(23, 59, 59, 999999), None]),
    "timestamp": (TIMESTAMP, [datetime(1900, 1, 1), datetime(2024, 1, 1, 1, 2, 3, 4), None]),
    "timestamptz": (TIMESTAMPTZ, [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), None]),
}


def normal(value: Any) -> Any:
    """The value as the key of a dictionary, where NaN equals NaN and -0.0 equals 0.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


@dataclass
class Model:
    """A table as a dictionary from key to (cursor, payload)."""

    has_cursor: bool
    table: dict[Any, tuple[Any, int]] = field(default_factory=dict)

    def merge(self, staged: list[tuple[Any, Any, bool, int]]) -> None:
        """Apply the rows of a checkpoint: (key, cursor, deleted, payload)."""
        winners: dict[Any, tuple[Any, Any, bool, int]] = {}
        for row in staged:
            best = winners.get(row[0])
            if best is None or not self._newer(best[1], row[1]):
                winners[row[0]] = row
        for key, cursor, deleted, payload in winners.values():
            if key in self.table and self._newer(self.table[key][0], cursor):
                continue
            if deleted:
                self.table.pop(key, None)
            else:
                self.table[key] = (cursor, payload)

    def _newer(self, a: Any, b: Any) -> bool:
        if not self.has_cursor or a is None:
            return False
        return b is None or a > b

    def payloads(self) -> list[int]:
        """What the table holds."""
        return sorted(payload for _, payload in self.table.values())


FORMATS: list[DeleteFormat] = ["position", "vector", "copy-on-write"]
CURSOR = st.one_of(st.none(), st.integers(0, 3))


@st.composite
def checkpoints(draw: st.DrawFn, values: list[Any]) -> list[tuple[list[tuple[Any, Any, Any, bool]], int]]:
    """Checkpoints: rows (key, second key, cursor, deleted) and how many of them stay behind the mark."""
    row = st.tuples(
        st.sampled_from(values),
        st.sampled_from(["p", "q", None]),
        CURSOR,
        st.integers(0, 4).map(lambda n: n == 0),
    )
    return draw(st.lists(st.tuples(st.lists(row, max_size=12), st.integers(0, 3)), min_size=1, max_size=4))


def run_merge(
    folder: Path,
    type_: ColumnType,
    plan: list[Any],
    *,
    composite: bool,
    cursor: bool,
    nested: bool,
    group: int,
    delete_format: DeleteFormat,
) -> None:
    """Merge the checkpoints into a table and compare it with the model after each."""
    catalog = sql_catalog(folder)
    key_field = Field("k.1", type_)
    wrapped = Field("box", Struct((key_field, Field("other", STRING)))) if nested else key_field
    fields = (wrapped, Field("part", STRING), Field("at", LONG), Field("gone", LONG), Field("payload", LONG))
    table = users(catalog, fields, version=3 if delete_format == "vector" else 2)
    schema = arrow_schema(table.schema())
    path = ("box", "k.1") if nested else ("k.1",)
    columns = (path, ("part",)) if composite else (path,)
    key = MergeKey(columns, ("at",) if cursor else None, ("gone",), delete_format)
    merge = writer(catalog, "merge", folder, key=key, row_group_rows=group, target_file_bytes=1)
    model = Model(cursor)
    waiting: list[tuple[Any, Any, bool, int]] = []
    payload = 0
    number = 0
    for arrived, behind in [*plan, ([], 0)]:
        number += 1
        records = []
        for value, part, at, gone in arrived:
            payload += 1
            inner = {"k.1": value, "other": None}
            records.append(
                {
                    **({"box": inner} if nested else {"k.1": value}),
                    "part": part,
                    "at": at,
                    "gone": 1 if gone else None,
                    "payload": payload,
                }
            )
            model_key = (normal(value), part) if composite else normal(value)
            waiting.append((model_key, at, gone, payload))
        merge.write(pa.RecordBatch.from_pylist(records, schema=schema))
        cut = max(0, len(waiting) - behind)
        merge.mark(payload - (len(waiting) - cut))
        merge.commit(note(number))
        model.merge(waiting[:cut])
        waiting = waiting[cut:]
        found = users(catalog).scan().to_arrow()
        assert sorted(found["payload"].to_pylist()) == model.payloads()
    assert merge.staged_rows == 0
    merge.discard()
    assert sorted(duckdb_table(users(catalog))["payload"].to_pylist()) == model.payloads()
    assert len(describe(users(catalog)).snapshots) <= number
    assert files_on_disk(folder / "warehouse") == files_referenced(users(catalog))
    catalog.close()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_merge_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any key type, composite and nested keys, cursors, deletes, marks inside files, many small files."""
    type_, values = KEYS[data.draw(st.sampled_from(sorted(KEYS)), label="key type")]
    run_merge(
        tmp_path_factory.mktemp("lake"),
        type_,
        data.draw(checkpoints(values), label="checkpoints"),
        composite=data.draw(st.booleans(), label="composite"),
        cursor=data.draw(st.booleans(), label="cursor"),
        nested=data.draw(st.booleans(), label="nested"),
        group=data.draw(st.integers(1, 8), label="rows per group"),
        delete_format=data.draw(st.sampled_from(FORMATS), label="delete format"),
    )


@pytest.mark.parametrize(
    ("delete_format", "group"), [("position", 1), ("vector", 100), ("copy-on-write", 100)]
)
@pytest.mark.parametrize("kind", sorted(KEYS))
def test_every_key_type_merges(tmp_path: Path, kind: str, delete_format: DeleteFormat, group: int) -> None:
    """Each value of each key type is found again in its file and replaced, null and NaN too."""
    type_, values = KEYS[kind]
    inserted = [(value, "p", 1, False) for value in values]
    replaced = [(value, "p", 2, False) for value in reversed(values)]
    deleted = [(value, "p", 3, True) for value in values[::2]]
    alone = [([(value, "p", 4, False)], 0) for value in values]
    plan = [(inserted, 0), (replaced, 0), (deleted, 0), *alone]
    run_merge(
        tmp_path,
        type_,
        plan,
        composite=False,
        cursor=True,
        nested=False,
        group=group,
        delete_format=delete_format,
    )
