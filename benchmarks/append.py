"""How fast messages get into a table, beside everything else that does it: `results/append.json`.

    python -m benchmarks.append [--quick] [--only airberg,duckdb_copy]

Each contender loads the same lines of three shapes. The first pass compares what all of them have
written; as long as there is time, the fast ones (which load a million rows) are measured again, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, ContenderFailed, Outcome, Size, contenders
from benchmarks.deployment import RunFailed
from benchmarks.parity import Sums, compare, sums
from benchmarks.recording import SHAPES, WORK, Recording, recording_of
from benchmarks.report import Target, arguments, medians, ratio, say, write
from benchmarks.shapes import Shape

ROWS = 1_000_000
QUICK_ROWS = 4_000
QUICK_BLOCK = 2_000
ROUNDS = 3
BUDGET_S = 480.0
TARGETS = {
    "airberg_over_duckdb_copy": Target(low=0.8),
    "airberg_over_pyairbyte": Target(low=20.0),
    "airberg_over_dlt_rows": Target(low=12.0),
}
METHOD = (
    "seconds: Airberg from the start of the connector process to the end of the run, behind the last commit; "
    "the others from the call that loads to its return, imports and connecting before it. cpu_s and peaks "
    "are of the whole process tree from its start to its end. peak_tree_mb is the highest sum of PSS that "
    "was sampled, every 0.2 s."
)


@dataclass
class Entry:
    """What is known of one contender with one shape."""

    title: str
    recording: Recording
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        facts = {"title": self.title, "rows": self.recording.total_rows, "bytes": self.recording.total_bytes}
        if self.failed is not None:
            return facts | {"failed": self.failed}
        return facts | {"median": medians(self.runs), "runs": self.runs}


class ShapeBench:
    """One shape with all contenders.

    Args:
        shape: The shape.
        wanted: The contenders; Airberg is among them, and the others are compared with it.
        quick: Whether few rows are enough.
    """

    def __init__(self, shape: Shape, wanted: Sequence[Contender], quick: bool) -> None:
        block = recording_of(shape, QUICK_BLOCK if quick else None)
        part = recording_of(shape, QUICK_BLOCK if quick else shape.part_rows)
        self.recordings: dict[Size, Recording] = {
            "all": block.times(QUICK_ROWS if quick else ROWS),
            "block": block,
            "part": part,
        }
        self.shape = shape
        self.parity: dict[str, Any] = {}
        self.entries: dict[str, Entry] = {}
        self.versions: dict[str, str] = {}
        self.fast = [c for c in wanted if c.size == "all"]
        # What starts slowly says nothing new about a few rows of another shape.
        self._slow = [c for c in wanted if c.size != "all" and (not quick or shape.name == "recorded")]
        self._airberg = next(c for c in wanted if c.name == "airberg")

    def first_pass(self) -> None:
        """Measure everybody once and compare what they wrote with what Airberg wrote of the same lines."""
        self._compared(self.fast, self.recordings["all"])
        for recording in dict.fromkeys(self.recordings[c.size] for c in self._slow):
            same = [c for c in self._slow if self.recordings[c.size] == recording]
            reference = Contender(f"airberg_{same[0].size}", "Airberg, the same lines", self._airberg.load)
            self._compared([reference, *same], recording)

    def round_s(self) -> float:
        """How long another round will take, by the first one."""
        return 5.0 + sum(float(e["wall_s"]) for c in self.fast for e in self.entries[c.name].runs[:1])

    def another_round(self, number: int) -> None:
        """Measure those that load everything once more, beginning with another one."""
        turn = number % len(self.fast)
        for contender in [*self.fast[turn:], *self.fast[:turn]]:
            self._measure(contender, self.recordings["all"])

    def _compared(self, group: Sequence[Contender], recording: Recording) -> None:
        fields = recording.fields()
        reference: dict[str, Sums] | None = None
        for contender in group:
            outcome = self._measure(contender, recording, keep=True)
            if outcome is not None:
                written = {name: sums(table, fields[name]) for name, table in outcome.tables.items()}
                if reference is None:
                    reference = written
                    counted = {name: s.rows for name, s in written.items()}
                    if counted != recording.rows:
                        self.parity[contender.name] = {
                            "equal": False,
                            "different": [f"{counted} instead of {recording.rows}"],
                        }
                else:
                    self.parity[contender.name] = compare(reference, written)
                    say(f"  {contender.name}: equal to Airberg: {self.parity[contender.name]['equal']}")
            shutil.rmtree(self._folder(contender), ignore_errors=True)

    def _folder(self, contender: Contender) -> Path:
        return WORK / f"{self.shape.name}-{contender.name}"

    def _measure(self, contender: Contender, recording: Recording, *, keep: bool = False) -> Outcome | None:
        entry = self.entries.setdefault(contender.name, Entry(contender.title, recording))
        try:
            outcome = contender.load(recording, self._folder(contender))
        except (ContenderFailed, RunFailed) as e:
            entry.failed = str(e)
            say(f"{self.shape.name}, {contender.name}: FAILED\n{e}")
            return None
        figures = outcome.figures(recording)
        entry.runs.append(figures)
        self.versions |= outcome.versions
        say(
            f"{self.shape.name}, {contender.name}: {recording.total_rows:,} rows in "
            f"{figures['seconds']:.1f} s, {figures['rows_per_s']:,} rows/s, {figures['mb_per_s']} MB/s, "
            f"peak {figures['peak_tree_mb']} MB"
        )
        if not keep:
            shutil.rmtree(self._folder(contender), ignore_errors=True)
        return outcome

    def ratios(self) -> dict[str, float | None]:
        """Airberg's rows per second over everybody else's; names of the recorded shape have no prefix."""
        prefix = "" if self.shape.name == "recorded" else f"{self.shape.name}_"

        def rate(name: str) -> float | None:
            entry = self.entries[name]
            return medians(entry.runs)["rows_per_s"] if entry.runs else None

        others = [name for name in self.entries if not name.startswith("airberg")]
        return {f"{prefix}airberg_over_{name}": ratio(rate("airberg"), rate(name)) for name in others}

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        entries = {name: entry.as_json() for name, entry in self.entries.items()}
        return {"title": self.shape.title, "contenders": entries, "parity": self.parity}


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    known = contenders()
    names = options.only.split(",") if options.only else [c.name for c in known]
    if unknown := set(names) - {c.name for c in known}:
        raise SystemExit(f"unknown contenders: {', '.join(sorted(unknown))}")
    wanted = [c for c in known if c.name in names or c.name == "airberg"]
    missing = [c.name for c in wanted if not c.available()]
    if missing:
        say(f"not installed, left out: {', '.join(missing)} (`make bench-append` installs them)")
    present = [c for c in wanted if c.name not in missing]
    shapes = [SHAPES[name] for name in options.shapes.split(",")]
    benches = [ShapeBench(shape, present, options.quick) for shape in shapes]
    ready = time.monotonic()
    for bench in benches:
        bench.first_pass()
    for number in range(1, 1 if options.quick else ROUNDS):
        for bench in sorted(benches, key=lambda b: b.round_s()):  # rather more rounds than longer ones
            if time.monotonic() - begun + bench.round_s() < options.budget:
                bench.another_round(number)
    shutil.rmtree(WORK, ignore_errors=True)
    shown = {bench.shape.name: bench.as_json() for bench in benches}
    equal = all(p["equal"] for bench in benches for p in bench.parity.values())
    failed = [f"{b.shape.name}: {n}" for b in benches for n, e in b.entries.items() if e.failed is not None]
    write(
        "append",
        options,
        ratios={name: value for bench in benches for name, value in bench.ratios().items()},
        targets=TARGETS,
        found_versions={name: v for bench in benches for name, v in bench.versions.items()},
        figures={
            "parity": {"equal": equal},
            "failed": failed,
            "left_out": missing,
            "method": METHOD,
            "seconds": {"recordings": round(ready - begun, 1), "all": round(time.monotonic() - begun, 1)},
            "shapes": shown,
        },
    )
    for bench in benches:
        for name, verdict in bench.parity.items():
            if not verdict["equal"]:
                say(f"NOT EQUAL: {bench.shape.name}, {name}: {'; '.join(verdict['different'][:10])}")
    return 0 if equal and not failed else 1


def main() -> int:
    """Read the arguments and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--only", help="names of contenders, with commas between")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="names of shapes, with commas between")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="no round begins that would end later")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
