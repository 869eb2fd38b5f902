"""Real connector processes: their isolation, their output, their end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import MalformedMessage, Record, StreamStatus, decode
from airberg.protocol.state import State, StateKey, states_for_connector
from airberg.sources.launch import LaunchDescription
from airberg.sources.read import ReadProcess
from airberg.sources.workspace import Workspace
from support.connectors.scenarios import PASSWORD, configured, scenario_config, scripted_launch
from support.connectors.waiting import gone, until

USERS: dict[str, Any] = {
    "name": "users",
    "cursor": "id",
    "primary_key": [["id"]],
    "generate": {"count": 250, "from": 1, "fields": {"id": "$i", "name": "user $i"}},
}


def read(tmp_path: Path, scenario: dict[str, Any], **options: Any) -> ReadProcess:
    """A read of the scenario's users."""
    config = scenario_config(tmp_path, scenario)
    return ReadProcess(scripted_launch(), config, configured("users"), **options)


def test_records_and_states_arrive_and_a_second_read_goes_on(tmp_path: Path) -> None:
    """All records in order, counts agree, the state that is handed back leaves nothing to read."""
    config = scenario_config(tmp_path, {"streams": [USERS]})
    catalog = configured("users", sync_mode="incremental")
    states: list[State] = []
    key = StateKey(None, "users")
    for expected in (250, 0):
        ledger = Ledger([key])
        ids = []
        with ReadProcess(scripted_launch(), config, catalog, states_for_connector(states)) as process:
            for number, line in enumerate(process.lines(), 1):
                message = decode(line, number)
                ledger.observe(message)
                if isinstance(message, State):
                    states.append(message)
                if isinstance(message, Record):
                    ids.append(json.loads(bytes(message.data))["id"])
        ledger.verdict(process.exit_code, process.stderr_tail)
        assert ids == list(range(1, expected + 1))
        assert ledger.completed(key)


def test_connector_sees_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours, private files, a home of its own; nothing is left afterwards."""
    monkeypatch.setenv("AIRBERG_KEYS__MASTER_KEY", "our-master-key")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "airflow-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "cloud-key")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    report = tmp_path / "report.json"
    with read(tmp_path, {"read": {"steps": [{"report": str(report)}]}}, state=b'[{"x":1}]') as process:
        assert list(process.lines()) == []
    seen = json.loads(report.read_text())
    assert not {"our-master-key", "airflow-key", "cloud-key"} & set(seen["env"].values())
    assert seen["env"]["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert seen["env"]["HOME"] == seen["env"]["TMPDIR"] == seen["cwd"] != str(Path.home())
    assert set(seen["files"].values()) == {"0o600"}
    assert {Path(file).name for file in seen["files"]} == {"config.json", "catalog.json", "state.json"}
    assert seen["config_dir_mode"] == "0o700"
    assert seen["state"] == [{"x": 1}]
    assert not [file for file in (seen["cwd"], *seen["files"]) if Path(file).exists()]


def test_configuration_is_in_memory_where_there_is_memory(tmp_path: Path) -> None:
    """Where /dev/shm can be written the secrets touch no disk."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no memory-backed folder here")
    report = tmp_path / "report.json"
    with read(tmp_path, {"read": {"steps": [{"report": str(report)}]}}) as process:
        list(process.lines())
    assert all(file.startswith("/dev/shm/") for file in json.loads(report.read_text())["files"])


def test_whole_group_ends_when_the_connector_ignores_sigterm(tmp_path: Path) -> None:
    """A connector that ignores SIGTERM and its child are gone after `stop`, and the reader sees the end."""
    pids = tmp_path / "pids"
    ready = tmp_path / "ready"
    steps = [
        {"ignore_sigterm": True},
        {"fork": 600, "pids": str(pids)},
        {"line": "before"},
        {"touch": str(ready)},
        {"sleep": 600},
    ]
    with read(tmp_path, {"read": {"steps": steps}}, grace_s=0.2) as process:
        stopper = threading.Thread(target=lambda: (until(ready.exists), process.stop()))
        stopper.start()
        assert list(process.lines()) == [b"before"]
        stopper.join()
        assert process.exit_code == -signal.SIGKILL
    until(lambda: gone(int(pids.read_text())))


