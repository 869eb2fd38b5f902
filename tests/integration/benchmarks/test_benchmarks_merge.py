"""`make bench-merge` in its quick form: the result has its form, and all contenders' tables hold the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from support.pages import ROOT

pytestmark = pytest.mark.xdist_group("bench-merge")  # one run of it for all tests here

CASES = {"composite_1k_20k": 80, "100k_5m": 20_000, "100k_50m": 200_000}
CONTENDERS = ("airberg_position", "airberg_vector", "airberg_copy_on_write", "pyiceberg_upsert")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run writes; the contenders are those that need no environment of their own."""
    folder = tmp_path_factory.mktemp("bench")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRBERG_")}
    options = [
        "--quick",
        "--only",
        ",".join(CONTENDERS),
        "--cases",
        ",".join(CASES),
        "--results",
        str(folder),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merge", *options],
        cwd=ROOT,
        env=kept | {"AIRBERG_BENCH_DIR": str(folder / "build")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((folder / "merge.json").read_text())
    assert json.loads(done.stdout) == written
    assert not list((folder / "build" / "work").iterdir())
    return written


def test_top_level(result: dict[str, Any]) -> None:
    """Ratios are numbers, a quick result is judged by no target, and nobody's table is different."""
    assert result["benchmark"] == "merge"
    assert result["quick"] is True
    assert result["targets"] == {}
    growth = {f"growth_of_{what}" for what in ("rows", "key_bytes", "seconds", "cpu_s", "peak_mb")}
    cases = ("composite_1k_20k", "100k_5m")
    over = {f"pyiceberg_over_airberg_{name}{ending}" for name in cases for ending in ("", "_cpu")}
    figures = {"snapshots_per_merge", "bytes_written_over_changed", "peak_mb"}
    assert set(result["ratios"]) == growth | over | figures
    assert all(value > 0 for value in result["ratios"].values())
    assert result["ratios"]["growth_of_rows"] == 10
    assert result["parity"] == {"equal": True, "different": []}
    assert result["failed"] == result["left_out"] == []
    assert set(result["versions"]) >= {"python", "airberg", "duckdb", "pyarrow", "pyiceberg"}


@pytest.mark.parametrize("case", CASES)
def test_every_contender_is_measured(result: dict[str, Any], case: str) -> None:
    """Each has its run, what it wrote, and a table that DuckDB has read."""
    shown = result["cases"][case]
    assert shown["table"]["rows"] == CASES[case]
    assert shown["rows_expected"] == CASES[case] + shown["changed"]["new"]
    wanted = CONTENDERS[:1] if case == "100k_50m" else CONTENDERS
    assert set(shown["contenders"]) == set(wanted)
    for entry in shown["contenders"].values():
        [run] = entry["runs"]
        assert run["seconds"] > 0
        assert run["bytes_written"] > run["data_bytes"] > 0
        assert entry["peak_mb"] > 10
        assert entry["rows_after"] == shown["rows_expected"]
        assert entry["equal"] is True
        assert entry["scan_s"] > 0


def test_the_delete_formats_differ_in_what_they_write(result: dict[str, Any]) -> None:
    """One snapshot each; deletes beside the new rows, or the whole table anew."""
    shown = result["cases"]["100k_5m"]
    runs = {name: entry["runs"][0] for name, entry in shown["contenders"].items()}
    for name in CONTENDERS[:3]:
        assert runs[name]["snapshots"] == 1
    for name in ("airberg_position", "airberg_vector"):
        assert runs[name]["delete_files"] == 1
        assert runs[name]["data_bytes"] < shown["table"]["data_bytes"] / 10
    rewritten = runs["airberg_copy_on_write"]
    assert rewritten["delete_files"] == 0
    assert rewritten["data_bytes"] > shown["table"]["data_bytes"] / 2


def test_compaction_leaves_the_same_rows(result: dict[str, Any]) -> None:
    """It is measured behind merges that leave deletes; the deletes are gone, and DuckDB reads the same."""
    for name, entry in result["cases"]["100k_5m"]["contenders"].items():
        compacts = name in ("airberg_position", "airberg_vector")
        assert ("compaction" in entry) == compacts
        if compacts:
            assert entry["compaction"]["equal"] is True
            assert entry["compaction"]["data_files"] >= 1
            assert entry["compaction"]["delete_files"] == 0
