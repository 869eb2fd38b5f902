"""Without network: connectors are installed from the cache, checked and read, and nobody calls home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airberg.settings import Settings
from airberg.sources.environment import Recipe, build
from airberg.sources.registry import load_registry
from support.no_network import unshare_command
from support.pages import ROOT

pytestmark = [pytest.mark.connector, pytest.mark.xdist_group("connector"), pytest.mark.timeout(600)]


def test_nothing_leaves_a_machine_without_network(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """With a filled cache and a lock, installing, preflight and sync work, and no attempt is counted.

    Without a lock it works too: with no attempt when uv is told, after some when it has to find out, which
    shows that attempts of uv's are counted.
    """
    alone = unshare_command()
    if alone is None:
        pytest.skip("network namespaces are not allowed here")
    home = tmp_path / "home"
    entry = load_registry(Settings(home=home)).find("source-faker")
    folder = home / "connectors" / entry.name / entry.known_version
    folder.mkdir(parents=True)
    recipe = Recipe(
        package=entry.package,
        version=entry.version,
        overrides=entry.overrides,
        python=entry.python,
        command=entry.name,
    )
    # With network: fills the cache and leaves a lock. The environment itself is of no use to the other.
    build(recipe, tmp_path / "elsewhere", folder, pyairbyte_dir / "bin" / "python")
    child = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "support.offline_child",
        home,
        pyairbyte_dir,
        tmp_path / "anew",
    ]
    done = subprocess.run(
        [*alone, *child],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout)
    assert said["counted"] > 0
    assert (said["installed"], said["preflight"], said["sync"], said["resolved"]) == (0, 0, 0, 0)
    assert (said["status"], said["rows"]) == ("completed", 40)
    assert said["asked"] > 0
    assert all(os.access(said[name], os.X_OK) for name in ("program", "program_after_all"))
