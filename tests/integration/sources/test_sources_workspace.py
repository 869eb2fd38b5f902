"""Private folders of connectors, made and swept by several processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAKE_MANY = """
import sys
from airberg.sources.workspace import Workspace
for _ in range(150):
    with Workspace() as workspace:
        assert workspace.home.is_dir(), "swept away while in use"
        workspace.add("config", b"{}")
"""


def test_processes_do_not_sweep_each_others_new_folders(tmp_path: Path) -> None:
    """A folder is held from the moment at which another process could take it for abandoned."""
    environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    running = [
        subprocess.Popen([sys.executable, "-c", MAKE_MANY], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    assert list(tmp_path.iterdir()) == []
