"""Memory for the keys of a run's merges: one DuckDB, which spills to a folder that goes with it.

One for all tables of a run, so that a run with many merged streams keeps within one bound, and opens a
database once. Each key index has a schema of its own in it.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa

DEFAULT_MB = 128


class KeyMemory:
    """An in-memory DuckDB that is opened beside whatever its owner does first.

    Args:
        spill_dir: Folder in which a folder for temporary files is made, and removed by `close`.
        memory_mb: Memory before it spills.
        threads: Threads to use.
    """

    def __init__(self, spill_dir: Path, *, memory_mb: int = DEFAULT_MB, threads: int = 2) -> None:
        spill_dir.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="merge-", dir=spill_dir))
        self._numbers = itertools.count()
        opener = ThreadPoolExecutor(1, "open-key-memory")
        self._opening = opener.submit(_open, self._folder, memory_mb, threads)
        opener.shutdown(wait=False)

    def __enter__(self) -> KeyMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connection(self) -> KeyConnection:
        """A connection with a schema of its own."""
        return KeyConnection(self._opening.result().cursor(), f"index_{next(self._numbers)}")

    def close(self) -> None:
        """Free the memory and remove the temporary files. May be called twice."""
        self._opening.result().close()
        shutil.rmtree(self._folder, ignore_errors=True)


class KeyConnection:
    """A connection to a `KeyMemory`; what is made through it is in its own schema.

    Attributes:
        db: DuckDB's connection.
        schema: Name of the schema, which is there.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, schema: str) -> None:
        self.db = db
        self.schema = schema
        db.execute(f"CREATE SCHEMA {schema}; USE {schema}")

    def close(self) -> None:
        """Drop the schema with everything in it: only dropping a table gives its memory back."""
        self.db.execute(f"USE main; DROP SCHEMA {self.schema} CASCADE")
        self.db.close()


class Registered:
    """A name for Arrow data inside DuckDB, for the length of a block.

    Args:
        db: The connection.
        name: The name.
        data: What it is for.
    """

    def __init__(
        self, db: duckdb.DuckDBPyConnection, name: str, data: pa.Table | pa.RecordBatchReader
    ) -> None:
        self._db, self._name, self._data = db, name, data

    def __enter__(self) -> None:
        self._db.register(self._name, self._data)

    def __exit__(self, *_: object) -> None:
        self._db.unregister(self._name)


def _open(folder: Path, memory_mb: int, threads: int) -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(folder),
            "threads": threads,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    # The joins of an index are written with the small side on the right, which is where DuckDB builds its
    # hash table; it cannot know how long a stream is and might choose the table's side.
    opened.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    return opened
