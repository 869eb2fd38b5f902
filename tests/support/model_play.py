"""Plays a plan on a real table and on a dictionary, and compares the two after every step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal as Number
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import _read_deletes
from pyiceberg.table import FileScanTask, Table

from airberg.columns.types import DOUBLE, FLOAT, INT, LONG, STRING, Decimal, Field, Struct
from airberg.lake.arrow import arrow_schema
from airberg.lake.live import has_delete_files
from airberg.lake.note import read_note
from airberg.lake.read import row_count
from airberg.lake.schema import schema_changes
from airberg.lake.tables import ensure_table, evolve
from airberg.lake.upkeep.compact import compact, compaction_plan
from airberg.lake.upkeep.expire import expire
from airberg.lake.upkeep.manifests import rewrite_manifests
from airberg.lake.upkeep.neighbours import survey
from airberg.lake.upkeep.orphans import orphans
from airberg.lake.upkeep.policy import DAY_MS, Policy
from airberg.lake.writers import MergeKey, TableWriter, WriterSettings, open_writer
from airberg.plan.model import PartitionTerm, SortTerm
from support.duckdb_reader import duckdb_rows
from support.key_values import KINDS
from support.lake_tables import JOB, NAMESPACE, delete_positions, note
from support.model_plans import (
    Action,
    AddColumn,
    Append,
    Compact,
    Delete,
    Expire,
    Merge,
    NewRun,
    Orphans,
    Promote,
    RewriteManifests,
    Sent,
    Shape,
)
from support.partitions import by, sorted_by
from support.table_model import Row, TableModel, as_shown

OTHER_JOB = "0198f0a0-0000-7000-8000-00000000000b"
REGIONS = ("north", "south", None)
PROMOTED = {INT: LONG, FLOAT: DOUBLE, Decimal(9, 2): Decimal(12, 2)}


EAGER = Policy(min_input_files=2, delete_fraction=0.001, max_delete_files=0, min_manifests=2)


def key_paths(shape: Shape) -> tuple[tuple[str, ...], ...]:
    """Paths of the key columns."""
    return tuple(
        ("box", "k0") if shape.nested and number == 0 else (f"k{number}",)
        for number in range(len(shape.kinds))
    )


def first_fields(shape: Shape) -> tuple[Field, ...]:
    """Columns of a new table."""
    keys = [
        Field(path[-1], KINDS[kind].type) for path, kind in zip(key_paths(shape), shape.kinds, strict=True)
    ]
    inside, outside = (keys[:1], keys[1:]) if shape.nested else ([], keys)
    return (
        *outside,
        Field("box", Struct((*inside, Field("other", STRING)))),
        Field("at", LONG),
        Field("gone", LONG),
        Field("region", STRING),
        Field("payload", LONG),
        Field("n", INT),
        Field("f", FLOAT),
        Field("amount", Decimal(9, 2)),
    )


def partitions(shape: Shape) -> tuple[PartitionTerm, ...]:
    """How the table is partitioned."""
    terms = []
    if shape.partitions in ("key", "both") and KINDS[shape.kinds[0]].bucketed:
        terms.append(by("bucket", ".".join(key_paths(shape)[0]), 3))
    if shape.partitions in ("region", "both"):
        terms.append(by("identity", "region"))
    return tuple(terms)


def sorting(shape: Shape) -> tuple[SortTerm, ...]:
    """How its files are sorted."""
    if shape.sort == "key":
        return tuple(sorted_by(".".join(path)) for path in key_paths(shape))
    return (sorted_by("payload", descending=True),) if shape.sort == "payload" else ()


class Play:
    """One table, its model, and the run that writes to it.

    Attributes:
        model: What the table should be.
        shown: What each snapshot showed when it was the newest.

    Args:
        catalog: With a warehouse in `folder`.
        folder: For the table's files and temporary ones.
        shape: Of the table.
        name: Of the table.
        engines: What reads it beside pyiceberg and DuckDB.
    """

    def __init__(
        self,
        catalog: Any,
        folder: Path,
        shape: Shape,
        name: str = "played",
        engines: Mapping[str, Callable[[Table], list[Row]]] | None = None,
    ) -> None:
        self._catalog, self._folder, self._shape, self._name = catalog, folder, shape, name
        self._engines = {"pyiceberg": _rows_by_pyiceberg, "DuckDB": duckdb_rows, **(engines or {})}
        self._fields = first_fields(shape)
        self._numbers = itertools.count(1)
        self._payloads = itertools.count(1)
        self._writer: TableWriter | None = None
        self._waiting: list[Row] = []
        self._arrived = 0
        self.shown: dict[int, list[str]] = {}
        self._extra: list[str] = []
        self._left_over = False
        self.model = TableModel(
            key_paths(shape), "at" if shape.cursor else None, shape.hard, shape.skip_unchanged
        )
        ensure_table(
            catalog,
            NAMESPACE,
            name,
            self._fields,
            {"format-version": str(shape.version)},
            partition_by=partitions(shape),
            sort_by=sorting(shape),
        )

    @property
    def table(self) -> Table:
        """The table as it is now."""
        loaded: Table = self._catalog.load_table((*NAMESPACE, self._name))
        return loaded

    def play(self, actions: Sequence[Action]) -> None:
        """Do everything, compare after each step, and look at all snapshots in the end."""
        for action in actions:
            self.step(action)
        self._end_run()
        self._check_history()
        self._check_files()

    def step(self, action: Action) -> None:
        """Do one thing and compare."""
        match action:
            case Merge():
                self._merge(action)
            case Append():
                self._append(action)
            case Delete():
                self._delete(action)
            case NewRun():
                self._end_run()
            case AddColumn():
                self._add_column(action)
            case Promote():
                self._end_run()
                self._evolve(tuple(map(_wider, self._fields)))
            case Compact():
                self._compact(action)
            case Expire():
                self._expire(action)
            case RewriteManifests():
                self._rewrite_manifests()
            case Orphans():
                self._remove_orphans(action)
        self.compare()

    # ---- what is done ------------------------------------------------------------------------------------

    def _merge(self, action: Merge) -> None:
        rows = self._rows(action.rows, lacks=action.lacks)
        writer = self._open()
        writer.write(self._batch(rows, lacks=action.lacks))
        self._waiting += rows
        self._arrived += len(rows)
        cut = max(0, len(self._waiting) - action.behind)
        writer.mark(self._arrived - (len(self._waiting) - cut))
        before = {snapshot.snapshot_id for snapshot in self.table.snapshots()}
        done = writer.commit(note(next(self._numbers)))
        changed = self.model.merge(self._waiting[:cut])
        self._waiting = self._waiting[cut:]
        made = {snapshot.snapshot_id for snapshot in self.table.snapshots()} - before
        assert made == ({done.snapshot_id} if changed else set()), "one, or none if nothing changes"

    def _append(self, action: Append) -> None:
        rows = self._rows(action.rows)
        table = self.table
        if action.foreign and rows and self._foreign(table):
            table.append(pa.Table.from_batches([self._batch(rows)]))
        else:
            other = open_writer(
                "append", self._catalog, table, job_id=OTHER_JOB, started_from=read_note(table, OTHER_JOB)
            )
            other.write(self._batch(rows))
            other.finish(note(next(self._numbers)))
            other.discard()
        self.model.append(rows)

    def _delete(self, action: Delete) -> None:
        table = self.table
        tasks = list(table.scan().plan_files())
        if table.metadata.format_version != 2 or not tasks:
            return
        task = tasks[action.file % len(tasks)]
        positions = range(0, task.file.record_count, action.every)
        dead = _dead(table, task)
        rows = {row["payload"]: row for row in self.model.rows()}
        payloads = pq.read_table(_local(task.file.file_path), columns=["payload"], partitioning=None)
        for position, payload in enumerate(payloads["payload"].to_pylist()):
            if position in positions and position not in dead:
                self.model.remove(rows[payload])
        partition = task.file.partition
        delete_positions(table, task.file.file_path, positions, wide=action.wide, partition=partition)

    def _add_column(self, action: AddColumn) -> None:
        self._end_run()
        name = f"extra{len(self._extra)}"
        self._extra.append(name)
        if action.nested:
            box = next(field for field in self._fields if field.name == "box")
            assert isinstance(box.type, Struct)
            wider = Field("box", Struct((*box.type.fields, Field(name, STRING))))
            self._evolve(tuple(wider if field.name == "box" else field for field in self._fields))
            for row in self.model.rows():
                if row["box"] is not None:
                    row["box"][name] = None
        else:
            self._evolve((*self._fields, Field(name, STRING)))
            self.model.add_column(name)

    def _compact(self, action: Compact) -> None:
        table = self.table
        if self._foreign(table) and action.foreign and (rows := table.scan().to_arrow()).num_rows:
            table.overwrite(rows)
            return
        compact(self._catalog, table, EAGER if action.eager else Policy(), spill_dir=self._folder)
        if action.eager:
            table = self.table
            assert compaction_plan(table, EAGER).empty
            assert not has_delete_files(table)

    def _expire(self, action: Expire) -> None:
        table = self.table
        if len(table.snapshots()) < 2:
            return
        if action.foreign:
            current = table.metadata.current_snapshot_id
            old = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != current]
            table.maintenance.expire_snapshots().by_ids(old).commit()
            self._left_over = True
            return
        policy = Policy(expire_age_ms=0, expire_keep=action.keep)
        left = min(action.keep, len(table.snapshots()))
        expire(self._catalog, table, policy, now_ms=_now_ms() + DAY_MS)
        assert len(self.table.snapshots()) == left

    def _rewrite_manifests(self) -> None:
        rewrite_manifests(self._catalog, self.table, EAGER)

    def _remove_orphans(self, action: Orphans) -> None:
        """Files of a run that goes on are young, and stay whatever is removed."""
        now_ms = None
        if action.late:
            self._end_run()
            now_ms = _now_ms() + 10 * DAY_MS
        found = orphans(self._catalog, self.table, Policy(), survey(self._catalog), now_ms=now_ms)
        assert found.deleted == found.files
        assert action.late or not found.files
        if action.late:
            self._left_over = False

    def _foreign(self, table: Table) -> bool:
        """Whether pyiceberg itself can write to the table."""
        return table.metadata.format_version < 3 and table.spec().is_unpartitioned()

    # ---- the run -----------------------------------------------------------------------------------------

    def _open(self) -> TableWriter:
        if self._writer is None:
            table = self.table
            self._arrived = 0
            self._writer = open_writer(
                "merge",
                self._catalog,
                table,
                job_id=JOB,
                started_from=read_note(table, JOB),
                settings=WriterSettings(
                    spill_dir=self._folder,
                    threads=1,
                    row_group_rows=self._shape.group,
                    target_file_bytes=1,
                ),
                key=MergeKey(
                    key_paths(self._shape),
                    ("at",) if self._shape.cursor else None,
                    ("gone",) if self._shape.hard else None,
                    self._shape.delete_format,
                    self._shape.skip_unchanged,
                ),
            )
        return self._writer

    def _end_run(self) -> None:
        if self._writer is not None:
            self._writer.discard()
        self._writer, self._waiting = None, []

    def _evolve(self, fields: tuple[Field, ...]) -> None:
        table = self.table
        evolve(table, schema_changes(table.schema(), fields))
        self._fields = fields

    # ---- rows --------------------------------------------------------------------------------------------

    def _rows(self, sent: Sequence[Sent], *, lacks: bool = False) -> list[Row]:
        rows = [self._row(one) for one in sent]
        if lacks:
            rows = [{**row, **{name: None for name in self._extra if name in row}} for row in rows]
        return rows

    def _row(self, sent: Sent) -> Row:
        payload = next(self._payloads)
        keys = [
            _key_value(kind, number, composite=len(self._shape.kinds) > 1)
            for kind, number in zip(self._shape.kinds, sent.keys, strict=True)
        ]
        row: Row = {}
        for field in self._fields:
            if field.name == "box":
                row["box"] = self._box(field, keys[0], payload)
            elif field.name.startswith("k"):
                row[field.name] = keys[int(field.name[1:])]
            else:
                row[field.name] = _plain_value(field.name, sent, payload)
        present = self.model.table.get(self.model.key_of(row))
        if sent.again and present:
            box = present[0]["box"]
            return {**present[0], "box": box if box is None else dict(box)}
        return row

    def _box(self, field: Field, key: Any, payload: int) -> Row | None:
        assert isinstance(field.type, Struct)
        if key is None and self._shape.nested and payload % 2:
            return None
        return {
            member.name: key if member.name == "k0" else f"{member.name} {payload}"
            for member in field.type.fields
        }

    def _batch(self, rows: list[Row], *, lacks: bool = False) -> pa.RecordBatch:
        schema = arrow_schema(self.table.schema())
        if lacks:
            schema = pa.schema([column for column in schema if column.name not in self._extra])
        return pa.RecordBatch.from_pylist(rows, schema=schema)

    # ---- what must hold ----------------------------------------------------------------------------------

    def compare(self) -> None:
        """Every engine shows the rows of the model."""
        table = self.table
        expected = as_shown(self.model.rows())
        for engine, read in self._engines.items():
            assert as_shown(read(table)) == expected, engine
        assert row_count(table) == len(expected)
        if (snapshot := table.current_snapshot()) is not None:
            self.shown.setdefault(snapshot.snapshot_id, expected)

    def _check_history(self) -> None:
        """Every snapshot that is left still shows what it showed when it was the newest."""
        table = self.table
        for snapshot in table.snapshots():
            rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
            if snapshot.snapshot_id in self.shown:
                assert as_shown(rows) == self.shown[snapshot.snapshot_id]

    def _check_files(self) -> None:
        """No file is left that no snapshot has or had; none that a snapshot has is missing."""
        table = self.table
        has = {_local(path) for path in referenced(table)}
        data = Path(_local(table.location()), "data").rglob("*")
        there = {str(path) for path in data if path.is_file() and path.suffix != ".crc"}  # Hadoop's own
        assert has <= there
        assert self._left_over or there == has


def _rows_by_pyiceberg(table: Table) -> list[Row]:
    rows: list[Row] = table.scan().to_arrow().to_pylist()
    return rows


def referenced(table: Table) -> set[str]:
    """Paths of all data and delete files of all snapshots."""
    return {
        entry.data_file.file_path
        for snapshot in table.snapshots()
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }


def _dead(table: Table, task: FileScanTask) -> set[int]:
    """Positions of a file that delete files take out already, as pyiceberg reads them."""
    return {
        position
        for delete_file in task.delete_files
        for path, positions in _read_deletes(table.io, delete_file).items()
        if path == task.file.file_path
        for position in positions.to_pylist()
    }


def _now_ms() -> int:
    return int(time.time() * 1000)


def _local(location: str) -> str:
    return unquote(urlsplit(location).path)


def _key_value(kind: str, number: int, *, composite: bool) -> Any:
    values = KINDS[kind].values
    if composite:
        return (values[0], values[1], values[-1], None)[number]
    return (*values, None)[number % (len(values) + 1)]


def _plain_value(name: str, sent: Sent, payload: int) -> Any:
    match name:
        case "at":
            return sent.at
        case "gone":
            return payload if sent.gone else None
        case "region":
            return REGIONS[sent.region]
        case "payload":
            return payload
        case "n":
            return payload * 7
        case "f":
            return payload / 4
        case "amount":
            return Number(payload) / 100
    return f"{name} {payload}"


def _wider(field: Field) -> Field:
    type_ = field.type
    if isinstance(type_, Struct):
        return Field(field.name, Struct(tuple(map(_wider, type_.fields))))
    return Field(field.name, PROMOTED.get(type_, type_))
