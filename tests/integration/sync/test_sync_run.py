"""Runs against real connector processes and real tables: modes, state, failure and retry."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed, LeaseHeld, RunError, TransientFailed
from airberg.jobs.model import JobStatus, RunReport, RunStatus
from airberg.keys.cipher import decrypt_value
from airberg.lake.layout import sort_texts
from airberg.lake.note import read_note
from airberg.plan.model import MergeOptions, TableRequest
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario
from support.duckdb_reader import duckdb_rows
from support.partitions import assert_partitions_hold


@pytest.fixture(params=[True, False], ids=["compiled", "python"])
def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment that makes a checkpoint at every state, with either reader of records."""
    sync = SyncSettings(checkpoint_seconds=0.0, compiled_reader=request.param)
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, sync)


def orders(count: int, **members: Any) -> dict[str, Any]:
    """A stream of numbered orders with a cursor and a primary key."""
    return {
        "name": "orders",
        "cursor": "id",
        "primary_key": [["id"]],
        "state_every": 10,
        "generate": {"count": count, "from": 1, "fields": {"id": "$i", "item": "item $i"}},
    } | members


def ids(deployment: Deployment, table: str = "orders") -> list[int]:
    """The ids in a table, sorted."""
    return [row[0] for row in sorted(deployment.rows(table, "id"))]


def test_append_reads_incrementally(deployment: Deployment, tmp_path: Path) -> None:
    """The second run adds only what is new, from the state in the table."""
    scenario = write_scenario(tmp_path, {"streams": [orders(25)]})
    job = deployment.job(scenario)
    first = deployment.run(job, "run-1")
    assert first.status is RunStatus.COMPLETED
    assert ids(deployment) == list(range(1, 26))
    write_scenario(tmp_path, {"streams": [orders(40)]})
    second = deployment.run(job, "run-2")
    assert ids(deployment) == list(range(1, 41))
    assert [s.rows_written for s in second.report.streams] == [15]
    third = deployment.run(job, "run-3")
    assert [s.rows_written for s in third.report.streams] == [0]
    assert ids(deployment) == list(range(1, 41))


def test_a_checkpoint_keeps_its_own_count(deployment: Deployment, tmp_path: Path) -> None:
    """The table's note says how many records the states since the last commit cover (destinationStats)."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(25, state_every=10)]}))
    hook = {"after": 20, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    write_scenario(tmp_path, {"streams": [orders(25, state_every=10, at=[hook])]})
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    note = read_note(deployment.table("orders"), str(job.id), deployment.parts.sealer)
    assert note is not None
    assert (note.number, note.destination_records, note.rows) == (2, 10, 20)


def test_another_engine_reads_the_same(deployment: Deployment, tmp_path: Path) -> None:
    """DuckDB's own Iceberg reader finds every row and value."""
    deployment.run(deployment.job(write_scenario(tmp_path, {"streams": [orders(25)]})))
    rows = duckdb_rows(deployment.table("orders"))
    assert sorted((r["id"], r["item"]) for r in rows) == [(i, f"item {i}") for i in range(1, 26)]


def test_failure_in_the_middle_keeps_what_is_covered(deployment: Deployment, tmp_path: Path) -> None:
    """What the states cover stays, the rest is dropped; the retry completes without loss or doubling."""
    flag = tmp_path / "failed"
    fails = {
        "after": 25,
        "once": str(flag),
        "steps": [
            {"trace_error": {"message": "API key was revoked", "failure_type": "transient_error"}},
            {"exit": 1},
        ],
    }
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(40, at=[fails])]}))
    with pytest.raises(TransientFailed, match="API key was revoked"):
        deployment.run(job, "run-1", 1)
    assert ids(deployment) == list(range(1, 21))
    stored = deployment.store.job(job.id)
    assert stored.status is JobStatus.FAILED
    assert "API key was revoked" in (stored.status_message or "")
    run = deployment.run(job, "run-1", 2)
    assert ids(deployment) == list(range(1, 41))
    assert (run.status, run.attempt, run.error) == (RunStatus.COMPLETED, 2, None)
    assert [s.rows_written for s in run.report.streams] == [40]


