"""Connectors that misbehave: each gets a clear error within its limit, and nothing of it is left."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from airberg.errors import ConfigurationFailed, RunError, TransientFailed
from airberg.jobs.model import RunReport
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Log
from airberg.protocol.state import StateKey
from airberg.sources import workspace
from airberg.sources.launch import LaunchDescription
from airberg.sources.limits import Limits
from airberg.sources.read import ReadProcess
from airberg.sources.redact import MASK
from airberg.sources.verbs import Inquiry, specification
from airberg.sync.connector_log import ConnectorLog
from airberg.sync.progress import LogDisplay, ProgressKeeper
from airberg.sync.read import Reader
from airberg.sync.texts import ConnectorTexts
from support.connectors.scenarios import PASSWORD, SPEC, configured
from support.connectors.waiting import gone, until

MIB = 2**20
SCRIPT = Path(__file__).parents[2] / "support" / "connectors" / "hostile_source.py"
VERBS = ("spec", "check", "discover", "read")
NARROW = Limits(memory_bytes=150 * MIB, disk_bytes=8 * MIB, open_files=64, processes=24, log_bytes=4 * MIB)
SCHEMA = {"type": "object", "required": ["password"], "properties": SPEC["properties"]}


class Hostile:
    """Asks the connector that misbehaves, and looks for what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"hostile-{uuid.uuid4().hex}"
        self.notes = folder / "notes"
        self.config = {"password": PASSWORD}
        self.renewed: list[dict[str, Any]] = []
        self.notes.mkdir()

    def launch(self, behaviour: str, limits: Limits = NARROW) -> LaunchDescription:
        """How it is started."""
        argv = (sys.executable, "-I", str(SCRIPT), behaviour, self.mark, str(self.notes))
        return LaunchDescription(
            source_name="source-hostile", version="local", argv=argv, spec=SCHEMA, limits=limits
        )

    def ask(
        self, verb: str, behaviour: str, limits: Limits = NARROW, timeout_s: float = 20, **options: Any
    ) -> object:
        """The answer to a verb, as the service (`spec`, `check`, `discover`) and a run (`read`) get it."""
        launch = self.launch(behaviour, limits)
        if verb == "spec":
            return specification(launch, timeout_s)
        if verb == "read":
            self.read(launch, read_timeout_s=timeout_s, **options)
            return None
        with Inquiry(launch, verb, self.config, self.renewed.append) as inquiry:
            return inquiry.answer(timeout_s)

    def read(self, launch: LaunchDescription, **options: Any) -> None:
        """Read it to its end."""
        with ReadProcess(launch, self.config, configured("users"), **{"grace_s": 0.2} | options) as process:
            texts = ConnectorTexts(protects=False)
            texts.redactor = process.redactor
            ledger = Ledger([StateKey(None, "users")], redact=texts.told)
            reader = Reader(
                {},
                ledger,
                native=None,
                on_config=self.renewed.append,
                progress=ProgressKeeper(RunReport, lambda _: None, LogDisplay()),
                connector_log=ConnectorLog(texts, launch.limits, shown_bytes=MIB),
            )
            reader.consume(process.line_blocks())
        ledger.verdict(process.exit_code, process.stderr_tail)

    def error(self, verb: str, behaviour: str, limits: Limits = NARROW, **options: Any) -> RunError:
        """The error that it ends with."""
        with pytest.raises(RunError) as caught:
            self.ask(verb, behaviour, limits, **options)
        text = f"{caught.value.message} {caught.value.guidance} {caught.value.__cause__}"
        assert PASSWORD not in text
        assert "\x1b" not in text
        return caught.value

    def daemons(self) -> list[int]:
        """What it has started to outlive it."""
        return [int(pid) for pid in (self.notes / "daemons").read_text().split()]

    def processes(self) -> list[psutil.Process]:
        """All its processes that still are."""
        found = []
        for process in psutil.process_iter():
            try:
                if self.mark in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """The connector; afterwards there is no process, no file and no secret of it."""
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(workspace, "_MEMORY", memory)
    made = Hostile(tmp_path)
    try:
        yield made
        assert made.processes() == []
        assert [*disk.iterdir(), *memory.iterdir()] == []
    finally:
        for process in made.processes():  # of a test that failed
            process.kill()


# ---- it does not end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_one_that_never_ends_is_ended(hostile: Hostile, verb: str) -> None:
    """Each verb has its time."""
    error = hostile.error(verb, "never-end", timeout_s=0.3)
    assert error.code in ("connector-timeout", "connector-idle")
    assert isinstance(error, TransientFailed)


