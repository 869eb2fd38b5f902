#!/usr/bin/env python3
"""A connector that misbehaves: `hostile_source.py BEHAVIOUR MARK FOLDER VERB [--config FILE …]`.

MARK is in the arguments of every process that it starts, so that a test can look for them. FOLDER is outside
of what Airberg gives it: what the test wants to know is written there. A behaviour ends the process itself or
returns, and then the verb is answered as a good connector would.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEHAVIOUR, MARK, FOLDER, VERB = sys.argv[1:5]
OPTIONS = dict(zip(sys.argv[5::2], sys.argv[6::2], strict=False))
PASSWORD = ""
if "--config" in OPTIONS:
    PASSWORD = json.loads(Path(OPTIONS["--config"]).read_text()).get("password", "")


def emit(message: dict[str, Any]) -> None:
    """Write a message."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def note(name: str, content: str) -> None:
    """Tell the test something."""
    with (Path(FOLDER) / name).open("a") as file:
        file.write(content + "\n")


def answer() -> None:
    """What a good connector says."""
    schema = {"type": "object", "properties": {"password": {"type": "string", "airbyte_secret": True}}}
    stream = {"name": "users", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    status = {"type": "STREAM_STATUS", "stream_status": {"stream_descriptor": {"name": "users"}}}
    status["stream_status"]["status"] = "COMPLETE"  # type: ignore[index]
    answers = {
        "spec": {"type": "SPEC", "spec": {"connectionSpecification": schema}},
        "check": {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}},
        "discover": {"type": "CATALOG", "catalog": {"streams": [stream]}},
        "read": {"type": "TRACE", "trace": status},
    }
    emit(answers[VERB])


def wait() -> None:
    """For ever."""
    while True:
        time.sleep(60)