def test_full_copy_is_all_or_nothing_and_not_repeated(deployment: Deployment, tmp_path: Path) -> None:
    """A stream without cursor: nothing of a failed attempt; a stream that was complete is not read again."""
    flag = tmp_path / "failed"
    full = orders(20, name="full", cursor=None)
    fails = {"after": 15, "once": str(flag), "steps": [{"exit": 3}]}
    scenario = {"streams": [full | {"at": [fails]}]}
    job = deployment.job(write_scenario(tmp_path, scenario))
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    assert ids(deployment, "full") == []
    deployment.run(job, "run-1", 2)
    assert ids(deployment, "full") == list(range(1, 21))
    deployment.run(job, "run-1", 3)  # the same flow run again: nothing is left to do
    assert ids(deployment, "full") == list(range(1, 21))
    deployment.run(job, "run-2", 1)  # another run: append adds a second full copy, as the plan warned
    assert ids(deployment, "full") == sorted([*range(1, 21)] * 2)
    generations = {row[0] for row in deployment.rows("full", "_airbyte_generation_id")}
    assert generations == {1, 2}


@pytest.mark.parametrize("cursor", ["id", None], ids=["incremental", "full"])
def test_commits_that_could_not_be_reported_are_found(
    deployment: Deployment, tmp_path: Path, cursor: str | None
) -> None:
    """An attempt was killed right after its commit: the run still says which snapshots it has made."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(20, cursor=cursor)]}))
    first = deployment.run(job, "run-1", 1)
    deployment.store.report_run(first.id, RunReport())
    again = deployment.run(job, "run-1", 2)
    made = tuple(s.snapshot_id for s in deployment.table("orders").snapshots())
    assert len(made) >= 1
    assert [(s.snapshot_ids, s.complete) for s in again.report.streams] == [(made, True)]
    other = deployment.run(job, "run-2", 1)
    assert not set(other.report.streams[0].snapshot_ids) & set(made)


def test_overwrite_swaps_in_one_snapshot(deployment: Deployment, tmp_path: Path) -> None:
    """One more snapshot, exactly the new rows; a failed run changes nothing; an empty source empties."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(20)]}), "overwrite")
    deployment.run(job, "run-1")
    assert len(deployment.table("orders").snapshots()) == 1
    write_scenario(tmp_path, {"streams": [orders(7)]})
    deployment.run(job, "run-2")
    assert ids(deployment) == list(range(1, 8))
    assert len(deployment.table("orders").snapshots()) == 2
    write_scenario(tmp_path, {"streams": [orders(9, at=[{"after": 5, "steps": [{"exit": 1}]}])]})
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-3")
    assert ids(deployment) == list(range(1, 8))
    assert len(deployment.table("orders").snapshots()) == 2
    write_scenario(
        tmp_path, {"streams": [orders(0, json_schema={"properties": {"id": {"type": "integer"}}})]}
    )
    deployment.run(job, "run-4")
    assert ids(deployment) == []


