"""The reference implementation as a third engine: Spark with the Iceberg runtime, on a test's catalog."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from support.child import Child, running_child

ROOT = Path(__file__).resolve().parents[2]
ASIDE = ROOT / ".build" / "spark"


class NoSpark(Exception):
    """Spark is not to be had on this machine; the message says what is missing."""


class Spark:
    """A Spark session in a process of its own; its catalog `lake` is the one in `folder`."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def sql(self, statement: str, **parameters: str) -> list[dict[str, Any]]:
        """The rows that a statement gives.

        Args:
            statement: The SQL.
            parameters: Values of `:name` in it.

        Raises:
            RuntimeError: Spark refuses it; with its message.
        """
        return cast("list[dict[str, Any]]", self._child.ask((statement, parameters)))


def make_environment() -> None:
    """Make Spark's environment, once.

    Raises:
        NoSpark: Something that it needs is missing here.
        RuntimeError: It failed otherwise.
    """
    done = subprocess.run([ROOT / "scripts" / "spark_env.sh"], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        raise NoSpark(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr)


@contextmanager
def running_spark(folder: Path) -> Iterator[Spark]:
    """Spark on the SQLite catalog in `folder`, as `support.lake_tables.sql_catalog` makes it."""
    jars = ",".join(map(str, sorted((ASIDE / "jars").glob("*.jar"))))
    child = Path(__file__).with_name("spark_child.py")
    command = [ASIDE / "env" / "bin" / "python", child, jars, folder / "catalog.db", folder / "warehouse"]
    environment = {"SPARK_LOCAL_DIRS": str(folder / "spark")}
    with running_child(command, folder, folder / "spark.log", environment) as started:
        yield Spark(started)
