"""The reference implementation reads our tables, with all its checks, and writes to them by turns with us."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pyiceberg.table import Table

from airberg.plan.model import DeleteFormat
from support.key_values import KINDS
from support.lake_tables import NAMESPACE
from support.model_plans import (
    AddColumn,
    Append,
    Compact,
    Expire,
    Merge,
    NewRun,
    Orphans,
    Plan,
    Promote,
    RewriteManifests,
    Sent,
    Shape,
    plans,
)
from support.model_play import Play
from support.spark import Spark
from support.table_model import Row, as_shown

NUMBERS = itertools.count()
KEYS = ("long", "uuid", "timestamptz")
SHAPES = {
    "position": Shape(KEYS, version=2, delete_format="position"),
    "position, partitions": Shape(KEYS, version=2, delete_format="position", partitions="both", sort="key"),
    "vector": Shape(KEYS, version=3, delete_format="vector"),
    "vector, partitions": Shape(KEYS, nested=True, version=3, delete_format="vector", partitions="both"),
    "copy-on-write": Shape(KEYS, version=3, delete_format="copy-on-write", sort="payload"),
}
ALL = tuple(Sent(keys, at=1, region=sum(keys) % 3) for keys in itertools.product(range(4), repeat=3))
SCENARIO = (
    Merge(ALL),
    Merge(tuple(replace(sent, at=2, region=(sent.region + 1) % 3) for sent in ALL[::3])),
    Merge(tuple(replace(sent, at=3, gone=True) for sent in ALL[::7])),
    AddColumn(),
    AddColumn(nested=True),
    Promote(),
    Merge(tuple(replace(sent, at=4) for sent in ALL[::5]), lacks=True),
    Append(ALL[:5]),
    Merge(tuple(replace(sent, at=5) for sent in ALL[::4])),
    NewRun(),
    Compact(),
    RewriteManifests(),
    Merge(tuple(replace(sent, at=6) for sent in ALL[::6])),
)

Begin = Callable[[Shape], Play]


@pytest.fixture
def begin(spark: Spark, catalog: Any, spark_folder: Path) -> Begin:
    """Makes a table that is read by Spark too after every step."""

    def read(table: Table) -> list[Row]:
        return spark.sql(f"SELECT * FROM {in_spark(table)}")

    return lambda shape: Play(catalog, spark_folder, shape, f"t{next(NUMBERS)}", {"Spark": read})


def in_spark(table: Table) -> str:
    """The name of a table in Spark."""
    return f"lake.{NAMESPACE[0]}.{table.name()[-1]}"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_spark_reads_what_we_write(spark: Spark, begin: Begin, shape: Shape) -> None:
    """Rows after every step; then the metadata tables, and every snapshot as it was."""
    played = begin(shape)
    played.play(SCENARIO)
    table, name = played.table, in_spark(played.table)
    files = spark.sql(f"SELECT * FROM {name}.files")
    deletes = [file for file in files if file["content"] == 1]
    gone = sum(file["record_count"] for file in deletes)
    assert {file["content"] for file in files} <= {0, 1}
    assert {file["file_format"] for file in deletes} <= {"PUFFIN" if shape.version == 3 else "PARQUET"}
    assert bool(deletes) == (shape.delete_format != "copy-on-write")
    live = sum(file["record_count"] for file in files) - 2 * gone
    assert live == len(played.model.rows())
    positions = spark.sql(f"SELECT file_path, pos FROM {name}.position_deletes")
    assert len({(row["file_path"], row["pos"]) for row in positions}) == len(positions) == gone
    for metadata in ("entries", "all_entries", "manifests", "all_manifests", "all_files", "partitions"):
        assert spark.sql(f"SELECT * FROM {name}.{metadata}")
    assert len(spark.sql(f"SELECT * FROM {name}.delete_files")) == len(deletes)
    assert len(spark.sql(f"SELECT * FROM {name}.all_delete_files")) >= len(deletes)
    known = {snapshot.snapshot_id for snapshot in table.snapshots()}
    assert {row["snapshot_id"] for row in spark.sql(f"SELECT * FROM {name}.snapshots")} == known
    for snapshot_id, rows in played.shown.items():
        found = spark.sql(f"SELECT * FROM {name} VERSION AS OF {snapshot_id}")
        assert as_shown(found) == rows


@pytest.mark.parametrize("shape", ["vector", "vector, partitions", "copy-on-write"])
def test_row_ids(spark: Spark, begin: Begin, shape: str) -> None:
    """Each row of a table of version 3 has a row id of its own, and keeps it and its last change."""
    played = begin(SHAPES[shape])
    played.play(SCENARIO)
    found = row_ids(spark, played)
    ids = [id_ for id_, _, _ in found]
    assert len(set(ids)) == len(ids) == len(played.model.rows())
    assert all(0 <= id_ < (played.table.metadata.next_row_id or 0) for id_ in ids)
    assert all(0 < sequence <= played.table.metadata.last_sequence_number for _, sequence, _ in found)
    for upkeep in (Compact(), RewriteManifests(), Expire()):
        played.step(upkeep)
        assert row_ids(spark, played) == found


def row_ids(spark: Spark, played: Play) -> list[tuple[int, int, int]]:
    """Row id, sequence number of the last change, and payload of each row."""
    name = in_spark(played.table)
    rows = spark.sql(f"SELECT _row_id AS id, _last_updated_sequence_number AS at, payload FROM {name}")
    return sorted((row["id"], row["at"], row["payload"]) for row in rows)


def let_spark_delete_beside(spark: Spark, table: Table) -> None:
    """From now on Spark deletes by delete files, as we do."""
    kinds = ", ".join(f"'write.{kind}.mode'='merge-on-read'" for kind in ("delete", "update", "merge"))
    spark.sql(f"ALTER TABLE {in_spark(table)} SET TBLPROPERTIES ({kinds})")


def spark_changes(spark: Spark, played: Play) -> None:
    """Spark deletes, updates and merges; the model follows."""
    name = in_spark(played.table)
    spark.sql(f"DELETE FROM {name} WHERE payload % 5 = 0")
    for row in played.model.rows():
        if row["payload"] % 5 == 0:
            played.model.remove(row)
    played.compare()
    spark.sql(f"UPDATE {name} SET n = -1 WHERE payload % 4 = 0")
    for row in played.model.rows():
        if row["payload"] % 4 == 0:
            row["n"] = -1
    played.compare()
    spark.sql(
        f"MERGE INTO {name} t USING (SELECT payload FROM {name} WHERE payload % 3 = 0) s "
        "ON t.payload = s.payload WHEN MATCHED THEN UPDATE SET region = 'spark'"
    )
    for row in played.model.rows():
        if row["payload"] % 3 == 0:
            row["region"] = "spark"
    played.compare()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_spark_and_we_write_by_turns(spark: Spark, begin: Begin, shape: Shape) -> None:
    """Spark's own delete files and ours lie in one table; each goes on from what the other left."""
    played = begin(shape)
    for action in SCENARIO[:6]:
        played.step(action)
    let_spark_delete_beside(spark, played.table)
    spark_changes(spark, played)
    for action in SCENARIO[6:]:
        played.step(action)
    spark_changes(spark, played)
    played.play([NewRun(), *SCENARIO[8:], Expire(), Orphans(), Merge(ALL[::2])])