def test_merge_keeps_one_row_per_key(deployment: Deployment, tmp_path: Path) -> None:
    """New versions replace old ones across checkpoints and runs; deleted rows go."""
    schema = {
        "properties": {
            "id": {"type": "integer"},
            "v": {"type": "integer"},
            "name": {"type": "string"},
            "_ab_cdc_deleted_at": {"type": ["null", "string"], "format": "date-time"},
        }
    }

    def stream(records: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": "users",
            "cursor": "v",
            "primary_key": [["id"]],
            "json_schema": schema,
            "state_every": 2,
            "records": records,
        }

    first = [{"id": i % 3, "v": i, "name": f"v{i}"} for i in range(1, 8)]
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream(first)]}), "merge")
    deployment.run(job, "run-1")
    assert deployment.rows("users", "id", "name") == [(0, "v6"), (1, "v7"), (2, "v5")]
    deleted = {"id": 1, "v": 8, "name": "gone", "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    more = [*first, deleted, {"id": 9, "v": 9, "name": "new"}]
    write_scenario(tmp_path, {"streams": [stream(more)]})
    run = deployment.run(job, "run-2")
    assert deployment.rows("users", "id", "name") == [(0, "v6"), (2, "v5"), (9, "new")]
    assert [(s.rows_written, s.rows_deleted) for s in run.report.streams] == [(1, 1)]


def users(records: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    """A stream of users with a primary key and marks of deletion; read in full."""
    schema = {
        "properties": {
            "id": {"type": ["null", "integer"]},
            "name": {"type": "string"},
            "_ab_cdc_lsn": {"type": "number"},
            "_ab_cdc_deleted_at": {"type": ["null", "string"], "format": "date-time"},
        }
    }
    return {"name": "users", "primary_key": [["id"]], "json_schema": schema, "records": records} | members


def test_a_key_without_value_ends_the_run_and_is_written_by_the_next(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The table gives its identifier up before the row is staged; the retry loses nothing."""
    records = [{"id": 1, "name": "one"}, {"id": None, "name": "none"}, {"id": 2, "name": "two"}]
    job = deployment.job(write_scenario(tmp_path, {"streams": [users(records)]}), "merge")
    with pytest.raises(TransientFailed) as caught:
        deployment.run(job, "run-1")
    assert caught.value.code == "key-without-value"
    table = deployment.table("users")
    assert (table.schema().identifier_field_ids, table.current_snapshot()) == ([], None)
    assert not any(field.required for field in table.schema().fields)
    run = deployment.run(job, "run-1", attempt=2)
    assert run.status is RunStatus.COMPLETED
    assert deployment.rows("users", "id", "name") == [(1, "one"), (2, "two"), (None, "none")]


def test_a_merge_table_has_identifier_and_order(deployment: Deployment, tmp_path: Path) -> None:
    """Of its primary key; a second engine reads it after the rows were replaced."""
    first = [{"id": i, "name": f"n{i}"} for i in (3, 1, 2)]
    job = deployment.job(write_scenario(tmp_path, {"streams": [users(first)]}), "merge")
    deployment.run(job, "run-1")
    table = deployment.table("users")
    assert (table.metadata.format_version, sort_texts(table)) == (2, ["id asc nulls first"])
    assert table.schema().identifier_field_names() == {"id"}
    write_scenario(tmp_path, {"streams": [users([{"id": 2, "name": "TWO"}])]})
    deployment.run(job, "run-2")
    table = deployment.table("users")
    assert sorted((r["id"], r["name"]) for r in duckdb_rows(table)) == [(1, "n1"), (2, "TWO"), (3, "n3")]


def test_merge_options_reach_the_table(deployment: Deployment, tmp_path: Path) -> None:
    """Vectors in a table of version 3, rows that were deleted stay marked, unchanged ones are not written."""
    first = [{"id": i, "name": f"n{i}", "_ab_cdc_lsn": i} for i in range(1, 5)]
    scenario = write_scenario(tmp_path, {"streams": [users(first)]})
    job = deployment.job(scenario, "merge", delete_format="vector", deletes="soft", skip_unchanged=True)
    assert job.plan is not None
    assert job.plan.merging == MergeOptions(delete_format="vector", soft_deletes=True, skip_unchanged=True)
    deployment.run(job, "run-1")
    gone = {"id": 1, "name": "n1", "_ab_cdc_lsn": 9, "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    late = {"id": 2, "name": "late", "_ab_cdc_lsn": 1}
    write_scenario(tmp_path, {"streams": [users([gone, late, first[2], first[3]])]})
    run = deployment.run(job, "run-2")
    table = deployment.table("users")
    assert table.metadata.format_version == 3
    deletes = table.inspect.delete_files().to_pylist()
    assert [(d["content"], d["file_format"]) for d in deletes] == [(1, "PUFFIN")]
    assert [(s.rows_written, s.rows_deleted) for s in run.report.streams] == [(1, 1)]
    kept = sorted((r["id"], r["name"], r["_ab_cdc_deleted_at"] is not None) for r in duckdb_rows(table))
    assert kept == [(1, "n1", True), (2, "n2", False), (3, "n3", False), (4, "n4", False)]


def test_temporary_files_of_merges_go(deployment: Deployment, tmp_path: Path) -> None:
    """Also those that a run left behind that was killed."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(20)]}), "merge")
    killed = deployment.home / "spill" / str(job.id) / "merge-killed"
    killed.mkdir(parents=True)
    deployment.run(job)
    assert list((deployment.home / "spill").iterdir()) == []


def test_transformations_reach_the_table(deployment: Deployment, tmp_path: Path) -> None:
    """Rename, cast, drop and encrypt; the ciphertext decrypts, the state of the stream is sealed."""
    records = [
        {"id": i, "email": f"user{i}@example.com", "amount": i + 0.5, "secret": "x"} for i in range(1, 6)
    ]
    stream = {"name": "users", "cursor": "email", "primary_key": [["id"]], "records": records}
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [stream]}),
        column_transformations=[
            {"column": "email", "transformation_type": "encrypt"},
            {"column": "amount", "transformation_type": "cast", "target_type": "decimal(6,2)"},
            {"column": "amount", "transformation_type": "rename", "new_name": "total"},
            {"column": "secret", "transformation_type": "drop"},
        ],
        archive_staging=True,
    )
    run = deployment.run(job)
    table = deployment.table("users")
    assert [f.name for f in table.schema().fields][-3:] == ["id", "email", "total"]
    versions = deployment.keys.versions("default")
    emails = [
        decrypt_value(versions, row[0], b"shop.users.email") for row in deployment.rows("users", "email")
    ]
    assert sorted(emails) == [f"user{i}@example.com".encode() for i in range(1, 6)]
    assert [str(row[0]) for row in deployment.rows("users", "total")] == [
        "1.50",
        "2.50",
        "3.50",
        "4.50",
        "5.50",
    ]
    note = read_note(table, str(job.id), deployment.parts.sealer)
    assert note is not None
    assert "user5@example.com" in str(note.state)
    assert_nowhere(deployment.home, b"user5@example.com")
    archived = list(deployment.settings.archive_dir.rglob("*.zst"))
    assert len(archived) == 1
    assert run.report.streams[0].rows_read == 5


