"""What must start quickly does not import what is heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    *("pyarrow", "pyiceberg", "duckdb", "datahub", "airbyte", "airflow", "pandas", "alembic"),
    "openlineage",
    *("boto3", "botocore", "hvac", "google", "google_crc32c", "pkcs11"),
)
LOADED = """
import importlib, json, re, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
peak = int(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
print(json.dumps({"modules": sorted({m.split(".")[0] for m in sys.modules}), "peak_mb": peak}))
"""


def loaded(*modules: str) -> dict[str, object]:
    """What a new process has loaded after importing some modules, and its peak memory in MB."""
    out = subprocess.run([sys.executable, "-c", LOADED, *modules], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(out.stdout)
    return found


@pytest.mark.parametrize(
    "modules",
    [
        ("airberg",),
        ("airberg.cli.serve",),
        ("airberg.cli.app",),
        ("airberg.api.app", "airberg.plan.child", "airberg.flows.airflow", "airberg.jobs.open"),
        ("airberg.governance.openlineage.story", "airberg.governance.openlineage.naming"),
        ("airberg.keys.open", "airberg.identity.development"),
        tuple(f"airberg.keys.backends.{name}" for name in ("aws", "vault", "gcp", "pkcs11")),
    ],
)
def test_light_processes_stay_light(modules: tuple[str, ...]) -> None:
    """The HTTP process and the command line load none of the heavy libraries, and stay under 100 MB."""
    found = loaded(*modules)
    names = found["modules"]
    assert isinstance(names, list)
    assert [name for name in names if name in HEAVY] == []
    peak = found["peak_mb"]
    assert isinstance(peak, int)
    assert peak < 100


def test_flow_files_need_only_airflow() -> None:
    """The package inside Airflow imports the standard library and Airflow, nothing else, and none of ours."""
    found = loaded("airberg_airflow.dags", "airberg_airflow.flow_files")
    names = found["modules"]
    assert isinstance(names, list)
    assert "airberg" not in names
    assert not {"httpx", "msgspec", "pydantic", *HEAVY} & set(names)