def test_stop_from_another_thread_meets_the_end(tmp_path: Path) -> None:
    """Stopping while the reader itself is closing the process disturbs neither of them."""
    ready = tmp_path / "ready"
    config = scenario_config(tmp_path, {"read": {"steps": [{"touch": str(ready)}, {"sleep": 600}]}})
    for _ in range(20):
        ready.unlink(missing_ok=True)
        started: Future[ReadProcess] = Future()

        def consume(started: Future[ReadProcess] = started) -> int | None:
            with ReadProcess(scripted_launch(), config, configured("users")) as process:
                started.set_result(process)
                list(process.lines())
            return process.exit_code

        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(consume)
            process = started.result()
            until(ready.exists)
            process.stop()
            assert reader.result() == -signal.SIGTERM


def test_connector_dies_with_us(tmp_path: Path) -> None:
    """Killed without a chance to clean up, we leave no connector; the next workspace removes the secrets."""
    report = tmp_path / "report.json"
    steps = [{"ignore_sigterm": True}, {"report": str(report)}, {"sleep": 600}]
    config = scenario_config(tmp_path, {"read": {"steps": steps}})
    code = (
        "import json, sys; from airberg.sources.read import ReadProcess; "
        "from support.connectors.scenarios import scripted_launch; "
        "list(ReadProcess(scripted_launch(), json.loads(sys.argv[1]), {'streams': []}).lines())"
    )
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code, json.dumps(config)], env=os.environ | path) as ours:
        until(report.exists)
        ours.kill()
    seen = json.loads(report.read_text())
    until(lambda: gone(seen["pid"]))
    Workspace().remove()
    assert not [file for file in (seen["cwd"], *seen["files"]) if Path(file).exists()]


def test_workspace_of_a_living_process_is_left_alone() -> None:
    """Sweeping takes no folder whose holder is alive, and takes it once the holder is gone."""
    with Workspace() as held:
        config = held.add("config.json", b"{}")
        Workspace().remove()
        assert config.exists()
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        hold = held.home / ".held"
        with hold.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not config.exists()


def test_silence_is_ended(tmp_path: Path) -> None:
    """A connector that writes nothing for the idle time is ended; stderr is no sign of life."""
    report = tmp_path / "report.json"
    steps = [{"report": str(report)}, {"stderr": "still here\n"}, {"sleep": 600}]
    with read(tmp_path, {"read": {"steps": steps}}, idle_timeout_s=0.3) as process:
        with pytest.raises(TransientFailed) as caught:
            list(process.lines())
        assert caught.value.code == "connector-idle"
    assert gone(json.loads(report.read_text())["pid"])


def test_flood_on_stderr_blocks_nothing_and_fills_nothing(tmp_path: Path) -> None:
    """Megabytes on stderr are read along; only the end is kept."""
    steps = [
        {"stderr": "x" * 99 + "\n", "times": 50_000},
        {"stderr": "the end\n"},
        {"line": "done"},
        {"exit": 4},
    ]
    with read(tmp_path, {"read": {"steps": steps}}) as process:
        assert list(process.lines()) == [b"done"]
    assert process.exit_code == 4
    assert process.stderr_tail.endswith("the end\n")
    assert len(process.stderr_tail) <= 64 * 1024


def test_secret_on_stderr_is_hidden(tmp_path: Path) -> None:
    """The tail of stderr is for logs, so the password is not in it, not even where the tail was cut."""
    steps = [{"leak": "stderr"}, {"stderr": PASSWORD, "times": 5_000}, {"stderr": "\n"}, {"leak": "stderr"}]
    with read(tmp_path, {"read": {"steps": steps}}) as process:
        list(process.lines())
    assert "cannot log in with password" in process.stderr_tail
    for piece in (PASSWORD, PASSWORD[5:], PASSWORD[-10:]):
        assert piece not in process.stderr_tail


def test_line_that_is_cut_off_is_malformed(tmp_path: Path) -> None:
    """The last line of a connector that died while writing is handed on and fails the run."""
    steps = [{"line": '{"type":"RECORD","record":{"stream":"users","da', "partial": True}, {"exit": 1}]
    with read(tmp_path, {"read": {"steps": steps}}) as process:
        (line,) = process.lines()
        with pytest.raises(MalformedMessage):
            decode(line, 1)


def test_endless_line_is_refused(tmp_path: Path) -> None:
    """A line over the limit ends the read with a clear error instead of filling the memory."""
    steps = [{"line": "short"}, {"line": "{" + "x" * 3_000_000}]
    with read(tmp_path, {"read": {"steps": steps}}, max_line_bytes=2**20) as process:
        with pytest.raises(ConfigurationFailed, match="more than 1 MiB") as caught:
            list(process.lines())
        assert caught.value.code == "line-too-long"