def assert_nowhere(folder: Path, text: bytes) -> None:
    """No file holds the text, plain or zlib-compressed inside base64."""
    files = [f for f in folder.rglob("*") if f.is_file() and "connectors" not in f.parts]
    assert files
    holders = [f for f in files if text in f.read_bytes()]
    assert holders == []


def test_lost_records_fail_the_checkpoint(deployment: Deployment, tmp_path: Path) -> None:
    """A source that counted more than arrived: that state is not committed."""
    message = {
        "type": "STATE",
        "state": {
            "type": "STREAM",
            "stream": {"stream_descriptor": {"name": "orders"}, "stream_state": {"cursor": 99}},
            "sourceStats": {"recordCount": 50.0},
        },
    }
    lies = {"after": 15, "steps": [{"emit": message}]}
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(20, at=[lies])]}))
    with pytest.raises(TransientFailed, match="50 records"):
        deployment.run(job)
    assert ids(deployment) == list(range(1, 11))
    note = read_note(deployment.table("orders"), str(job.id), deployment.parts.sealer)
    assert note is not None
    assert json.loads(note.state)["stream"]["stream_state"] == {"cursor": 10}


def test_new_columns_are_added(deployment: Deployment, tmp_path: Path) -> None:
    """A column that appears in the source appears in the table; old rows have null there."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(3)]}))
    deployment.run(job, "run-1")
    wider = orders(5, generate={"count": 5, "from": 1, "fields": {"id": "$i", "item": "i", "more": "m $i"}})
    write_scenario(tmp_path, {"streams": [wider]})
    settings = deployment.settings.sources.model_copy(update={"rediscover_after_s": 0.0})
    object.__setattr__(deployment.settings, "sources", settings)
    deployment.run(job, "run-2")
    assert deployment.rows("orders", "id", "more")[:4] == [(1, None), (2, None), (3, None), (4, "m 4")]


def test_type_change_fails_before_anything_is_written(deployment: Deployment, tmp_path: Path) -> None:
    """The error names column, both types and the ways out."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(3)]}))
    deployment.run(job, "run-1")
    changed = orders(5, generate={"count": 5, "from": 1, "fields": {"id": "$i", "item": 7}})
    write_scenario(tmp_path, {"streams": [changed]})
    settings = deployment.settings.sources.model_copy(update={"rediscover_after_s": 0.0})
    object.__setattr__(deployment.settings, "sources", settings)
    with pytest.raises(ConfigurationFailed, match="item") as error:
        deployment.run(job, "run-2")
    assert "Cast the column" in error.value.guidance
    assert len(deployment.table("orders").snapshots()) == 1


