"""The child process of a task: its lines, its end, its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from airberg_airflow.child import MAX_LINE, TASK_VARIABLE, Child, child_environment
from support.conditions import eventually


def start(script: str, grace_s: float = 4.0) -> Child:
    """A shell script as a child."""
    return Child(["/bin/sh", "-c", script], dict(os.environ), grace_s)


@pytest.mark.parametrize("code", [0, 1, 2, 99])
def test_lines_and_exit_code(code: int) -> None:
    """Lines of both outputs arrive in order, the last one without a line end too; the code is the child's."""
    lines: list[str] = []
    child = start(f"echo one; echo two >&2; printf 'th\\303\\251\\r\\n\\nlast'; exit {code}")
    assert child.follow(lines.append) == code
    assert lines == ["one", "two", "thé", "", "last"]


def test_the_last_error_line_counts() -> None:
    """Of several lines that begin with `error: ` the last one is kept; others are no errors."""
    child = start("echo 'error: first'; echo 'error:  the last '; echo 'no error: this'; exit 1")
    child.follow(lambda _: None)
    assert child.error == "the last"


def test_no_error_line() -> None:
    """Without such a line there is no error text."""
    child = start("echo fine")
    child.follow(lambda _: None)
    assert child.error is None


def test_a_long_line_is_cut() -> None:
    """A line of a megabyte arrives in bounded pieces, complete."""
    lines: list[str] = []
    start("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end").follow(lines.append)
    assert max(map(len, lines)) == MAX_LINE
    assert sum(map(len, lines[:-1])) == 1_000_000
    assert lines[-1] == "end"


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    """Output that is not UTF-8 is shown as well as possible."""
    lines: list[str] = []
    assert start("printf 'a\\377b\\n'").follow(lines.append) == 0
    assert lines == ["a\N{REPLACEMENT CHARACTER}b"]


def test_a_signal_is_a_negative_code() -> None:
    """A child that is killed ends with the negative number of the signal."""
    assert start("kill -9 $$").follow(lambda _: None) == -signal.SIGKILL


def test_a_grandchild_that_holds_the_pipe_does_not_keep_us(tmp_path: Path) -> None:
    """When the child has ended we go on, and what it left in its group is killed."""
    pid = tmp_path / "pid"
    assert start(f"sleep 600 & echo $! > {pid}; exit 3").follow(lambda _: None) == 3
    eventually(lambda: not alive(int(pid.read_text())), 10)


def test_stop_gives_time_to_end(tmp_path: Path) -> None:
    """SIGTERM reaches the child, which may end in its own way."""
    ready = tmp_path / "ready"
    child = start(f"trap 'echo ending; exit 143' TERM; touch {ready}; while :; do sleep 0.05; done")
    lines: list[str] = []
    stopper = threading.Thread(target=lambda: (eventually(ready.exists), child.stop()))
    stopper.start()
    assert child.follow(lines.append) == 143
    stopper.join()
    assert lines[-1] == "ending"


def test_stop_kills_the_stubborn(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace, with its children."""
    pids = tmp_path / "pids"
    child = start(
        f"trap '' TERM; sleep 600 & echo $$ $! > {pids}.part; mv {pids}.part {pids}; "
        "while :; do sleep 1; done",
        grace_s=0.3,
    )
    stopper = threading.Thread(target=lambda: (eventually(pids.exists), child.stop()))
    stopper.start()
    assert child.follow(lambda _: None) == -signal.SIGKILL
    stopper.join()
    eventually(lambda: not any(alive(int(p)) for p in pids.read_text().split()), 10)


def test_stop_after_the_end_does_nothing() -> None:
    """Stopping what has ended is no error."""
    child = start("exit 0")
    child.follow(lambda _: None)
    child.stop()


def test_an_exception_stops_the_child_in_order(tmp_path: Path) -> None:
    """A time-out that is raised while following gives the child its SIGTERM before it is killed."""
    mark = tmp_path / "mark"
    child = start(f"trap 'touch {mark}; exit 143' TERM; echo ready; while :; do sleep 0.05; done")

    def say(_: str) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        child.follow(say)
    assert mark.exists()


def test_the_child_knows_who_started_it() -> None:
    """It can find out that we have ended, also before it could ask the kernel."""
    lines: list[str] = []
    start(f"echo ${TASK_VARIABLE}").follow(lines.append)
    assert lines == [str(os.getpid())]


@pytest.mark.parametrize("says", ["", "echo more;"], ids=["silent", "talkative"])
def test_a_supervisor_that_is_killed_takes_the_child_along(tmp_path: Path, says: str) -> None:
    """The worker of a task gets SIGKILL: the task notices, ends its child in order, and ends itself."""
    mark, pids = tmp_path / "mark", tmp_path / "pids"
    script = f"trap 'touch {mark}; exit 143' TERM; echo $$ > {pids}; while :; do {says} sleep 0.05; done"
    task = textwrap.dedent(f"""
        import os
        from airberg_airflow.child import Child
        Child(["/bin/sh", "-c", {script!r}], dict(os.environ), 4.0).follow(lambda line: None)
    """)
    worker = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {task!r}])"
    with subprocess.Popen([sys.executable, "-c", worker], stderr=subprocess.DEVNULL) as supervisor:
        eventually(lambda: pids.exists() and pids.read_text().endswith("\n"), 20)
        running = [*psutil.Process(supervisor.pid).children(recursive=True)]
        assert int(pids.read_text()) in {process.pid for process in running}
        supervisor.kill()
    eventually(lambda: not any(alive(process.pid) for process in running), 10)
    assert mark.exists()


def test_the_environment_has_nothing_of_airflow() -> None:
    """Airflow's settings, its paths and the machine token are dropped; all else is passed on."""
    given = {
        "AIRFLOW__CORE__FERNET_KEY": "x",
        "_AIRFLOW_PROCESS": "x",
        "AIRFLOW_HOME": "x",
        "PYTHONPATH": "x",
        "AIRBERG_AIRFLOW__BUNDLE_TOKEN": "x",
        "AIRBERG_HOME": "/data",
        "AIRBERG_AIRFLOW__PORT": "1",
        "PATH": "/bin",
    }
    assert child_environment(given) == {
        "AIRBERG_HOME": "/data",
        "AIRBERG_AIRFLOW__PORT": "1",
        "PATH": "/bin",
        "PYTHONUNBUFFERED": "1",
    }


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and waits for its parent does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
