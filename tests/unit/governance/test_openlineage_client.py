"""OpenLineage's client as it is configured: by our settings, by its variables, by its file."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

from airberg.errors import ConfigurationFailed, Unavailable
from airberg.governance.openlineage.client import open_lineage_sink
from airberg.settings import OpenLineageSettings, Settings
from support.lineage_listener import API_KEY, lineage_listener

EVENT = RunEvent(
    eventType=RunState.START,
    eventTime="2026-11-23T10:00:00+00:00",
    producer="urn:airberg:test",
    run=Run(runId="0198f0a0-0000-7000-8000-00000000000b"),
    job=Job(namespace="airberg", name="j.load"),
)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home and a working folder without files of the client."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes to the listener, and not under another name into what our children inherit."""
    with lineage_listener() as listener:
        monkeypatch.setenv("OPENLINEAGE_URL", listener.url)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", API_KEY)
        sink = open_lineage_sink(Settings())
        assert not [name for name in os.environ if name.startswith("OPENLINEAGE__")]
        sink.emit(EVENT)
        sink.close(4.0)
        assert [e["eventType"] for e in listener.events] == ["START"]


def test_our_settings_go_before_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is set on the worker."""
    with lineage_listener() as listener:
        monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
        settings = Settings(openlineage=OpenLineageSettings(url=listener.url, api_key=API_KEY))
        open_lineage_sink(settings).emit(EVENT)
        assert len(listener.events) == 1


def test_its_file(tmp_path: Path) -> None:
    """Any transport of it: here a file."""
    out = tmp_path / "events"
    config = f"transport: {{type: file, log_file_path: {out}, append: true}}"
    (tmp_path / "openlineage.yml").write_text(config)
    sink = open_lineage_sink(Settings())
    sink.emit(EVENT)
    sink.close(1.0)
    [line] = out.read_text().splitlines()
    assert json.loads(line)["run"]["runId"] == EVENT.run.runId


def test_the_folder_of_the_task_is_not_told(tmp_path: Path) -> None:
    """The client would add the address of the Git repository that the process happens to be in."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\n\turl = https://git.example.com/x\n')
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    out = tmp_path / "events"
    config = f"transport: {{type: file, log_file_path: {out}, append: true}}"
    (tmp_path / "openlineage.yml").write_text(config)
    open_lineage_sink(Settings()).emit(EVENT)
    assert "git.example.com" not in out.read_text()


@pytest.mark.parametrize(
    "config",
    ["{}", "facets: {}", "transport: {type: no.such.Transport}", "transport: {type: http}"],
)
def test_a_configuration_that_cannot_be_used(
    tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Is an error, where the client would write events into the log."""
    (tmp_path / "openlineage.yml").write_text(config)
    with pytest.raises(ConfigurationFailed) as caught:
        open_lineage_sink(Settings())
    assert caught.value.code == "openlineage-misconfigured"


def test_variables_are_not_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The client quotes a variable that is no JSON, and a key may be in it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__AUTH", f"{{broken {API_KEY}")
    with lineage_listener() as listener:
        settings = Settings(openlineage=OpenLineageSettings(url=listener.url, api_key=API_KEY))
        sink = open_lineage_sink(settings)
        listener.status = 400
        with pytest.raises(Unavailable, match="answered 400"):
            sink.emit(EVENT)
    assert API_KEY not in caplog.text


def test_events_in_the_log_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The console transport is one of the client's own."""
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "console")
    open_lineage_sink(Settings()).emit(EVENT)
    assert str(EVENT.run.runId) in caplog.text
