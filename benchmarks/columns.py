"""What transformations of columns take: `results/columns.json`.

    python -m benchmarks.columns [--quick] [--only values,append]

`values` measures single columns of a million values on one core, see `benchmarks.values`. `append` loads the
recorded shape as `benchmarks.append` does, plain and with two encrypted columns in every stream, at random
and deterministic, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from airberg.columns.encryption import ENCRYPTION_PREFIX, decode_encryption
from airberg.keys.arrays import decrypt_array
from airberg.keys.open import open_keys
from airberg.lake.tables import find_table
from airberg.plan.model import EncryptionMode, Transformation
from benchmarks import values
from benchmarks.deployment import Deployment, RunFailed, SyncRun
from benchmarks.recording import SHAPES, WORK, Recording, recording_of
from benchmarks.report import Target, arguments, medians, ratio, say, write

ROWS = 1_000_000
QUICK_ROWS = 4_000
QUICK_BLOCK = 2_000
ROUNDS = 7
PARTS = ("values", "append")
TARGETS = {"encrypted_append_over_plain": Target(low=0.6)}
KEY = "bench-pii"
COLUMNS = {
    "users": ("email", "telephone"),
    "purchases": ("user_id", "created_at"),
    "products": ("make", "model"),
}
"""What is encrypted: two columns of every stream, so that every row has two; text, numbers and moments."""

METHOD = (
    "values: CPU nanoseconds a value, medians, one thread; read_ns is the reading of RECORD lines with one "
    "column, convert_ns what makes Arrow batches of it, one_by_one_ns the encryption alone by a call of "
    "cryptography for each value, by_value_ns the cast of the first 10,000 values, each by itself. "
    "append: as in append.json; seconds from the start of the connector process to the end of the run; "
    "cpu_s of the whole process tree."
)


CONTENDERS: dict[str, EncryptionMode | None] = {
    "plain": None,
    "encrypted": "random",
    "deterministic": "deterministic",
}


def transformations(mode: EncryptionMode | None) -> tuple[Transformation, ...]:
    """The transformations of a load; none for the plain one."""
    if mode is None:
        return ()
    return tuple(
        Transformation(
            column=column,
            transformation_type="encrypt",
            stream=stream,
            encryption_key_name=KEY,
            encryption_mode=mode,
        )
        for stream, columns in COLUMNS.items()
        for column in columns
    )


class AppendBench:
    """The same lines appended plain and encrypted."""

    def __init__(self, quick: bool) -> None:
        block = recording_of(SHAPES["recorded"], QUICK_BLOCK if quick else None)
        self._recording = block.times(QUICK_ROWS if quick else ROWS)
        self.runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        self.equal: dict[str, bool] = {}

    def round(self, number: int) -> None:
        """Measure all once, beginning with another one each time; compare what they wrote the first time."""
        names = list(CONTENDERS)
        turn = number % len(names)
        deployments = {name: self._measure(name) for name in (*names[turn:], *names[:turn])}
        if number == 0:
            for name in names[1:]:
                found = compared(deployments["plain"], deployments[name])
                self.equal |= {f"{name}: {column}": equal for column, equal in found.items()}
        for deployment in deployments.values():
            shutil.rmtree(deployment.settings.home, ignore_errors=True)

    def _measure(self, name: str) -> Deployment:
        deployment = Deployment(WORK / name)
        open_keys(deployment.settings).create(KEY)
        done = deployment.replay(self._recording, "bench", transformations(CONTENDERS[name]))
        self.runs[name].append(figures(done, self._recording))
        run = self.runs[name][-1]
        say(f"append, {name}: {run['seconds']} s, {run['rows_per_s']:,} rows/s, {run['cpu_s']} CPU s")
        return deployment

    def ratios(self) -> dict[str, float | None]:
        """Encrypted loads over the plain one: medians and fastest rounds by the clock, CPU time, bytes."""
        median = {name: medians(runs) for name, runs in self.runs.items()}
        best = {name: max(run["rows_per_s"] for run in runs) for name, runs in self.runs.items()}
        found: dict[str, float | None] = {}
        for name in list(CONTENDERS)[1:]:
            one, plain = median[name], median["plain"]
            found |= {
                f"{name}_append_over_plain": ratio(one["rows_per_s"], plain["rows_per_s"]),
                f"{name}_append_over_plain_best": ratio(best[name], best["plain"]),
                f"{name}_append_over_plain_cpu": ratio(one["rows_per_cpu_s"], plain["rows_per_cpu_s"]),
                f"{name}_append_bytes_over_plain": ratio(one["data_bytes"], plain["data_bytes"]),
            }
        return found

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        return {
            "rows": self._recording.total_rows,
            "encrypted_columns": COLUMNS,
            "equal": self.equal,
            **{name: {"median": medians(runs), "runs": runs} for name, runs in self.runs.items()},
        }


def figures(done: SyncRun, recording: Recording) -> dict[str, Any]:
    """What is written down of one load."""
    written = {s.stream: s.rows_written for s in done.run.report.streams}
    if written != recording.rows or any(s.values_nulled for s in done.run.report.streams):
        raise RunFailed(f"rows {written} instead of {recording.rows}, or values that became null")
    rows = recording.total_rows
    return {
        "seconds": round(done.engine_s, 3),
        "rows_per_s": round(rows / done.engine_s),
        "cpu_s": round(done.measured.cpu_s, 2),
        "rows_per_cpu_s": round(rows / done.measured.cpu_s),
        "peak_tree_mb": done.measured.peak_tree_mb,
        "data_bytes": sum(s.bytes_written for s in done.run.report.streams),
    }


def compared(plain: Deployment, encrypted: Deployment) -> dict[str, bool]:
    """Whether each encrypted column has, decrypted, the values of the plain one."""
    versions = open_keys(encrypted.settings).versions(KEY)
    equal = {}
    for stream, columns in COLUMNS.items():
        properties = table_of(encrypted, stream).properties
        for column in columns:
            aad = decode_encryption(column, properties[ENCRYPTION_PREFIX + column]).aad.encode()
            sealed = column_of(encrypted, stream, column)
            opened = [decrypt_array(versions, chunk, aad).cast(pa.string()) for chunk in sealed.chunks]
            expected = checksum(column_of(plain, stream, column))
            equal[f"{stream}.{column}"] = checksum(pa.chunked_array(opened, pa.string())) == expected
    return equal


def table_of(deployment: Deployment, stream: str) -> Table:
    """The table of a stream."""
    table = find_table(deployment.catalog, ("bench",), stream)
    assert table is not None
    return table


def column_of(deployment: Deployment, stream: str, column: str) -> pa.ChunkedArray:
    """A column of a table."""
    return table_of(deployment, stream).scan(selected_fields=(column,)).to_arrow().column(column)


def checksum(found: pa.ChunkedArray) -> tuple[int, int]:
    """How many values there are, and the sum of the hashes of their canonical texts."""
    column = pa.table({"v": found})
    text = "strftime(v, '%Y-%m-%dT%H:%M:%S.%fZ')" if pa.types.is_timestamp(found.type) else "v::VARCHAR"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("found", column)
        query = f"SELECT count({text}), sum(hash({text})) FROM found"
        count, total = connection.execute(query).fetchall()[0]
    return int(count), int(total or 0)


def measure_values(quick: bool) -> dict[str, dict[str, Any]]:
    """All single columns, by kind and transformation."""
    shown: dict[str, dict[str, Any]] = {}
    for case in values.cases():
        found = values.measure(case, QUICK_ROWS if quick else ROWS, 1 if quick else values.PASSES)
        shown.setdefault(case.kind.name, {})[case.name] = found
        say(
            f"{case.kind.name}, {case.name}: {found['convert_ns']:.0f} ns to convert and "
            f"{found['read_ns']:.0f} ns to read a value, equal: {found['equal']}"
        )
    return shown


def cast_ratios(shown: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """How much longer it takes to cast each value by itself; of the cast where it makes least."""
    gains = [
        figures["by_value_ns"] / figures["convert_ns"]
        for found in shown.values()
        for figures in found.values()
        if "by_value_ns" in figures
    ]
    return {"by_value_over_casts_least": ratio(min(gains), 1)}


def cipher_ratios(shown: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """How much longer encryption of single values takes than a whole column from JSON text to ciphertexts."""
    return {
        f"one_by_one_over_airberg_{kind}_{name}": ratio(figures["one_by_one_ns"], figures["convert_ns"])
        for kind, found in shown.items()
        for name, figures in found.items()
        if "one_by_one_ns" in figures
    }


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    parts = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"unknown parts: {', '.join(sorted(unknown))}")
    shown: dict[str, Any] = {"method": METHOD}
    ratios: dict[str, float | None] = {}
    wrong: list[str] = []
    if "values" in parts:
        shown["values"] = measure_values(options.quick)
        ratios |= cipher_ratios(shown["values"]) | cast_ratios(shown["values"])
        wrong += [
            f"{k}: {n}" for k, found in shown["values"].items() for n, f in found.items() if not f["equal"]
        ]
    if "append" in parts:
        bench = AppendBench(options.quick)
        try:
            for number in range(1 if options.quick else ROUNDS):
                bench.round(number)
        finally:
            shutil.rmtree(WORK, ignore_errors=True)
        ratios |= bench.ratios()
        shown["append"] = bench.as_json()
        wrong += [name for name, equal in bench.equal.items() if not equal]
    shown |= {
        "parity": {"equal": not wrong, "different": wrong},
        "seconds": round(time.monotonic() - begun, 1),
    }
    write("columns", options, ratios=ratios, targets=TARGETS, found_versions={}, figures=shown)
    for name in wrong:
        say(f"NOT EQUAL: {name}")
    return 1 if wrong else 0


def main() -> int:
    """Read the arguments and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}, with commas between")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
