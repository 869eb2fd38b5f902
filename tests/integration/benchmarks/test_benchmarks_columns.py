"""`make bench-columns` in its quick form: the result has its form, and every value came out as it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.values import ENCRYPTED, cases
from support.pages import ROOT

pytestmark = pytest.mark.xdist_group("bench-columns")  # one run of it for all tests here


@pytest.fixture(scope="module")
def result(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> dict[str, Any]:
    """What one run writes."""
    folder = tmp_path_factory.mktemp("bench")
    variables = {
        "AIRBERG_BENCH_DIR": str(folder / "build"),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(pyairbyte_dir),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(connectors_dir),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRBERG_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.columns", "--quick", "--results", str(folder)],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((folder / "columns.json").read_text())
    assert json.loads(done.stdout) == written
    assert not list((folder / "build" / "work").iterdir())
    return written


def test_top_level(result: dict[str, Any]) -> None:
    """Ratios are numbers, a quick result is judged by no target, and nothing is different."""
    assert result["benchmark"] == "columns"
    assert result["quick"] is True
    assert result["targets"] == {}
    endings = ("over_plain", "over_plain_best", "over_plain_cpu", "bytes_over_plain")
    modes = ("random", "deterministic", "deterministic_few_values")
    appends = ("encrypted", "deterministic")
    assert set(result["ratios"]) == {f"{name}_append_{ending}" for name in appends for ending in endings} | {
        f"one_by_one_over_airberg_{kind}_encrypt_{mode}" for kind in ENCRYPTED for mode in modes
    } | {"by_value_over_casts_least"}
    assert all(value > 0 for value in result["ratios"].values())
    assert result["parity"] == {"equal": True, "different": []}


def test_every_case_is_measured(result: dict[str, Any]) -> None:
    """Each kind of values with each transformation; encryption of each kind that the targets name."""
    shown = result["values"]
    assert {(kind, name) for kind, found in shown.items() for name in found} == {
        (case.kind.name, case.name) for case in cases()
    }
    for found in shown.values():
        for figures in found.values():
            assert figures["rows"] == 4_000
            assert figures["values_per_s"] > 0
            assert figures["equal"] is True
    assert all("by_value_ns" in f for found in shown.values() for n, f in found.items() if "cast_" in n)
    for kind in ENCRYPTED:
        assert {"rename", "encrypt_random", "encrypt_deterministic", "hash", "mask"} <= set(shown[kind])


def test_all_appends_have_the_same_values(result: dict[str, Any]) -> None:
    """Two columns of every stream are encrypted, and decrypt to those of the plain tables."""
    append = result["append"]
    assert append["rows"] == 4_000
    assert set(append["encrypted_columns"]) == {"users", "purchases", "products"}
    assert len(append["equal"]) == 2 * 6
    assert all(append["equal"].values())
    for name in ("plain", "encrypted", "deterministic"):
        [run] = append[name]["runs"]
        assert append[name]["median"] == run
        assert run["rows_per_s"] > 0
        assert run["data_bytes"] > 0
