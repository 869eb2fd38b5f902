"""Processes of the stack: started, watched, and ended with all that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airberg.errors import TransientFailed
from airberg.stack.supervisor import LOG_LIMIT_BYTES, Command, Supervisor
from support.conditions import eventually

# A tree as Airflow's: a child in the group, one in a session of its own that ignores SIGTERM, and an orphan.
TREE = textwrap.dedent("""
    import os, signal, subprocess, sys, time
    def note(pid):
        with open(sys.argv[1], "a") as f:
            f.write(f"{pid}\\n")
    note(os.getpid())
    note(subprocess.Popen(["sleep", "600"]).pid)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    note(subprocess.Popen([sys.executable, "-S", "-c", stubborn], start_new_session=True).pid)
    note(int(subprocess.check_output(["sh", "-c", "setsid sleep 600 >/dev/null & echo $!"])))
    note("ready")
    time.sleep(600)
""")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor that is stopped at the end."""
    made = Supervisor(tmp_path / "logs")
    yield made
    made.stop()


def command(
    tmp_path: Path, *argv: str, name: str = "part", grace_s: float = 0.3, first: bool = False
) -> Command:
    """A command with the environment of the test."""
    return Command(name, argv, dict(os.environ), tmp_path, grace_s, stop_first=first)


def tree(pids: Path) -> list[int]:
    """Process ids of a started tree."""
    lines = eventually(
        lambda: (t := pids.exists() and pids.read_text().split()) and t[-1] == "ready" and t, 20
    )
    assert len(lines) == 5
    return [int(line) for line in lines[:-1]]


def alive(pids: list[int]) -> list[int]:
    """Those that run."""
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


def test_stop_ends_the_whole_tree(supervisor: Supervisor, tmp_path: Path) -> None:
    """Children in other sessions, stubborn ones and orphans end with the command."""
    pids = tmp_path / "pids"
    supervisor.start(command(tmp_path, sys.executable, "-c", TREE, str(pids)))
    started = tree(pids)
    assert alive(started) == started
    supervisor.stop()
    assert alive(started) == []


def test_stop_leaves_no_zombie(supervisor: Supervisor, tmp_path: Path) -> None:
    """The keeper reaps whatever ends while it stops the tree: no process is left in any state."""
    others = set(psutil.Process().children(recursive=True))  # of the session's fixtures
    for n in range(8):
        script = f"trap 'exit 0' TERM; touch ready-{n}; while :; do sleep 0.01; done"
        supervisor.start(command(tmp_path, "/bin/sh", "-c", script, name=f"part-{n}"))
    eventually(lambda: len(list(tmp_path.glob("ready-*"))) == 8, 20)
    running = set(psutil.Process().children(recursive=True)) - others
    assert len(running) >= 16  # a keeper and a shell each
    supervisor.stop()
    assert [p for p in running if p.is_running()] == []


def test_nothing_survives_a_killed_supervisor(tmp_path: Path) -> None:
    """When the process that started the stack is killed with SIGKILL, the tree ends by itself."""
    pids = tmp_path / "pids"
    script = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from airberg.stack.supervisor import Command, Supervisor
        home = Path({str(tmp_path)!r})
        argv = (sys.executable, "-c", {TREE!r}, {str(pids)!r})
        Supervisor(home / "logs").start(Command("part", argv, dict(os.environ), home, 0.3))
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        started = tree(pids)
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: not alive(started), 30)


def test_nothing_survives_the_end_of_the_command(supervisor: Supervisor, tmp_path: Path) -> None:
    """When the command is killed from outside, what it had started ends too, and its end is told."""
    pids = tmp_path / "pids"
    kept = supervisor.start(command(tmp_path, sys.executable, "-c", TREE, str(pids)))
    started = tree(pids)
    os.kill(started[0], signal.SIGKILL)
    assert kept.wait(30) == 128 + signal.SIGKILL
    assert alive(started) == []
    with pytest.raises(TransientFailed):
        supervisor.check()


