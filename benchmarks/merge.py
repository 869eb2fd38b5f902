"""What a merge costs, beside everything else that merges into Iceberg tables: `results/merge.json`.

    python -m benchmarks.merge [--quick] [--cases 25k_200k,100k_5m] [--only airberg_position]

The rows to merge are given in Arrow, and every contender's merge finds the same table. What must be in it
afterwards follows from the rows; DuckDB reads it and says how long that takes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.contenders import ContenderFailed
from benchmarks.merging.cases import CASES, DLT, DLT_MERGED, PYICEBERG, Case
from benchmarks.merging.contenders import CONTENDERS, compact, merge
from benchmarks.merging.repeat import files_in, written
from benchmarks.merging.rows import SHAPE, Sums, batches
from benchmarks.merging.scan import Reader
from benchmarks.merging.table import FormatVersion, Seed, append, clean, make_seeds, sqlite_catalog
from benchmarks.recording import WORK
from benchmarks.report import Target, arguments, medians, ratio, say, write

ROUNDS = 5
MOST_COMPACTED = 5_000_000
"""Rows of a table whose compaction is measured: it would take minutes with more."""
POSITION = "airberg_position"
FEW, MANY = "100k_5m", "100k_50m"
TARGETS = {
    f"pyiceberg_over_airberg_{FEW}": Target(low=50),
    "dlt_over_airberg_25k_200k": Target(low=300),
    "snapshots_per_merge": Target(low=1, high=1),
    "bytes_written_over_changed": Target(high=1.5),
    "peak_mb": Target(high=600),
}
METHOD = (
    "seconds and cpu_s: of the merge alone, given a table that is loaded and rows in Arrow; for Airberg from "
    "opening the writer to having it cleaned up, in a run that has opened its memory for keys (once for all "
    "tables), for pyiceberg Table.upsert, for dlt pipeline.run. Medians "
    "behind a warm-up; a merge of more than 2 s counts at once and is repeated once, of more than 15 s not "
    "at all. peak_mb: high-water mark of the process while it merges; idle_mb: what was resident before "
    "(imports, the rows to merge); peak_tree_mb: of the whole process tree from its start. bytes_written: "
    "all new files of the table. changed.bytes: data files of the same rows written alone, by Airberg's "
    "append. scan_s: every column of every row by DuckDB, two threads, files in the page cache. Ids count up "
    "in the order of arrival, the replaced rows are spread evenly over the table, the rows to merge come in "
    "no order."
)


class CaseBench:
    """One case with its contenders.

    Args:
        case: The case.
        seeds: Tables with its rows.
        before: What they hold.
        reader: Reads the tables.
        folder: For everything that is made, except the seeds.
    """

    def __init__(
        self, case: Case, seeds: dict[FormatVersion, Seed], before: Sums, reader: Reader, folder: Path
    ) -> None:
        self.case = case
        self.contenders: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, str] = {}
        self._seeds = seeds
        self._reader = reader
        self._folder = folder
        folder.mkdir(parents=True)
        self._changes = folder / "changes.arrow"
        arriving = list(batches(case.changed_ids, 1))
        with pa.OSFile(str(self._changes), "wb") as file, pa.ipc.new_file(file, arriving[0].schema) as writer:
            for batch in arriving:
                writer.write_batch(batch)
        catalog = sqlite_catalog(folder / "alone", folder / "alone" / "warehouse")
        append(catalog, "alone", arriving, "2")
        self.changed_bytes = written(files_in(folder / "alone" / "warehouse"))["data_bytes"]
        self._expected = case.expected(before)

    def measure(self, name: str, rounds: int) -> None:
        """Let one contender merge, look at what it left, and clean up."""
        contender = CONTENDERS[name]
        seed = self._seeds[contender.version]
        folder = self._folder / name
        shown = self.contenders[name] = {"title": contender.title}
        try:
            merged = merge(contender, self.case, seed, self._changes, folder, rounds)
            shown |= merged.figures | {"median": medians(merged.figures["runs"])}
            self.versions |= merged.versions
            shown |= self._read(merged.metadata)
            if contender.compacts and self.case.rows <= MOST_COMPACTED:
                figures, metadata = compact(merged.metadata, folder / "compacted")
                shown["compaction"] = figures | self._read(metadata)
        except (ContenderFailed, duckdb.Error) as e:
            shown["failed"] = str(e)
            say(f"{self.case.name}, {name}: FAILED\n{e}")
        else:
            self._say(name)
        clean(seed)
        shutil.rmtree(folder, ignore_errors=True)

    def _read(self, metadata: str) -> dict[str, Any]:
        scan = self._reader.scan(metadata)
        return {"equal": scan.sums == self._expected, "rows_after": scan.sums.rows, "scan_s": scan.seconds}

    def _say(self, name: str) -> None:
        shown = self.contenders[name]
        median, compacted = shown["median"], shown.get("compaction", {})
        behind = f" ({compacted['scan_s']} s when compacted)" if compacted else ""
        say(
            f"{self.case.name}, {name}: {median['seconds']:.2f} s, {median['cpu_s']:.2f} CPU s, "
            f"peak {shown['peak_mb']} MB, {median['bytes_written'] / 1e6:.1f} MB written, "
            f"{median['snapshots']:g} snapshots, scan {shown['scan_s']} s{behind}, equal: {shown['equal']}"
        )

    def median(self, name: str, figure: str) -> float | None:
        """A contender's median; None when it was not measured."""
        found = self.contenders.get(name, {}).get("median")
        return None if found is None else found[figure]

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        case, seed = self.case, self._seeds["2"]
        return {
            "title": case.title,
            "table": {
                "rows": case.rows,
                "data_files": len(seed.data),
                "data_bytes": seed.data_bytes,
                "key_bytes": self.key_bytes,
            },
            "key": case.key,
            "changed": {"replaced": case.replaced, "new": case.new, "bytes": self.changed_bytes},
            "rows_expected": self._expected.rows,
            "contenders": self.contenders,
        }

    @property
    def key_bytes(self) -> int:
        """Size of the key columns in the table's data files."""
        return sum(self._seeds["2"].column_bytes[name] for name in self.case.key)