def test_secrets_do_not_reach_errors(deployment: Deployment, tmp_path: Path) -> None:
    """A connector that shouts its password does not get it into the run's error."""
    steps = [{"leak": "trace"}, {"leak": "stderr"}, {"exit": 1}]
    scenario = {"streams": [orders(5)], "read": {"steps": steps}}
    job = deployment.job(write_scenario(tmp_path, scenario), password="s3cr3t-t0k3n-xyz")
    with pytest.raises(RunError):
        deployment.run(job)
    stored = deployment.store.runs(job.id)[0]
    assert stored.error
    assert "s3cr3t" not in stored.error


def test_a_running_job_is_not_run_twice(deployment: Deployment, tmp_path: Path) -> None:
    """While another run renews its lease, a second one gives up."""
    object.__setattr__(
        deployment.settings, "sync", deployment.settings.sync.model_copy(update={"lease_seconds": 1.0})
    )
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(3)]}))
    from airberg.sync.lease import job_lease

    with job_lease(deployment.store, job.id, "other", 1.0), pytest.raises(LeaseHeld):
        deployment.run(job)
    assert deployment.run(job).status is RunStatus.COMPLETED


def test_rotated_configuration_is_stored_before_the_next_record(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A CONTROL message replaces the stored configuration, also when the run fails afterwards."""
    scenario = tmp_path / "scenario.json"
    rotated = {"scenario": str(scenario), "password": "rotated-password"}
    steps = [{"control": rotated}, {"exit": 1}]
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(3)], "read": {"steps": steps}}))
    with pytest.raises(TransientFailed):
        deployment.run(job)
    assert deployment.store.source_config(job.id) == rotated
    assert deployment.store.job(job.id).public_config["password"] == "**********"


@pytest.mark.parametrize("garbage", [{}, {"password": "x"}, {"scenario": ["x"], "password": "x"}])
def test_configuration_is_not_replaced_with_garbage(
    deployment: Deployment, tmp_path: Path, garbage: dict[str, Any]
) -> None:
    """One that the connector's own specification refuses ends the run, and the stored one stays."""
    scenario = {"streams": [orders(3)], "read": {"steps": [{"control": garbage}]}}
    job = deployment.job(write_scenario(tmp_path, scenario))
    before = deployment.store.source_config(job.id)
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job)
    assert caught.value.code == "connector-config-refused"
    assert deployment.store.source_config(job.id) == before


