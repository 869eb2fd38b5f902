"""`make bench-append` in its quick form: the result has its form, and all contenders wrote the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.pages import ROOT

pytestmark = pytest.mark.xdist_group("bench-append")  # one run of it for all tests here

CONTENDERS = ("airberg", "duckdb_copy", "pyarrow_append")
SHAPES = ("recorded", "wide", "nested")


@pytest.fixture(scope="module")
def result(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> dict[str, Any]:
    """What one run writes; the contenders are those that need no environment of their own."""
    folder = tmp_path_factory.mktemp("bench")
    variables = {
        "AIRBERG_BENCH_DIR": str(folder / "build"),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(pyairbyte_dir),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(connectors_dir),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRBERG_")}
    options = ["--quick", "--only", ",".join(CONTENDERS), "--results", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.append", *options],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((folder / "append.json").read_text())
    assert json.loads(done.stdout) == written
    assert not (folder / "build" / "work").exists() or not list((folder / "build" / "work").iterdir())
    return written


def test_top_level(result: dict[str, Any]) -> None:
    """Ratios are numbers, a quick result is judged by no target, and says what it was measured with."""
    assert result["benchmark"] == "append"
    assert result["quick"] is True
    assert result["targets"] == {}
    prefixes = ("", "wide_", "nested_")
    wanted = {f"{p}airberg_over_{name}" for p in prefixes for name in ("duckdb_copy", "pyarrow_append")}
    assert set(result["ratios"]) == wanted
    assert all(value > 0 for value in result["ratios"].values())
    assert set(result["versions"]) >= {"python", "airberg", "duckdb", "pyarrow", "pyiceberg"}
    assert result["machine"]["cores"] >= 1
    assert result["failed"] == result["left_out"] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_contender_is_measured(result: dict[str, Any], shape: str) -> None:
    """Each has its runs, their medians, and memory and files of the size that they must have."""
    shown = result["shapes"][shape]["contenders"]
    assert set(shown) == set(CONTENDERS)
    for entry in shown.values():
        [run] = entry["runs"]
        assert entry["median"] == run
        assert entry["rows"] == 4_000
        assert run["seconds"] <= run["wall_s"]
        assert run["cpu_s"] > 0
        assert run["peak_process_mb"] > 10
        assert run["data_files"] >= 1
    assert shown["airberg"]["median"]["snapshots"] == (3 if shape == "recorded" else 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_wrote_the_same(result: dict[str, Any], shape: str) -> None:
    """Counts and checksums of every column; pyarrow has none of a free object and a union."""
    assert result["parity"] == {"equal": True}
    parity = result["shapes"][shape]["parity"]
    left_out = {"duckdb_copy": set(), "pyarrow_append": set()}
    if shape == "nested":
        left_out["pyarrow_append"] = {"orders.extra", "orders.reference"}
    assert {name: set(p["left_out"]) for name, p in parity.items()} == left_out
    columns = {"recorded": 38, "wide": 200, "nested": 18}[shape]
    for p in parity.values():
        assert p["different"] == []
        assert p["columns_compared"] + len(p["left_out"]) == columns
