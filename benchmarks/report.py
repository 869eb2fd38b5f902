"""The form of the results: one JSON file a benchmark, with what was aimed at and what came out."""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airberg import __version__

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that has to be reached.

    Attributes:
        low: The figure is at least this.
        high: It is at most this.
    """

    low: float | None = None
    high: float | None = None

    def judge(self, value: float | None) -> dict[str, Any]:
        """The target beside the value; `met` is None when nothing was measured."""
        stated = {"at_least": self.low, "at_most": self.high}
        met = None
        if value is not None:
            tests: list[tuple[float | None, Callable[[float, float], bool]]] = [
                (self.low, operator.ge),
                (self.high, operator.le),
            ]
            met = all(holds(value, limit) for limit, holds in tests if limit is not None)
        return {k: v for k, v in stated.items() if v is not None} | {"value": value, "met": met}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark understands."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rows: shows that it works, not how fast")
    parser.add_argument("--results", type=Path, help="folder for the result")
    return parser


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number of some runs."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in names}


def ratio(over: float | None, under: float | None) -> float | None:
    """A quotient of two medians; None when one was not measured."""
    return None if not over or not under else round(over / under, 3)


def machine() -> dict[str, Any]:
    """What it ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load_before": [round(x, 2) for x in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Our own versions."""
    return {"python": platform.python_version(), "airberg": __version__}


def write(
    name: str,
    options: argparse.Namespace,
    *,
    ratios: Mapping[str, float | None],
    targets: Mapping[str, Target],
    found_versions: Mapping[str, str],
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """Write and print a result.

    Args:
        name: Of the benchmark and its file.
        options: Those of `arguments`; a quick result is kept apart and judged by no target.
        ratios: The figures that targets are stated for, and others like them.
        targets: By the name of the ratio.
        found_versions: Of the contenders' libraries.
        figures: Everything else.
    """
    judged = {} if options.quick else {n: t.judge(ratios.get(n)) for n, t in targets.items()}
    result = {
        "benchmark": name,
        "quick": options.quick,
        "ratios": dict(ratios),
        "targets": judged,
        "machine": machine(),
        "versions": versions() | dict(sorted(found_versions.items())),
        **figures,
    }
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    (folder / f"{name}.json").write_text(text)
    sys.stdout.write(text)
    for target, verdict in judged.items():
        words = {True: "met", False: "MISSED", None: "NOT MEASURED"}[verdict["met"]]
        limits = " ".join(f"{k.replace('_', ' ')} {v}" for k, v in verdict.items() if k.startswith("at_"))
        say(f"target {words}: {target} = {verdict['value']} ({limits})")
    return result


def say(line: str) -> None:
    """A line for whoever waits; results go to standard output."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
