"""What the how-to for readers shows of engines, run as it is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pyiceberg.table import Table

from support.deployment import Deployment
from support.encrypted_people import ADDRESSES, load_users
from support.engines import PYTHON, Engines, location, newest_metadata
from support.page_run import install_extensions
from support.pages import READ_ENCRYPTED, Page, engine_of

pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(scope="module")
def users(deployment: Deployment) -> Table:
    """The table `quickstart.users`."""
    return load_users(deployment, deployment.home.parent)


def test_clickhouse(deployment: Deployment, users: Table, engines: Engines) -> None:
    """The block of SQL, with the key as a parameter."""
    [block] = [block for block in Page(READ_ENCRYPTED).blocks if engine_of(block) == "clickhouse"]
    engines.clickhouse("CREATE DATABASE quickstart")
    engines.clickhouse(f"CREATE VIEW quickstart.users AS SELECT * FROM icebergLocal('{location(users)}')")
    engines.clickhouse(f"SET param_key_v1 = '{deployment.keys.primary('default').raw.hex()}'")
    found = engines.clickhouse(block.text)
    assert sorted(found["email"], key=repr) == sorted(ADDRESSES, key=repr)


def test_duckdb(deployment: Deployment, users: Table, engines: Engines, tmp_path: Path) -> None:
    """The command that exports, then the program, in an environment that has nothing of Airberg."""
    blocks = [block for block in Page(READ_ENCRYPTED).blocks if block.heading == "DuckDB"]
    [command] = [block.text for block in blocks if block.language == "bash"]
    [program] = [block.text for block in blocks if block.language == "python"]
    name, *arguments = command.split()
    assert name == ".venv/bin/airberg"
    subprocess.run(
        [sys.executable, "-m", "airberg.cli", *arguments],
        cwd=tmp_path,
        env={"AIRBERG_HOME": str(deployment.home), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    install_extensions(tmp_path)
    (tmp_path / "program.py").write_text(program.replace(" LIMIT 2", ""))
    key = deployment.keys.primary("default").raw.hex()
    done = subprocess.run(
        [PYTHON, "program.py", newest_metadata(users)],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "AIRBERG_KEY_V1": key, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all((address or "NULL") in done.stdout for address in ADDRESSES)
