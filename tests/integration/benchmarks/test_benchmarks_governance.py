"""`make bench-governance` in its quick form: one request, and the same metadata by all contenders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.pages import ROOT


def test_the_quick_form(tmp_path: Path) -> None:
    """The result has its form, no target is judged, and nothing stays behind."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRBERG_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.governance", "--quick", "--results", tmp_path],
        cwd=ROOT,
        env=kept | {"AIRBERG_BENCH_DIR": str(tmp_path / "build")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "governance.json").read_text())
    assert json.loads(done.stdout) == result
    assert result["targets"] == {}
    assert all(value > 0 for value in result["ratios"].values())
    assert result["parity"]["equal"] is True
    sent = {name: found["median"]["requests"] for name, found in result["contenders"].items()}
    assert sent["airberg"] == result["many"]["requests"] == 1
    assert sent["airberg_files"] == 0
    assert sent["client_batches"] > 1
    assert sent["client_one_by_one"] > 10 * result["tables"]
    for found in result["contenders"].values():
        [run] = found["runs"]
        assert run["seconds"] > 0
        assert run["peak_mb"] > 50
        assert run["bytes"] > 1_000 * result["tables"]
    assert not list((tmp_path / "build" / "work").iterdir())
