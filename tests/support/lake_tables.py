"""Tables, catalogs that fail on demand, and another engine's writes, for the tests of the lake."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from airberg.columns.types import LONG, STRING, TIMESTAMPTZ, Field
from airberg.lake.live import PATH_FIELD_ID
from airberg.lake.manifests import new_data_file
from airberg.lake.note import Note, read_note
from airberg.lake.snapshots import FileChanges, prepare
from airberg.lake.tables import ensure_table
from airberg.lake.writers import MergeKey, TableWriter, WriterSettings, open_writer

NAMESPACE = ("shop",)
JOB = "0198f0a0-0000-7000-8000-00000000000a"
FIELDS = (
    Field("id", LONG),
    Field("name", STRING),
    Field("version", LONG),
    Field("_ab_cdc_deleted_at", TIMESTAMPTZ),
)
KEY = MergeKey(columns=(("id",),), cursor=("version",), deleted_at=("_ab_cdc_deleted_at",))
ARROW = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("version", pa.int64()),
        ("_ab_cdc_deleted_at", pa.timestamp("us", "UTC")),
    ]
)


def sql_catalog(folder: Path, kind: type[SqlCatalog] = SqlCatalog, **properties: str) -> Any:
    """A SQLite catalog with its warehouse in `folder`."""
    (folder / "warehouse").mkdir(parents=True, exist_ok=True)
    uri, warehouse = f"sqlite:///{folder / 'catalog.db'}", f"file://{folder / 'warehouse'}"
    return kind("lake", uri=uri, warehouse=warehouse, **properties)


def users(
    catalog: Catalog, fields: Sequence[Field] = FIELDS, name: str = "users", *, version: int = 2
) -> Table:
    """The table `users`, made if it is not there."""
    return ensure_table(catalog, NAMESPACE, name, fields, {"format-version": str(version)})


def rows(*rows: tuple[Any, ...]) -> pa.RecordBatch:
    """A batch of `(id, name[, version[, deleted at, in microseconds]])`."""
    columns = list(zip(*((*row, *[None] * (4 - len(row))) for row in rows), strict=True)) or [()] * 4
    return pa.RecordBatch.from_arrays(
        [pa.array(values, type_) for values, type_ in zip(columns, ARROW.types, strict=True)], schema=ARROW
    )


def names(table: Table) -> list[tuple[Any, Any]]:
    """`(id, name)` of all rows, sorted."""
    found = table.refresh().scan().to_arrow().to_pylist()
    return sorted(((row["id"], row["name"]) for row in found), key=repr)


def note(number: int, *, run: str = "run-1", attempt: int = 1, state: Any = None) -> Note:
    """A note of a run."""
    return Note(run_id=run, attempt=attempt, number=number, state=state)


def writer(
    catalog: Catalog,
    mode: Any,
    spill: Path,
    *,
    table: Table | None = None,
    key: MergeKey | None = KEY,
    guard: Callable[[], None] | None = None,
    job: str = JOB,
    **settings: int,
) -> TableWriter:
    """A writer that starts from the note that is in the table."""
    table = table or users(catalog)
    return open_writer(
        mode,
        catalog,
        table,
        job_id=job,
        started_from=read_note(table, job),
        settings=WriterSettings(spill_dir=spill, threads=1, **settings),
        guard=guard,
        key=key if mode == "merge" else None,
    )


# ---- failures ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that ends here: nothing may catch it and go on."""


class FaultyCatalog(SqlCatalog):
    """A catalog that does something of the test's choice at its next commits.

    `faults` holds one function per commit, which gets the commit to carry out, or None for a plain commit.
    """

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self.faults: list[Callable[[Callable[[], Any]], Any] | None] = []
        self.loads_fail = False
        self.commits = 0

    def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
        """Commit, or do what the test wants instead."""
        self.commits += 1
        fault = self.faults.pop(0) if self.faults else None

        def commit() -> Any:
            return super(FaultyCatalog, self).commit_table(table, requirements, updates)

        return commit() if fault is None else fault(commit)

    def load_table(self, identifier: Any) -> Table:
        """Load, unless the catalog is away."""
        if self.loads_fail:
            raise ConnectionError("the catalog is away")
        return super().load_table(identifier)


def fail_before(error: BaseException) -> Callable[[Callable[[], Any]], Any]:
    """The commit never reaches the catalog."""

    def fault(_commit: Callable[[], Any]) -> Any:
        raise error

    return fault


def fail_after(error: BaseException) -> Callable[[Callable[[], Any]], Any]:
    """The commit lands and its answer is lost."""

    def fault(commit: Callable[[], Any]) -> Any:
        commit()
        raise error

    return fault


def meanwhile(act: Callable[[], Any]) -> Callable[[Callable[[], Any]], Any]:
    """Somebody else acts right before the commit reaches the catalog."""

    def fault(commit: Callable[[], Any]) -> Any:
        act()
        return commit()

    return fault


class FailingFileIO(PyArrowFileIO):
    """Storage that fails at the n-th file opened for reading or writing."""

    left: int | None = None
    error: BaseException = OSError("no space left on device")

    @classmethod
    def fail_at(cls, n: int | None, error: BaseException) -> None:
        """Fail at the n-th open from now, None for never."""
        cls.left, cls.error = n, error

    @classmethod
    def _count(cls) -> None:
        if cls.left is not None:
            cls.left -= 1
            if cls.left < 0:
                cls.left = None
                raise cls.error

    def new_input(self, location: str) -> Any:
        """Open for reading."""
        self._count()
        return super().new_input(location)

    def new_output(self, location: str) -> Any:
        """Open for writing."""
        self._count()
        return super().new_output(location)


# ---- what another engine does ------------------------------------------------------------------------------


def delete_positions(
    table: Table,
    path: str,
    positions: Sequence[int],
    content: DataFileContent = DataFileContent.POSITION_DELETES,
    *,
    wide: bool = False,
    partition: Record | None = None,
) -> Table:
    """Delete rows of a data file as an engine with merge-on-read does: by a position-delete file.

    With another `content` the file only claims to be of that kind. A `wide` one does not say that it is for
    one data file. `partition` is that of the data file.
    """
    bounds = {PATH_FIELD_ID: path.encode()}
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
            pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
        ]
    )
    data = pa.table({"file_path": [path] * len(positions), "pos": list(positions)}, schema=schema)
    where = table.location_provider().new_data_location(f"{uuid.uuid4()}-deletes.parquet")
    output = table.io.new_output(where)
    with output.create() as sink:
        pq.write_table(data, sink)
    delete_file = new_data_file(
        0,
        content=content,
        file_path=where,
        file_format=FileFormat.PARQUET,
        partition=partition or Record(),
        record_count=len(positions),
        file_size_in_bytes=len(output),
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
        **({} if wide else {"lower_bounds": bounds, "upper_bounds": bounds}),
    )
    return prepare(table, FileChanges(deletes_added=(delete_file,)), {}, {}).send().refresh()


def files_on_disk(warehouse: Path) -> int:
    """Data and delete files that lie in a warehouse."""
    return sum(path.suffix in {".parquet", ".puffin"} for path in warehouse.rglob("*"))


def files_referenced(table: Table) -> int:
    """Data and delete files that any snapshot of a table has."""
    return len(
        {
            entry.data_file.file_path
            for snapshot in table.snapshots()
            for manifest in snapshot.manifests(table.io)
            for entry in manifest.fetch_manifest_entry(table.io)
        }
    )


def data_paths(table: Table) -> list[str]:
    """Paths of the data files of the current snapshot."""
    return [task.file.file_path for task in table.refresh().scan().plan_files()]