def endless(data: bytes, descriptor: int) -> None:
    """Write the same again and again."""
    block = data * (1 + 65_536 // len(data))
    while True:
        os.write(descriptor, block)


# ---- behaviours --------------------------------------------------------------------------------------------


def ignore_sigterm() -> None:
    """Never end, not even when asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()


def log_for_ever() -> None:
    """A sign of life now and then, but nothing else."""
    while True:
        emit({"type": "LOG", "log": {"level": "INFO", "message": "still busy"}})
        time.sleep(0.02)


def allocate(step: int = 8 * 2**20) -> None:
    """Take memory, and use it."""
    kept = []
    while True:
        kept.append(bytearray(os.urandom(4096)) * (step // 4096))


def allocate_in_children() -> None:
    """None of the processes has much."""
    for _ in range(6):
        if os.fork() == 0:
            kept = [bytearray(os.urandom(4096)) * (10 * 2**20 // 4096) for _ in range(6)]
            wait()
            note("never", str(len(kept)))
    wait()


def reserve() -> None:
    """Much more than there is, in one piece that is never touched."""
    note("never", str(len(bytearray(64 * 2**30))))


def daemons_so_far() -> list[str]:
    """Those that have told their process id."""
    file = Path(FOLDER) / "daemons"
    return file.read_text().split() if file.exists() else []


def daemons() -> None:
    """Children in sessions and groups of their own, orphaned twice, with nothing that leads back to us."""
    for number in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setpgid(0, 0)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                os.closerange(0 if VERB != "read" else 3, 64)  # a read has to end although its pipe is held
                note("daemons", str(os.getpid()))
                if number == 3:
                    os.execve(  # noqa: S606
                        sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", MARK], {}
                    )
                wait()
            os._exit(0)
    while len(daemons_so_far()) < 4:
        time.sleep(0.01)


def fork_without_end() -> None:
    """More and more processes, each a session of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if os.fork() == 0:
            os.setsid()
            wait()
        time.sleep(0.002)


def kill_parent() -> None:
    """End who watches, then go on with a child in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)
        note("daemons", str(os.getpid()))
        wait()
    while not daemons_so_far():
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGKILL)
    wait()


def close_stdout() -> None:
    """Nobody hears it any more, but it goes on."""
    os.close(1)
    wait()


def litter() -> None:
    """Files everywhere that it was given, folders that cannot be entered or are too deep for a path."""
    os.environ["AIRBERG_HOME"] = "/nowhere"
    for place in (Path.home(), Path(os.environ["TMPDIR"]), Path(OPTIONS.get("--config", "x")).parent):
        (place / "password.txt").write_text(PASSWORD)
        for number in range(300):
            (place / f"left-{number}").write_bytes(b"x" * 4096)
        (place / "closed" / "inner").mkdir(parents=True, exist_ok=True)
        (place / "closed").chmod(0)
    os.chdir(Path.home())
    for _ in range(1050):
        os.mkdir("deep-enough-for-a-path-to-be-too-long")  # noqa: PTH102
        os.chdir("deep-enough-for-a-path-to-be-too-long")


def fill_disk() -> None:
    """Many files."""
    number = 0
    while True:
        number += 1
        (Path.home() / f"part-{number}").write_bytes(b"x" * 262_144)


def fill_memory_folder() -> None:
    """Files beside the configuration, which is in memory."""
    number = 0
    while True:
        number += 1
        (Path(OPTIONS["--config"]).parent / f"part-{number}").write_bytes(b"x" * 262_144)


def fill_one_file() -> None:
    """One file."""
    with (Path.home() / "big").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 262_144)


def open_files() -> None:
    """All the files that there are."""
    kept = []
    while True:
        kept.append(open("/dev/null", "rb"))  # noqa: SIM115, PTH123


def huge_answer() -> None:
    """An answer of 50 MB, of valid JSON."""
    text = "x" * (50 * 2**20)
    emit({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object", "title": text}}})


def secrets_everywhere() -> None:
    """The password in all that can be written."""
    error = {"message": f"no: {PASSWORD}", "internal_message": PASSWORD, "stack_trace": PASSWORD}
    emit({"type": "LOG", "log": {"level": "ERROR", "message": f"pw {PASSWORD}", "stack_trace": PASSWORD}})
    sys.stdout.write(f"config: {{'password': '{PASSWORD}'}}\n{PASSWORD[:9]}\x1b[1m{PASSWORD[9:]}\n")
    sys.stdout.flush()
    if MARK.endswith("trace"):
        emit({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1, "error": error}})
    raise RuntimeError(f"cannot log in with {PASSWORD}")


def control(config: Any) -> Callable[[], None]:
    """Hands out a configuration."""
    body = {"type": "CONNECTOR_CONFIG", "emitted_at": 1, "connectorConfig": {"config": config}}
    return lambda: emit({"type": "CONTROL", "control": body})


def limits() -> None:
    """Tell what it was given."""
    names = ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_AS", "RLIMIT_NPROC")
    found = {name: resource.getrlimit(getattr(resource, name)) for name in names}
    umask = os.umask(0)
    facts = {"limits": found, "umask": umask, "environment": sorted(os.environ), "session": os.getsid(0)}
    note("limits", json.dumps(facts | {"group": os.getpgrp(), "pid": os.getpid()}))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m \x9b1mC1 \u202egnihton\u202c\rover\n2026-01-01 INFO fake"
BEHAVIOURS: dict[str, Callable[[], Any]] = {
    "good": lambda: None,
    "never-end": wait,
    "ignore-sigterm": ignore_sigterm,
    "log-for-ever": log_for_ever,
    "flood-stderr": lambda: endless(b"noise on stderr " * 50 + b"\n", 2),
    "flood-stdout": lambda: endless(b"noise on stdout " * 50 + b"\n", 1),
    "flood-log": lambda: endless(
        b'{"type":"LOG","log":{"level":"INFO","message":"' + b"noise " * 99 + b'"}}\n', 1
    ),
    "endless-line": lambda: endless(b'{"type":"RECORD" xxxx', 1),
    "endless-line-on-stderr": lambda: endless(b"no line end ", 2),
    "allocate": allocate,
    "allocate-in-children": allocate_in_children,
    "reserve": reserve,
    "daemons": daemons,
    "fork-without-end": fork_without_end,
    "kill-parent": kill_parent,
    "close-stdout": close_stdout,
    "litter": litter,
    "fill-disk": fill_disk,
    "fill-memory-folder": fill_memory_folder,
    "fill-one-file": fill_one_file,
    "open-files": open_files,
    "huge-answer": huge_answer,
    "spec-list": lambda: (emit({"type": "SPEC", "spec": []}), os._exit(0)),
    "spec-text": lambda: (
        emit({"type": "SPEC", "spec": {"connectionSpecification": "object"}}),
        os._exit(0),
    ),
    "spec-empty": lambda: (emit({"type": "SPEC", "spec": {}}), os._exit(0)),
    "html": lambda: (os.write(1, b"<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n"), os._exit(0)),
    "secrets": secrets_everywhere,
    "bad-utf8": lambda: os.write(
        1, b'{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"\xff\xfe"}}}\n'
    ),
    "bad-utf8-text": lambda: (os.write(1, b"caf\xe9 \xff\xfe\n"), os.write(2, b"caf\xe9\n"), os._exit(3)),
    "escapes": lambda: (
        emit({"type": "LOG", "log": {"level": "INFO", "message": ESCAPES}}),
        os.write(1, f"plain {ESCAPES}\n".encode()),
        os.write(2, ESCAPES.encode()),
        os._exit(4),
    ),
    "config-list": control(["garbage"]),
    "config-text": control("garbage"),
    "config-empty": control({}),
    "config-wrong": control({"password": {"not": "a text"}}),
    "config-huge": control({"password": "x" * 2_000_000}),
    "config-good": control({"password": "renewed-password"}),
    "exit-0": lambda: os._exit(0),
    "exit-137": lambda: os._exit(137),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "limits": limits,
}

if __name__ == "__main__":
    BEHAVIOURS[BEHAVIOUR]()
    answer()