def test_a_killed_keeper_takes_its_command_along(supervisor: Supervisor, tmp_path: Path) -> None:
    """The command does not go on unkept."""
    kept = supervisor.start(command(tmp_path, "/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"))
    pid = int(eventually(lambda: (p := tmp_path / "pid").exists() and p.read_text().strip(), 20))
    os.kill(kept.pid, signal.SIGKILL)
    eventually(lambda: not alive([pid]), 20)


def test_an_early_end_is_told_with_the_last_lines(supervisor: Supervisor, tmp_path: Path) -> None:
    """The message names the part, its exit code, last lines and its log; no line of an earlier run."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "part.log").write_text("a line of an earlier run\n")
    kept = supervisor.start(command(tmp_path, "/bin/sh", "-c", "seq 1 40; echo no space left >&2; exit 7"))
    assert kept.wait(20) == 7
    with pytest.raises(TransientFailed) as caught:
        supervisor.check()
    assert "part ended with exit code 7" in caught.value.message
    assert caught.value.message.endswith("39\n40\nno space left")
    assert "earlier run" not in caught.value.message
    assert "\n20\n" not in caught.value.message
    assert str(tmp_path / "logs" / "part.log") in caught.value.guidance


def test_a_command_that_does_not_exist(supervisor: Supervisor, tmp_path: Path) -> None:
    """It ends with the shell's code for that, and a line that says why."""
    code, lines = supervisor.run(command(tmp_path, str(tmp_path / "missing")))
    assert code == 127
    assert "No such file" in lines


def test_run_gives_code_and_lines(supervisor: Supervisor, tmp_path: Path) -> None:
    """A tool is run to its end; its own leftovers end with it."""
    code, lines = supervisor.run(command(tmp_path, "/bin/sh", "-c", "sleep 600 & echo $!; exit 4"))
    assert code == 4
    assert alive([int(lines)]) == []
    supervisor.check()


def test_the_command_has_its_own_environment_and_no_input(supervisor: Supervisor, tmp_path: Path) -> None:
    """Nothing of ours is inherited: neither variables nor standard input nor other descriptors."""
    script = (
        "import os, sys; fds = sorted(os.listdir('/proc/self/fd'));"
        "print(sorted(os.environ), repr(sys.stdin.read()), fds)"
    )
    only = Command("part", (sys.executable, "-I", "-c", script), {"ONLY": "this"}, tmp_path)
    code, lines = supervisor.run(only)
    assert code == 0
    names, rest = lines.split("]", 1)
    assert set(names.strip("[").replace("'", "").split(", ")) <= {"ONLY", "LC_CTYPE"}
    assert rest.startswith(" '' ['0', '1', '2', '3'")
    assert "'6'" not in rest


def test_some_are_stopped_before_others(supervisor: Supervisor, tmp_path: Path) -> None:
    """A part that needs another one while it ends is stopped first."""
    script = 'trap "echo $0 >> order; exit 0" TERM; touch ready-$0; while :; do sleep 0.05; done'
    for name, first in (("server", False), ("scheduler", True)):
        supervisor.start(
            command(tmp_path, "/bin/sh", "-c", script, name, name=name, grace_s=10.0, first=first)
        )
    eventually(lambda: len(list(tmp_path.glob("ready-*"))) == 2, 20)
    supervisor.stop()
    assert (tmp_path / "order").read_text().split() == ["scheduler", "server"]


def test_nothing_starts_once_it_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    """A step of the start that comes too late does not leave a process behind."""
    supervisor.stop()
    supervisor.stop()
    with pytest.raises(TransientFailed):
        supervisor.start(command(tmp_path, "sleep", "600"))
    with pytest.raises(TransientFailed):
        supervisor.run(command(tmp_path, "sleep", "600"))


def test_a_large_log_is_put_aside(supervisor: Supervisor, tmp_path: Path) -> None:
    """Logs do not grow without end: at a start a large one becomes the old one."""
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / "part.log").open("wb") as log:
        log.truncate(LOG_LIMIT_BYTES + 1)
    supervisor.run(command(tmp_path, "/bin/echo", "new"))
    assert (tmp_path / "logs" / "part.log").read_text() == "new\n"
    assert (tmp_path / "logs" / "part.log.1").stat().st_size == LOG_LIMIT_BYTES + 1
