"""The list of changed tables that a command writes for the task which started it."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from airberg.flows import changed_tables as written
from airberg.governance.datahub_settings import DataHubSettings
from airberg.jobs.model import RunReport, StreamReport
from airberg.settings import Settings
from airberg_airflow.changed_tables import (
    MAX_BYTES,
    MAX_URI,
    VARIABLE,
    ChangedTable,
    read_changed_tables,
)
from airberg_airflow.child import result_file, result_in
from airberg_airflow.pods import MAX_RESULT, MAX_RESULT_VARIABLE
from support.jobs import a_job, a_run

RUN_ID = UUID(int=7)


def test_both_sides_use_one_variable() -> None:
    """They cannot share a module."""
    assert (written.VARIABLE, written.LIMIT_VARIABLE) == (VARIABLE, MAX_RESULT_VARIABLE)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tables that got a snapshot, with counts; those that the run left as they were are not among them."""
    job = a_job()
    reports = (
        StreamReport(stream="users", table="users", rows_written=3, rows_deleted=1, snapshot_ids=(1, 2**62)),
        StreamReport(stream="still", table="still", complete=True),
    )
    run = a_run(job.id, id=RUN_ID, report=RunReport(streams=reports))
    file = tmp_path / "changed.json"
    written.write_changed_tables(job, run, Settings(), {VARIABLE: str(file)})
    extra: dict[str, str | int] = {
        "job_id": str(job.id),
        "run_id": str(RUN_ID),
        "table": "shop.users",
        "rows_written": 3,
        "rows_deleted": 1,
        "snapshot_id": str(2**62),
    }
    assert read_changed_tables(file.read_bytes()) == [ChangedTable("iceberg://shop.users", extra)]


def test_nothing_is_written_where_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was started by hand; a job without a plan."""
    monkeypatch.chdir(tmp_path)
    job = a_job()
    written.write_changed_tables(job, a_run(job.id), Settings(), {})
    written.write_changed_tables(a_job(plan=None), a_run(job.id), Settings(), {VARIABLE: "file"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("instance", "uri"),
    [
        (None, "iceberg://eu.shop.Users"),
        ("lake", "iceberg://lake.eu.shop.Users"),
        ("the lake/1", "iceberg://the%20lake%2F1.eu.shop.Users"),
    ],
)
def test_uris_have_the_platform_instance(instance: str | None, uri: str) -> None:
    """As DataHub's urns have it; in their case, and with nothing that would end the host of a URI."""
    settings = Settings(datahub=DataHubSettings(platform_instance=instance))
    assert written.table_uri(("eu", "shop"), "Users", settings) == uri


def test_no_file_is_no_table() -> None:
    """An older command writes none."""
    with result_file() as file:
        assert read_changed_tables(result_in(file, MAX_BYTES)) == []
    assert not file.parent.exists()


def test_a_file_that_cannot_be_read_is_no_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder in its place: told, and nothing fails."""
    assert read_changed_tables(result_in(tmp_path, MAX_BYTES)) == []
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(("count", "named", "numbers"), [(3, 3, True), (30, 30, False), (300, 116, False)])
def test_what_has_no_room_is_left_out_and_told(
    tmp_path: Path, count: int, named: int, numbers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In a pod a list may have 4096 bytes: numbers go first, then tables, and the log says how many."""
    job = a_job()
    reports = tuple(
        StreamReport(stream=f"s{i}", table=f"table_{i:03}", snapshot_ids=(i + 1,)) for i in range(count)
    )
    file = tmp_path / "termination-log"
    variables = {VARIABLE: str(file), MAX_RESULT_VARIABLE: str(MAX_RESULT)}
    run = a_run(job.id, report=RunReport(streams=reports))
    written.write_changed_tables(job, run, Settings(), variables)
    text = file.read_bytes()
    assert len(text) <= MAX_RESULT
    tables = read_changed_tables(text)
    assert [t.uri for t in tables] == [f"iceberg://shop.table_{i:03}" for i in range(named)]
    assert all(bool(t.extra) is numbers for t in tables)
    assert (f"{count - named} changed tables had no room" in caplog.text) is (named < count)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b'{"tables": {}}',
        b"[" * 100_000,
        b'{"tables": [], "x": "' + b"x" * MAX_BYTES + b'"}',
    ],
    ids=["empty", "bytes", "no-list", "array", "object", "deep", "huge"],
)
def test_what_cannot_be_read_is_logged_and_fails_nothing(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows are committed: a task that fails now would load them again."""
    file = tmp_path / "changed.json"
    file.write_bytes(text)
    assert read_changed_tables(result_in(file, MAX_BYTES)) == []
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {"uri": 7},
        {"uri": "iceberg://"},
        {"uri": "https://example.com"},
        {"uri": "iceberg://a\nb"},
        {"uri": "iceberg://" + "x" * MAX_URI},
        {"uri": "iceberg://a.b", "extra": []},
        {"uri": "iceberg://a.b", "extra": {"rows": None}},
        {"uri": "iceberg://a.b", "extra": {str(i): i for i in range(30)}},
    ],
    ids=lambda e: str(e)[:40],
)
def test_entries_that_are_no_tables_are_left_out(entry: object, caplog: pytest.LogCaptureFixture) -> None:
    """The others are told."""
    text = json.dumps({"tables": [entry, {"uri": "iceberg://a.b"}]}).encode()
    assert read_changed_tables(text) == [ChangedTable("iceberg://a.b", {})]
    assert "1 entries" in caplog.text
