"""`make bench-api` in its quick form: the service starts, and every answer to its clients is a good one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.free_ports import free_ports
from support.pages import ROOT


def test_the_quick_form(tmp_path: Path) -> None:
    """The result has its form, no target is judged, and nothing of the service stays behind."""
    [port] = free_ports(1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRBERG_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.api", "--quick", "--results", tmp_path, "--port", str(port)],
        cwd=ROOT,
        env=kept | {"AIRBERG_BENCH_DIR": str(tmp_path / "build")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "api.json").read_text())
    assert json.loads(done.stdout) == result
    assert result["targets"] == {}
    assert result["store"] == {"database": "sqlite", "jobs": 200, "runs": 2_000}
    assert all(value > 0 for value in result["ratios"].values())
    load = result["load"]
    for kind, status in (("get_jobs", "200"), ("post_job", "201")):
        for figures in (load[kind], load[f"{kind}_alone"]):
            assert figures["statuses"] == {status: figures["answers"]}
            assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["worst_ms"]
    assert not list((tmp_path / "build" / "work").iterdir())
