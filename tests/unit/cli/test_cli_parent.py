"""Commands of flows end with the task that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from airberg.cli.parent import TASK_VARIABLE
from support.conditions import eventually
from support.pod_sandbox import why_not

COMMAND = """
import sys, time
from pathlib import Path
from airberg.cli.parent import die_with_parent
die_with_parent()
Path(sys.argv[1]).touch()
time.sleep(600)
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")


def ended_process() -> int:
    """The id of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("through_a_shell", [False, True])
def test_a_task_that_has_ended_before(tmp_path: Path, through_a_shell: bool) -> None:
    """A command whose task was killed while it started does nothing, whatever stands between them."""
    argv = [sys.executable, "-c", COMMAND, str(tmp_path / "works")]
    if through_a_shell:
        argv = ["/bin/sh", "-c", '"$@"; exit $(($? - 128))', "sh", *argv]
    ran = subprocess.run(argv, env=os.environ | {TASK_VARIABLE: str(ended_process())}, timeout=60)
    assert ran.returncode == (signal.SIGTERM if through_a_shell else -signal.SIGTERM)
    assert not (tmp_path / "works").exists()


@pytest.mark.parametrize("task", [str(os.getpid()), "none"], ids=["there", "not named"])
def test_a_task_that_is_there_or_not_named(tmp_path: Path, task: str) -> None:
    """It works, and ends when what started it is killed."""
    works = tmp_path / "works"
    starter = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    argv = [sys.executable, "-c", starter, "-c", COMMAND, str(works)]
    with subprocess.Popen(argv, env=os.environ | {TASK_VARIABLE: task}) as parent:
        eventually(works.exists, 20)
        [command] = psutil.Process(parent.pid).children()
        parent.kill()
    eventually(lambda: not command.is_running(), 10)


@pytest.mark.skipif(why_not() is not None, reason="namespaces cannot be made here")
def test_the_first_process_of_a_container_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Linux gives it no signal that it has no handler for."""
    works = tmp_path / "works"
    isolated = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", COMMAND, str(works)]
    with subprocess.Popen(isolated) as outside:
        assert eventually(works.exists, 20)
        [command] = psutil.Process(outside.pid).children()
        command.terminate()
        assert outside.wait(20) == 128 + signal.SIGTERM
