"""The reference implementation as a third engine: Spark with the Iceberg runtime, on a test's catalog."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

ROOT = Path(__file__).resolve().parents[2]
ASIDE = ROOT / ".build" / "spark"


class NoSpark(Exception):
    """Spark is not to be had on this machine; the message says what is missing."""


class Spark:
    """A Spark session in a process of its own; its catalog `lake` is the one in `folder`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._answer()

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """The rows that a statement gives.

        Raises:
            RuntimeError: Spark refuses it; with its message.
        """
        sink = cast("IO[bytes]", self._process.stdin)
        sink.write(pickle.dumps(statement))
        sink.flush()
        answer = self._answer()
        if isinstance(answer, str):
            raise RuntimeError(f"{statement}\n{answer}")
        return cast("list[dict[str, Any]]", answer)

    def _answer(self) -> Any:
        try:
            return pickle.load(cast("IO[bytes]", self._process.stdout))  # noqa: S301 - from our own child
        except EOFError:
            raise RuntimeError(f"Spark ended: {self._log.read_text()[-4000:]}") from None


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
    log = folder / "spark.log"
    child = Path(__file__).with_name("spark_child.py")
    command = [ASIDE / "env" / "bin" / "python", child, jars, folder / "catalog.db", folder / "warehouse"]
    environment = {**os.environ, "TZ": "UTC", "SPARK_LOCAL_DIRS": str(folder / "spark")}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder
        )
    try:
        yield Spark(process, log)
    finally:
        cast("IO[bytes]", process.stdin).close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        cast("IO[bytes]", process.stdout).close()