def ratios_of(benches: dict[str, CaseBench]) -> dict[str, float | None]:
    """The figures that targets are stated for, and their like."""
    found: dict[str, float | None] = {}
    for name, bench in benches.items():
        for other, called in (
            (PYICEBERG, "pyiceberg"),
            (DLT, "dlt"),
            (DLT_MERGED, "dlt_merged_table"),
        ):
            if other in bench.contenders:
                for figure, ending in (("seconds", ""), ("cpu_s", "_cpu")):
                    over, under = bench.median(other, figure), bench.median(POSITION, figure)
                    found[f"{called}_over_airberg_{name}{ending}"] = ratio(over, under)
    counts = [
        run["snapshots"]
        for bench in benches.values()
        for name, shown in bench.contenders.items()
        if name.startswith("airberg")
        for run in shown.get("runs", ())
    ]
    # The one that is farthest from one.
    found["snapshots_per_merge"] = max(counts, key=lambda count: abs(count - 1), default=None)
    if few := benches.get(FEW):
        found["bytes_written_over_changed"] = ratio(few.median(POSITION, "bytes_written"), few.changed_bytes)
        found["peak_mb"] = few.contenders.get(POSITION, {}).get("peak_mb")
    return found | growth(benches)


def growth(benches: dict[str, CaseBench]) -> dict[str, float | None]:
    """The same changes in a table ten times as large: cost beside the size of the key column."""
    few, many = benches.get(FEW), benches.get(MANY)
    if few is None or many is None:
        return {}
    return {
        "growth_of_rows": ratio(many.case.rows, few.case.rows),
        "growth_of_key_bytes": ratio(many.key_bytes, few.key_bytes),
        "growth_of_seconds": ratio(many.median(POSITION, "seconds"), few.median(POSITION, "seconds")),
        "growth_of_cpu_s": ratio(many.median(POSITION, "cpu_s"), few.median(POSITION, "cpu_s")),
        "growth_of_peak_mb": ratio(
            many.contenders.get(POSITION, {}).get("peak_mb"), few.contenders.get(POSITION, {}).get("peak_mb")
        ),
    }