def test_long_lines_below_the_limit_arrive_whole(tmp_path: Path) -> None:
    """Lines longer than any buffer are put together, empty ones stay."""
    long = "{" + "x" * 3_000_000
    steps = [{"line": "a"}, {"line": long}, {"line": ""}, {"line": "b"}]
    with read(tmp_path, {"read": {"steps": steps}}) as process:
        assert list(process.lines()) == [b"a", long.encode(), b"", b"b"]


def test_child_that_keeps_the_pipe_open_does_not_hold_the_read(tmp_path: Path) -> None:
    """When the connector has ended but left a child behind, the read ends and the child too."""
    pids = tmp_path / "pids"
    steps = [{"line": "x"}, {"fork": 600, "pids": str(pids)}, {"exit": 0}]
    with read(tmp_path, {"read": {"steps": steps}}) as process:
        assert list(process.lines()) == [b"x"]
        assert process.exit_code == 0
    until(lambda: gone(int(pids.read_text())))


def test_failure_in_the_middle_then_success(tmp_path: Path) -> None:
    """Failed once after 120 records: the first read fails with its reason, the next goes on."""
    error = {"trace_error": {"message": "connection reset", "failure_type": "transient_error"}}
    hook = {"after": 120, "once": str(tmp_path / "failed"), "steps": [error, {"exit": 1}]}
    config = scenario_config(tmp_path, {"streams": [USERS | {"at": [hook]}]})
    catalog = configured("users", sync_mode="incremental")
    key = StateKey(None, "users")
    states: list[State] = []
    counts = []
    for attempt in range(2):
        ledger = Ledger([key])
        with ReadProcess(scripted_launch(), config, catalog, states_for_connector(states)) as process:
            for line in process.lines():
                message = decode(line)
                ledger.observe(message)
                if isinstance(message, State):
                    states.append(message)
        counts.append(ledger.records(key))
        if attempt == 0:
            reason = r"^connection reset\. The connector ended with exit code 1\.$"
            with pytest.raises(TransientFailed, match=reason):
                ledger.verdict(process.exit_code, process.stderr_tail)
    ledger.verdict(process.exit_code)
    assert counts == [120, 150]  # the state was at 100


def test_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    """A connector that was removed fails the run with a reason."""
    launch = LaunchDescription(source_name="source-x", version="1", argv=(str(tmp_path / "nothing"),))
    ledger = Ledger([])
    with ReadProcess(launch, {}, configured("users")) as process:
        assert list(process.lines()) == []
    with pytest.raises(TransientFailed, match="cannot start nothing: No such file"):
        ledger.verdict(process.exit_code, process.stderr_tail)


def test_recorded_messages_are_replayed_by_a_shell_connector(tmp_path: Path) -> None:
    """Any program is a connector: a shell script that cats a recording, as fast as the pipe goes."""
    recording = tmp_path / "recording.jsonl"
    body = {"stream": "users", "emitted_at": 1, "data": {"id": 1, "text": "x" * 500}}
    lines = [json.dumps({"type": "RECORD", "record": body})] * 20_000
    status = {"stream_descriptor": {"name": "users"}, "status": "COMPLETE"}
    lines.append(json.dumps({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": status}}))
    recording.write_text("\n".join(lines) + "\n")
    script = tmp_path / "source-replay"
    script.write_text(f'#!/bin/sh\n[ "$1" = read ] && exec cat "{recording}"\n')
    script.chmod(0o700)
    launch = LaunchDescription(source_name="source-replay", version="local", argv=(str(script),))
    with ReadProcess(launch, {}, configured("users")) as process:
        blocks = list(process.line_blocks())
    messages = [decode(line) for block in blocks for line in block.splitlines()]
    assert sum(isinstance(message, Record) for message in messages) == 20_000
    assert messages[-1] == StreamStatus(StateKey(None, "users"), "COMPLETE")
    assert all(block.endswith(b"\n") for block in blocks)
    assert len(blocks) < 2_000  # many lines at once


def test_scripted_source_runs_as_an_executable(tmp_path: Path) -> None:
    """The script is executable by itself, as `connectors.toml` would name it."""
    script = Path(scripted_launch().argv[-1])
    launch = LaunchDescription(source_name="source-x", version="local", argv=(str(script),))
    with ReadProcess(launch, scenario_config(tmp_path, {"streams": [USERS]}), configured("users")) as process:
        kinds = {type(decode(line)) for line in process.lines()}
    assert Record in kinds
    assert sys.executable  # the shebang finds an interpreter on PATH