def test_one_that_ignores_sigterm_is_ended(hostile: Hostile) -> None:
    """After its time to end by itself is over, too."""
    assert hostile.error("read", "ignore-sigterm", idle_timeout_s=0.3).code == "connector-idle"


def test_signs_of_life_do_not_keep_a_read_for_ever(hostile: Hostile) -> None:
    """A read that is never silent ends, too."""
    assert hostile.error("read", "log-for-ever", timeout_s=0.5).code == "connector-timeout"


@pytest.mark.parametrize("verb", ["check", "read"])
def test_one_that_closes_its_output_is_ended(hostile: Hostile, verb: str) -> None:
    """Nothing can come any more."""
    error = hostile.error(verb, "close-stdout")
    assert error.code == "connector-exited"
    assert "signal 15 (it was asked to end)" in error.message


# ---- too much ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("where", ["flood-stderr", "flood-stdout", "flood-log", "endless-line-on-stderr"])
def test_endless_log_is_ended(
    hostile: Hostile, verb: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is written to, it is bounded, and so is what we write of it."""
    caplog.set_level(logging.INFO)
    error = hostile.error(verb, where)
    assert error.code == "connector-log"
    assert "more than 4 MiB of log lines" in error.message
    assert len(caplog.text) < 4 * MIB


def test_shown_log_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Long before a read is ended, its log is no longer copied into ours; long messages are cut."""
    caplog.set_level(logging.INFO)
    shown = ConnectorLog(ConnectorTexts(protects=False), Limits(log_bytes=100 * MIB), shown_bytes=50_000)
    for _ in range(100):
        shown.add(Log("INFO", "x" * 500_000), 500_000)
    assert len(caplog.text) < 80_000
    assert caplog.text.count("further messages are left out") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_endless_line_is_ended(hostile: Hostile, verb: str) -> None:
    """A line of gigabytes never fills our memory."""
    error = hostile.error(verb, "endless-line", msgspec.structs.replace(NARROW, log_bytes=0))
    assert error.code == "line-too-long"


@pytest.mark.parametrize("verb", VERBS)
def test_memory_without_bound_is_ended(hostile: Hostile, verb: str) -> None:
    """The limit is named, and the setting that raises it."""
    error = hostile.error(verb, "allocate")
    assert error.code == "connector-memory"
    assert "more than 150 MiB of memory" in error.message
    assert "AIRBERG_SOURCES__MAX_MEMORY_BYTES" in error.guidance


def test_memory_of_all_its_processes_counts(hostile: Hostile) -> None:
    """Six processes of 60 MiB are too much."""
    assert hostile.error("check", "allocate-in-children").code == "connector-memory"


def test_memory_that_cannot_be_is_refused_at_once(hostile: Hostile) -> None:
    """Between two looks the kernel refuses what is far over the limit."""
    error = hostile.error("check", "reserve")
    assert error.code == "connector-exited"
    assert "MemoryError" in error.message


@pytest.mark.parametrize("verb", ["check", "read"])
def test_processes_without_end_are_ended(hostile: Hostile, verb: str) -> None:
    """Each in a session of its own."""
    error = hostile.error(verb, "fork-without-end")
    assert error.code == "connector-processes"
    assert "more than 24 processes" in error.message


@pytest.mark.parametrize("verb", ["check", "read"])
def test_full_disk_is_prevented(hostile: Hostile, verb: str) -> None:
    """Many files together."""
    assert hostile.error(verb, "fill-disk").code == "connector-disk"


def test_files_in_memory_count_as_memory(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration's folder is in memory, and a connector may write there."""
    memory = Path("/dev/shm")
    if not memory.is_mount():
        pytest.skip("no memory-backed folder here")
    monkeypatch.setattr(workspace, "_MEMORY", memory)
    limits = msgspec.structs.replace(NARROW, memory_bytes=64 * MIB, disk_bytes=0)
    assert hostile.error("check", "fill-memory-folder", limits).code == "connector-memory"
    marked = [f for f in memory.glob("airberg-run-*/part-1") if f.stat().st_uid == os.getuid()]
    assert marked == []


def test_one_file_has_a_limit(hostile: Hostile) -> None:
    """The kernel holds it."""
    assert "File too large" in hostile.error("check", "fill-one-file").message


def test_open_files_have_a_limit(hostile: Hostile) -> None:
    """The kernel holds it."""
    assert "Too many open files" in hostile.error("read", "open-files").message


def test_limits_are_those_of_the_description(hostile: Hostile) -> None:
    """No core, also where cores go to a program; address space and the user's processes are not limited."""
    before = {which: resource.getrlimit(which) for which in (resource.RLIMIT_CORE, resource.RLIMIT_AS)}
    hostile.ask("check", "limits")
    facts = json.loads((hostile.notes / "limits").read_text())
    assert facts["limits"]["RLIMIT_CORE"] in ([0, 0], [1, 1])
    assert facts["limits"]["RLIMIT_NOFILE"] == [64, 64]
    assert facts["limits"]["RLIMIT_FSIZE"] == [8 * MIB, 8 * MIB]
    assert facts["limits"]["RLIMIT_DATA"] == [300 * MIB, 300 * MIB]
    assert tuple(facts["limits"]["RLIMIT_AS"]) == before[resource.RLIMIT_AS]
    assert facts["limits"]["RLIMIT_NPROC"] == list(resource.getrlimit(resource.RLIMIT_NPROC))
    assert facts["umask"] == 0o077
    assert facts["pid"] == facts["group"] == facts["session"]


def test_core_is_not_dumped(hostile: Hostile) -> None:
    """It would hold the secrets. Cores are allowed to us here, as on some machines."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pytest.skip("only root may allow cores here")
    try:
        hostile.ask("check", "limits")
        error = hostile.error("check", "crash")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert json.loads((hostile.notes / "limits").read_text())["limits"]["RLIMIT_CORE"] == [1, 1]
    assert "signal 11 (it crashed)" in error.message


def test_environment_is_what_is_listed(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes along by itself, whatever it is called."""
    for name in (
        "AIRBERG_KEYS__MASTER_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "PYTHONPATH",
        "LD_PRELOAD_X",
        "ANYTHING",
    ):
        monkeypatch.setenv(name, "x")
    hostile.ask("check", "limits")
    allowed = {
        "PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "HOME",
        "TMPDIR",
        "TMP",
        "TEMP",
        "DO_NOT_TRACK",
        "AIRBERG_CONNECTOR",
    }
    names = {
        n
        for n in os.environ
        if n.lower().endswith("_proxy") or n.endswith(("CERT_FILE", "CERT_DIR", "CA_BUNDLE"))
    }
    assert set(json.loads((hostile.notes / "limits").read_text())["environment"]) <= allowed | names


# ---- what it leaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_daemons_do_not_outlive_it(hostile: Hostile, verb: str) -> None:
    """Double forks, sessions and groups of their own, no pipe, no environment: none of them helps."""
    hostile.ask(verb, "daemons")
    assert len(hostile.daemons()) == 4
    assert all(gone(pid) for pid in hostile.daemons())


def test_nothing_outlives_our_own_death(hostile: Hostile, tmp_path: Path) -> None:
    """Killed, we cannot clean up: the shim ends them all and removes the files of the run."""
    code = (
        "import sys, tempfile, msgspec; from pathlib import Path\n"
        "from airberg.sources import workspace\n"
        "from airberg.sources.launch import LaunchDescription\n"
        "from airberg.sources.read import ReadProcess\n"
        "tempfile.tempdir, workspace._MEMORY = sys.argv[1], Path(sys.argv[2])\n"
        "launch = msgspec.json.decode(sys.argv[3], type=LaunchDescription)\n"
        "process = ReadProcess(launch, {'password': 'p'}, {'streams': []}, grace_s=600)\n"
        "list(process.lines())\n"
    )
    launch = hostile.launch("kill-parent")
    daemons = msgspec.structs.replace(launch, argv=(*launch.argv[:3], "daemons", *launch.argv[4:]))
    keeps = msgspec.structs.replace(daemons, argv=("/bin/sh", "-c", '"$@"; sleep 600', "sh", *daemons.argv))
    arguments = [str(tmp_path / "disk"), str(tmp_path / "memory"), msgspec.json.encode(keeps).decode()]
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ | path) as ours:
        try:
            until((hostile.notes / "daemons").exists)
            until(lambda: len(hostile.daemons()) == 4)
            # Its configuration goes with its first message, which may have come already.
            assert [*(tmp_path / "memory").glob("*/catalog.json")]
        finally:
            ours.kill()  # also when something is wrong: leaving the block waits for it
    until(lambda: all(gone(pid) for pid in hostile.daemons()))
    until(lambda: not [*(tmp_path / "disk").iterdir(), *(tmp_path / "memory").iterdir()])
    until(lambda: not hostile.processes())  # the shim ends last


def test_one_that_kills_its_watcher_is_ended(hostile: Hostile) -> None:
    """Without the shim its processes are known by a mark in their environment."""
    error = hostile.error("check", "kill-parent")
    assert error.code == "connector-exited"
    until(lambda: all(gone(pid) for pid in hostile.daemons()))


def test_litter_is_removed(hostile: Hostile) -> None:
    """Files, folders without permissions, paths that are too long: the fixture finds nothing."""
    hostile.ask("read", "litter")


# ---- what it says ------------------------------------------------------------------------------------------


def test_specification_is_asked_for(hostile: Hostile) -> None:
    """The way in which a good one answers."""
    schema: Any = hostile.ask("spec", "good")
    assert schema["properties"]["password"]["airbyte_secret"] is True


def test_huge_specification_is_refused(hostile: Hostile) -> None:
    """50 MB of it."""
    error = hostile.error("spec", "huge-answer", Limits())
    assert error.code == "line-too-long"
    assert "more than 8 MiB" in error.message
    assert "is this a connector?" in error.guidance


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("spec-list", "malformed-message"),
        ("spec-text", "connector-specification"),
        ("spec-empty", "connector-specification"),
    ],
)
def test_specification_that_is_none_is_refused(hostile: Hostile, behaviour: str, code: str) -> None:
    """It has to be an object with an object."""
    assert hostile.error("spec", behaviour).code == code


