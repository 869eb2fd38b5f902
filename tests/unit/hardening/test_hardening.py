"""What a process tells and leaves when it ends in a way that nobody expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airberg.errors import TransientFailed
from airberg.traces import lines_of_code

CANARY = "pl4nted-value"


def ended(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of ours that does something bad."""
    start = "from airberg.hardening import *\nforbid_core_dumps(); log_without_messages()\n"
    return subprocess.run(
        [sys.executable, "-c", start + body], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "body",
    [
        f"raise ValueError('{CANARY}')",
        f"import threading\ndef f(): raise ValueError('{CANARY}')\nthreading.Thread(target=f).start()",
        f"class A:\n def __del__(self): raise ValueError('{CANARY}')\nA()",
        f"try:\n raise ValueError('{CANARY}')\nexcept ValueError: {{}}['x']",
        f"try:\n raise ValueError('{CANARY}')\nexcept ValueError as e: raise KeyError('{CANARY}') from e",
        f"try:\n raise ValueError('{CANARY}')\nexcept ValueError: raise KeyboardInterrupt",
    ],
    ids=["at the end", "in a thread", "in a destructor", "in a handler", "with a cause", "at Ctrl-C"],
)
def test_messages_of_exceptions_are_not_told(body: str, tmp_path: Path) -> None:
    """Where it happened and what kind of exception it was, not what it says."""
    process = ended(body, tmp_path)
    assert "ValueError" in process.stderr
    assert CANARY not in process.stdout + process.stderr


def test_exit_codes_stay(tmp_path: Path) -> None:
    """An exception that nobody catches still fails the process."""
    assert ended("raise ValueError", tmp_path).returncode == 1
    assert ended("raise SystemExit(7)", tmp_path).returncode == 7


def test_no_core_is_dumped(tmp_path: Path) -> None:
    """Neither by a process of ours nor by one that it starts; the limit cannot be lifted again."""
    report = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    process = ended(f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{report}'])", tmp_path)
    assert process.stdout.strip() in ("(1, 1)", "(0, 0)")
    crash = f"kept = '{CANARY}' * 1000\nimport os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert ended(crash, tmp_path).returncode < 0
    assert list(tmp_path.iterdir()) == []


def test_lines_of_code_of_an_error() -> None:
    """The chain with its types; messages of our own errors, which hold no values."""
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as e:
            raise TransientFailed("The source is away.") from e
    except TransientFailed as e:
        told = lines_of_code(e)
    assert "airberg.errors.TransientFailed: The source is away." in told
    assert "test_hardening.py" in told
    assert told.endswith("builtins.ValueError")
