"""Runs of sources with one state for several tables: crashes between tables, streams that come and go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import ForbiddenError

from airberg.errors import ConfigurationFailed
from airberg.lake.note import Note, read_note
from airberg.settings import SyncSettings
from support.crash_points import crash_at
from support.deployment import Deployment, write_scenario
from support.deployment import numbered_stream as stream
from support.lake_tables import FaultyCatalog, fail_before, sql_catalog

STREAMS = ("a", "b", "c")


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def scenario(folder: Path, *streams: dict[str, Any]) -> Path:
    """A source with one state for these streams."""
    return write_scenario(folder, {"streams": list(streams), "read": {"global_state": True}})


def ids(deployment: Deployment, table: str) -> list[int]:
    """The ids in a table, sorted."""
    return [row[0] for row in sorted(deployment.rows(table, "id"))]


def notes(deployment: Deployment, job_id: object) -> dict[str, Note | None]:
    """The notes of the job."""
    return {name: read_note(deployment.table(name), str(job_id), deployment.parts.sealer) for name in STREAMS}


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize("run", [("run-1", 2), ("run-2", 1)], ids=["retry", "new run"])
def test_a_crash_between_tables(
    deployment: Deployment, tmp_path: Path, mode: str, run: tuple[str, int]
) -> None:
    """Some tables have the newest checkpoint and others not: the next run completes it, then goes on."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)), mode)
    for n in (0, 5):
        with crash_at(n, "between-tables") as point:
            deployment.run(job, run[0], n + 1)
        assert point.hit is not None
        assert len({note.shared if note else 0 for note in notes(deployment, job.id).values()}) == 2
    deployment.run(job, run[0], 10 + run[1])
    for name in STREAMS:
        assert ids(deployment, name) == list(range(1, 13))
    found = [note for note in notes(deployment, job.id).values() if note]
    assert len({(note.shared, json.dumps(note.state)) for note in found}) == 1
    assert len(found) == 3
    assert not any(Path(deployment.home, "warehouse").rglob("airberg-promise-*"))


def test_a_table_that_began_later_is_not_taken_for_the_oldest(deployment: Deployment, tmp_path: Path) -> None:
    """Its own count of commits is smaller, yet its state may be the newest: the others' rows must not go."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    deployment.run(job, "run-1")
    deployment.catalog.drop_table(("shop", "a"))
    scenario(tmp_path, *(stream(name, 30) for name in STREAMS))
    with crash_at(0, "between-tables"):
        deployment.run(job, "run-2", 1)
    deployment.run(job, "run-2", 2)
    for name in STREAMS:
        assert ids(deployment, name) == list(range(1, 31))


def test_a_last_commit_that_is_refused_is_what_the_run_fails_for(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path
) -> None:
    """Also with rows behind the last state, which no other commit can take. The retry is exact."""
    deployment = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)  # commits at the end only
    catalog: FaultyCatalog = sql_catalog(deployment.home, FaultyCatalog)
    deployment.catalog = catalog
    deployment.parts = replace(deployment.parts, catalog=catalog)
    late = {"stream": "c", "data": {"id": 99, "item": "late"}, "emitted_at": 1}
    end = [{"emit": {"type": "RECORD", "record": late}}]
    streams = [*map(stream, STREAMS)]
    job = deployment.job(
        write_scenario(tmp_path, {"streams": streams, "read": {"global_state": True, "end": end}})
    )
    catalog.faults = [fail_before(ForbiddenError("read only"))] * 10
    with pytest.raises(ConfigurationFailed, match="read only"):
        deployment.run(job, "run-1", 1)
    catalog.faults = []
    scenario(tmp_path, *map(stream, STREAMS))
    deployment.run(job, "run-1", 2)
    for name in STREAMS:
        assert ids(deployment, name) == list(range(1, 13))
    catalog.close()


def test_streams_with_a_state_of_their_own_beside_a_shared_one(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A source may give some streams one state and others one each: both kinds come back to it."""
    own = {"stream_descriptor": {"name": "c"}, "stream_state": {"cursor": 12}}
    common = [{"stream_descriptor": {"name": name}, "stream_state": {"cursor": 12}} for name in ("a", "b")]
    end = [
        {"emit": {"type": "STATE", "state": {"type": "STREAM", "stream": own}}},
        {
            "emit": {
                "type": "STATE",
                "state": {"type": "GLOBAL", "global": {"shared_state": {"lsn": 7}, "stream_states": common}},
            }
        },
    ]
    seen = tmp_path / "seen.json"
    steps = [{"report": str(seen)}]
    silent = [stream(name, state_every=100, counts=False) for name in STREAMS]
    path = write_scenario(tmp_path, {"streams": silent, "read": {"steps": steps, "end": end}})
    job = deployment.job(path)
    deployment.run(job, "run-1")
    deployment.run(job, "run-2")
    given = json.loads(seen.read_text())["state"]
    assert [message["type"] for message in given] == ["GLOBAL", "STREAM"]
    assert given[0]["global"]["stream_states"] == common
    assert given[1]["stream"] == own
    for name in STREAMS:
        assert ids(deployment, name) == list(range(1, 13))


def test_a_shared_state_is_sealed_in_all_tables(deployment: Deployment, tmp_path: Path) -> None:
    """It holds cursor values of all streams: of an encrypted column too, in tables that have none."""
    people = [{"email": f"person{i}@example.com", "id": i} for i in range(1, 6)]
    users = {"name": "a", "cursor": "email", "primary_key": [["id"]], "records": people}
    job = deployment.job(
        scenario(tmp_path, users, stream("b"), stream("c")),
        column_transformations=[{"stream": "a", "column": "email", "transformation_type": "encrypt"}],
    )
    deployment.run(job)
    found = notes(deployment, job.id)
    assert all(note and "person5@example.com" in str(note.state) for note in found.values())
    for name in STREAMS:
        with pytest.raises(ConfigurationFailed, match="is sealed"):
            read_note(deployment.table(name), str(job.id))