def test_a_table_that_spark_upgrades(spark: Spark, begin: Begin) -> None:
    """Position deletes, of ours and of Spark's, become deletion vectors where version 3 finds them."""
    played = begin(SHAPES["position, partitions"])
    for action in SCENARIO[:3]:
        played.step(action)
    let_spark_delete_beside(spark, played.table)
    spark_changes(spark, played)
    played.step(NewRun())
    spark.sql(f"ALTER TABLE {in_spark(played.table)} SET TBLPROPERTIES ('format-version'='3')")
    played.compare()
    for action in SCENARIO[3:]:
        played.step(action)
    spark_changes(spark, played)
    played.play(SCENARIO[6:])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_upkeep_by_spark(spark: Spark, begin: Begin, shape: Shape) -> None:
    """Spark's procedures find nothing wrong with a table of ours, and we go on after them."""
    played = begin(shape)
    for action in SCENARIO:
        played.step(action)
    name = in_spark(played.table).removeprefix("lake.")
    for call in (
        f"rewrite_position_delete_files(table => '{name}', options => map('rewrite-all', 'true'))",
        f"rewrite_data_files(table => '{name}', options => map('rewrite-all', 'true'))",
        f"rewrite_manifests('{name}')",
    ):
        spark.sql(f"CALL lake.system.{call}")
        played.compare()
        played.step(NewRun())
        played.step(Merge(tuple(replace(sent, at=7) for sent in ALL[::9])))
    spark.sql(f"CALL lake.system.expire_snapshots(table => '{name}', older_than => now(), retain_last => 1)")
    played.compare()
    assert len(played.table.snapshots()) == 1
    played.step(Merge(tuple(replace(sent, at=8) for sent in ALL[::8])))


def deterministic(examples: int) -> settings:
    """The same few plans each time: each step asks Spark."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("delete_format", ["position", "vector"])
def test_any_plan(begin: Begin, delete_format: DeleteFormat) -> None:
    """Plans as those of the model tests, read by the reference implementation too."""

    @deterministic(6)
    @given(plan=plans(delete_format, 8, KINDS.keys() - {"time"}))  # Spark reads no table with a time
    def play(plan: Plan) -> None:
        begin(plan.shape).play(plan.actions)

    play()
