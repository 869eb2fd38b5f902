"""Engines that decrypt our columns by themselves: ClickHouse, DuckDB and Tink, in a process of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import pyarrow as pa
from pyiceberg.table import Table

from airberg.columns.arrow import python_values
from support.child import Child, running_child

ROOT = Path(__file__).resolve().parents[2]
MADE = Path(".build/engines/.made")
PYTHON = ROOT / MADE.parent / "bin" / "python"
"""The Python that the engines are installed for; `running_engines` makes it."""


class Engines:
    """What runs in the other process; rows come as columns of values."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def clickhouse(self, statement: str) -> dict[str, list[Any]]:
        """What a statement gives; texts are texts, in one session.

        Raises:
            RuntimeError: ClickHouse refuses it; with its message.
        """
        return _columns(self._child.ask(("clickhouse", statement)))

    def duckdb(self, statements: list[str], module: str) -> dict[str, list[Any]]:
        """What the query of an exported module gives, on a new connection after some statements.

        Raises:
            RuntimeError: DuckDB, or the module's function, refuses it.
        """
        return _columns(self._child.ask(("duckdb", statements, module)))

    def tink(self, keyset: str, values: list[tuple[bytes, bytes]]) -> list[bytes]:
        """The plaintexts of values, each with its associated data.

        Raises:
            RuntimeError: Tink refuses one.
        """
        return cast("list[bytes]", self._child.ask(("tink", keyset, values)))


def _columns(stream: bytes) -> dict[str, list[Any]]:
    if not stream:
        return {}
    found = pa.ipc.open_stream(stream).read_all()
    return {name: _values(found[name].combine_chunks()) for name in found.schema.names}


def _values(column: pa.Array) -> list[Any]:
    try:
        return python_values(column)
    except UnicodeDecodeError:  # ClickHouse tells texts from bytes as little as its String does
        return python_values(column.cast(pa.binary()))


@contextmanager
def running_engines(folder: Path) -> Iterator[Engines]:
    """The engines; they see tables below `folder` (ClickHouse reads no other files).

    Their environment is made when it is not there: `make test` has made it.
    """
    subprocess.run(["make", "-s", str(MADE)], cwd=ROOT, check=True)
    child = Path(__file__).with_name("engines_child.py")
    with running_child([PYTHON, child], folder, folder / "engines.log", {}) as started:
        yield Engines(started)


def location(table: Table) -> str:
    """The folder of a table."""
    return unquote(table.location().removeprefix("file://"))


def newest_metadata(table: Table) -> str:
    """The metadata file of a table."""
    return unquote(table.metadata_location.removeprefix("file://"))
