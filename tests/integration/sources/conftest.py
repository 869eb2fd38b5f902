"""What the tests of connectors share: PyAirbyte's environment, made once and kept between test runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

import pytest
import uv


@pytest.fixture(scope="session")
def pyairbyte_dir(pytestconfig: pytest.Config) -> Path:
    """PyAirbyte's environment, from the locked requirements."""
    locked = pytestconfig.rootpath / "requirements" / "pyairbyte.txt"
    version = hashlib.sha256(locked.read_bytes()).hexdigest()[:12]
    cache = pytestconfig.cache
    if cache is None:
        pytest.skip("the cache of pytest is switched off")
    folder = cache.mkdir(f"pyairbyte-{version}")
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            tool, venv = uv.find_uv_bin(), folder / "venv"
            subprocess.run([tool, "venv", "--clear", "--python", "3.11", venv], check=True)
            environment = os.environ | {"VIRTUAL_ENV": str(venv)}
            subprocess.run([tool, "pip", "sync", locked], check=True, env=environment)
            done.touch()
    return folder / "venv"