def test_configuration_of_a_discover_is_what_the_read_gets(deployment: Deployment, tmp_path: Path) -> None:
    """A token that was renewed while the streams were asked for is good for the read, the old one is not."""
    scenario, report = tmp_path / "scenario.json", tmp_path / "report.json"
    rotated = {"scenario": str(scenario), "password": "rotated-password", "marked": True}
    write_scenario(tmp_path, {"streams": [orders(3)]})
    job = deployment.job(scenario)
    parts = {"discover": {"steps": [{"control": rotated}]}, "read": {"steps": [{"report": str(report)}]}}
    write_scenario(tmp_path, {"streams": [orders(3)]} | parts)
    sources = deployment.settings.sources.model_copy(update={"rediscover_after_s": 0.0})
    settings = deployment.settings.model_copy(update={"sources": sources})
    deployment.parts = dataclasses.replace(deployment.parts, settings=settings)
    deployment.run(job)
    assert json.loads(report.read_text())["config"] == rotated


def test_read_without_a_word_empties_no_table(deployment: Deployment, tmp_path: Path) -> None:
    """A connector that ends with exit code 0 and has said nothing has read nothing."""
    stream = orders(3, cursor=None)
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream]}), "overwrite")
    deployment.run(job, "run-1")
    for steps in ([], [{"line": "<html>502 Bad Gateway</html>"}]):
        write_scenario(tmp_path, {"streams": [stream], "read": {"streams": False, "steps": steps}})
        with pytest.raises(TransientFailed) as caught:
            deployment.run(job, f"run-2-{len(steps)}")
        assert caught.value.code == "connector-silent"
    assert ids(deployment) == [1, 2, 3]


def test_global_state_survives_a_failure(deployment: Deployment, tmp_path: Path) -> None:
    """With one state for all streams, a retry goes on in all tables from the same point."""
    flag = tmp_path / "failed"
    a = orders(20, name="a", at=[{"after": 15, "once": str(flag), "steps": [{"exit": 1}]}])
    b = orders(20, name="b")
    scenario = {"streams": [a, b], "read": {"global_state": True}}
    job = deployment.job(write_scenario(tmp_path, scenario), "merge")
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    deployment.run(job, "run-1", 2)
    assert ids(deployment, "a") == list(range(1, 21))
    assert ids(deployment, "b") == list(range(1, 21))


def test_a_partitioned_table_over_checkpoints_and_a_retry(deployment: Deployment, tmp_path: Path) -> None:
    """Partitions of a renamed column and of an encrypted one; each state covers exactly its rows."""
    flag = tmp_path / "failed"
    fails = {"after": 25, "once": str(flag), "steps": [{"exit": 1}]}
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [orders(40, at=[fails])]}),
        column_transformations=[
            {"column": "id", "transformation_type": "rename", "new_name": "number"},
            {"column": "item", "transformation_type": "encrypt"},
        ],
        tables=(
            TableRequest(
                stream="orders",
                partition_by=("truncate(10, id)", "bucket(2, item)"),
                sort_by=("id desc",),
            ),
        ),
    )
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    assert sorted(row[0] for row in deployment.rows("orders", "number")) == list(range(1, 21))
    deployment.run(job, "run-1", 2)
    assert sorted(row[0] for row in deployment.rows("orders", "number")) == list(range(1, 41))
    table = deployment.table("orders")
    assert [field.name for field in table.spec().fields] == ["number_trunc_10", "item_bucket_2"]
    assert json.loads(table.properties["airberg.encryption.item"])["mode"] == "deterministic"
    assert_partitions_hold(table)
    assert sorted(row["number"] for row in duckdb_rows(table)) == list(range(1, 41))
    found = table.scan(row_filter="number >= 30 and number < 40")
    assert found.to_arrow().num_rows == 10
    assert len(list(found.plan_files())) < len(list(table.scan().plan_files()))