@pytest.mark.parametrize("verb", ["spec", "check", "discover"])
def test_html_is_no_answer(hostile: Hostile, verb: str) -> None:
    """The error shows what was written instead."""
    error = hostile.error(verb, "html")
    assert error.code == "connector-exited"
    assert f"No answer to `{verb}`" in error.message
    assert "<title>502 Bad Gateway</title>" in error.message


@pytest.mark.parametrize("verb", ["spec", "check", "discover"])
def test_end_without_an_answer_is_an_error(hostile: Hostile, verb: str) -> None:
    """Exit code 0 is no answer."""
    error = hostile.error(verb, "exit-0")
    assert error.code == "connector-exited"
    assert error.message == f"No answer to `{verb}`: The connector ended with exit code 0."


@pytest.mark.parametrize("verb", VERBS)
def test_137_is_explained(hostile: Hostile, verb: str) -> None:
    """It is what an engine of containers says of SIGKILL."""
    error = hostile.error(verb, "exit-137")
    assert error.code == "connector-exited"
    assert "exit code 137 (out of memory?)" in error.message


@pytest.mark.parametrize("verb", ["check", "discover", "read"])
@pytest.mark.parametrize("trace", ["", "-trace"])
def test_secrets_are_hidden_wherever_they_are_written(
    hostile: Hostile, verb: str, trace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In a log, a plain line, an error, a traceback, and with an escape sequence in the middle."""
    caplog.set_level(logging.DEBUG)
    hostile.mark += trace
    error = hostile.error(verb, "secrets")
    assert error.code == ("connector-error" if trace else "connector-exited")
    assert MASK in error.message
    for piece in (PASSWORD, PASSWORD[9:]):
        assert piece not in caplog.text + repr(error) + error.sentence()


@pytest.mark.parametrize("verb", VERBS)
def test_bytes_that_are_no_text(hostile: Hostile, verb: str) -> None:
    """In a message they are an error, elsewhere they are replaced."""
    assert hostile.error(verb, "bad-utf8").code == "malformed-message"
    assert "caf\ufffd" in hostile.error(verb, "bad-utf8-text").message


@pytest.mark.parametrize("verb", VERBS)
def test_terminal_is_not_steered(hostile: Hostile, verb: str, caplog: pytest.LogCaptureFixture) -> None:
    """No sequence, no mark of direction, and no line that could pass for one of ours."""
    caplog.set_level(logging.INFO)
    error = hostile.error(verb, "escapes")
    for text in (error.message, caplog.text):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\u202c"}
        assert "owned" not in text
    assert not [line for line in caplog.text.splitlines() if line.startswith("2026")]
    assert "red C1 gnihton" in error.message


# ---- configurations that it hands out ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "discover"])
@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("config-list", "malformed-message"),
        ("config-text", "malformed-message"),
        ("config-empty", "connector-config-refused"),
        ("config-wrong", "connector-config-refused"),
        ("config-huge", "connector-config-refused"),
    ],
)
def test_configuration_is_not_replaced_with_garbage(
    hostile: Hostile, verb: str, behaviour: str, code: str
) -> None:
    """What the connector itself would not accept is not stored."""
    error = hostile.error(verb, behaviour)
    assert error.code == code
    assert hostile.renewed == []
    if code == "connector-config-refused":
        assert isinstance(error, ConfigurationFailed)


def test_good_configuration_is_taken(hostile: Hostile) -> None:
    """A renewed one is handed on, as before."""
    hostile.ask("check", "config-good")
    assert hostile.renewed == [{"password": "renewed-password"}]