def wanted_cases(options: argparse.Namespace) -> list[Case]:
    """The cases, those with the same table behind one another, small tables first."""
    names = options.cases.split(",") if options.cases else [case.name for case in CASES]
    if unknown := set(names) - {case.name for case in CASES}:
        raise SystemExit(f"unknown cases: {', '.join(sorted(unknown))}")
    found = [case for case in CASES if case.name in names]
    return sorted((case.smaller() if options.quick else case for case in found), key=lambda case: case.rows)


def wanted_contenders(options: argparse.Namespace) -> tuple[set[str], list[str]]:
    """Names of the contenders, all but the slow ones, and of those that are not installed."""
    if options.only:
        names = set(options.only.split(","))
    else:
        names = {name for name, contender in CONTENDERS.items() if not contender.slow}
    if unknown := names - set(CONTENDERS):
        raise SystemExit(f"unknown contenders: {', '.join(sorted(unknown))}")
    missing = sorted(name for name in names if not CONTENDERS[name].available())
    if missing:
        say(f"not installed, left out: {', '.join(missing)} (`make bench-merge` installs them)")
    return names - set(missing), missing


def measure(
    options: argparse.Namespace, names: set[str]
) -> tuple[dict[str, CaseBench], dict[str, dict[str, Any]]]:
    """All cases, and what is known of their tables before the merge, by the number of rows."""
    reader = Reader(WORK / "duckdb")
    benches: dict[str, CaseBench] = {}
    tables: dict[str, dict[str, Any]] = {}
    for rows, cases in groupby(wanted_cases(options), key=lambda case: case.rows):
        begun = time.monotonic()
        home = WORK / f"table-{rows}"
        seeds = make_seeds(home, rows)
        scan = reader.scan(seeds["2"].metadata)
        assert scan.sums.rows == rows
        tables[str(rows)] = {"seconds_to_write": round(time.monotonic() - begun, 1), "scan_s": scan.seconds}
        say(f"a table of {rows:,} rows: written in {time.monotonic() - begun:.0f} s, scan {scan.seconds} s")
        for case in cases:
            folder = WORK / case.name
            bench = benches[case.name] = CaseBench(case, seeds, scan.sums, reader, folder)
            for name in case.contenders:
                if name in names:
                    bench.measure(name, 1 if options.quick else ROUNDS)
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
    return benches, tables


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    names, missing = wanted_contenders(options)
    try:
        benches, tables = measure(options, names)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    shown = {name: bench.as_json() for name, bench in benches.items()}
    outcomes = {f"{case}: {name}": c for case, b in benches.items() for name, c in b.contenders.items()}
    failed = [name for name, outcome in outcomes.items() if "failed" in outcome]
    wrong = [
        name
        for name, outcome in outcomes.items()
        if not (outcome.get("equal", True) and outcome.get("compaction", {}).get("equal", True))
    ]
    write(
        "merge",
        options,
        ratios=ratios_of(benches),
        targets=TARGETS,
        found_versions={name: v for bench in benches.values() for name, v in bench.versions.items()}
        | {"duckdb": duckdb.__version__},
        figures={
            "parity": {"equal": not wrong, "different": wrong},
            "failed": failed,
            "left_out": missing,
            "method": METHOD,
            "rows": SHAPE,
            "seconds": round(time.monotonic() - begun, 1),
            "tables_before": tables,
            "cases": shown,
        },
    )
    for name in wrong:
        say(f"NOT EQUAL: {name}")
    return 1 if wrong or failed else 0


def main() -> int:
    """Read the arguments and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", help="names of cases, with commas between")
    parser.add_argument("--only", help="names of contenders, with commas between")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
