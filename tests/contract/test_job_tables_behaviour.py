"""What everybody does who looks after tables between runs: the worker process, and its twin in this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from airberg.errors import Conflict, InvalidRequest, NotFound, Unavailable
from airberg.jobs.audit import Act
from airberg.jobs.model import Job, Run
from airberg.lake.note import property_name
from airberg.settings import ApiSettings
from airberg.sync.job_tables import JobTables
from airberg.sync.job_tables_child import ChildJobTables
from airberg.sync.job_tables_here import JobTablesHere
from support.deployment import Deployment, write_scenario

RULES = [
    {"column": "name", "transformation_type": "encrypt"},
    {"column": "card", "transformation_type": "mask", "keep_last": 2},
    {"column": "address.city", "transformation_type": "encrypt"},
]
TEXT = {"type": ["null", "string"]}
PROPERTIES = {
    "id": {"type": "integer"},
    "name": TEXT,
    "card": TEXT,
    "text": TEXT,
    "address": {"type": "object", "properties": {"city": TEXT, "zip": TEXT}},
}
RECORDS = [
    {
        "id": i,
        "name": f"name {i}",
        "card": "12345",
        "text": "t" * 500,
        "address": {"city": "Kyiv", "zip": "1"},
    }
    for i in range(1, 8)
]


class Site:
    """A deployment with two jobs that have run twice: `open` has nothing protected, `shut` has."""

    def __init__(self, folder: Path, pyairbyte_dir: Path, connectors_dir: Path) -> None:
        self.deployment = Deployment(folder / "home", pyairbyte_dir, connectors_dir)
        self.jobs: dict[str, tuple[Job, list[Run]]] = {}
        for schema, rules in (("open", []), ("shut", RULES)):
            (folder / schema).mkdir()
            path = self._source(folder / schema, 3)
            job = self.deployment.job(path, schema_name=schema, column_transformations=rules)
            runs = [self.deployment.run(job, "run-1")]
            self._source(folder / schema, 7)
            self.jobs[schema] = job, [*runs, self.deployment.run(job, "run-2")]

    def _source(self, folder: Path, count: int) -> Path:
        users = {
            "name": "users",
            "cursor": "id",
            "primary_key": [["id"]],
            "records": RECORDS[:count],
            "json_schema": {"type": "object", "properties": PROPERTIES},
        }
        full = {"name": "full", "records": RECORDS[:1]}
        return write_scenario(folder, {"streams": [users, full]})

    def here(self) -> JobTablesHere:
        """The twin."""
        made = self.deployment
        return JobTablesHere(made.settings, made.store, made.catalog, made.store.sealer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path) -> Site:
    """One for all tests: each leaves tables and states as it found them."""
    return Site(tmp_path_factory.mktemp("tables"), pyairbyte_dir, connectors_dir)


@pytest.fixture(params=["child", "here"])
def tables(request: pytest.FixtureRequest, site: Site) -> JobTables:
    """Each adapter."""
    return ChildJobTables(site.deployment.settings) if request.param == "child" else site.here()


def act(job_id: UUID) -> Act:
    """An act that is told from others by its request."""
    return Act(
        actor="ann", action="x", kind="job", target=str(job_id), request_id=str(uuid4()), detail={"a": [1]}
    )


def recorded(site: Site, done: Act) -> bool:
    """Whether it is in the audit log as it is."""
    found = [e for e in site.deployment.store.audit.entries() if e.request_id == done.request_id]
    return [(e.actor, e.action, e.target, e.detail) for e in found] == [
        (done.actor, done.action, done.target, done.detail)
    ]


def own(cursor: object) -> dict[str, Any]:
    """A state of the stream `users`."""
    body = {"stream_descriptor": {"name": "users"}, "stream_state": {"cursor": cursor}}
    return {"type": "STREAM", "stream": body}


def test_state_of_a_job(tables: JobTables, site: Site) -> None:
    """Of each stream; what is protected is not shown."""
    job, runs = site.jobs["open"]
    found = tables.state(job.id)
    users = next(s for s in found.streams if s.stream == "users")
    full = next(s for s in found.streams if s.stream == "full")
    assert (users.kind, users.state, users.protected, users.complete) == ("stream", own(7), False, True)
    assert (users.table, users.flow_run_id, users.exists) == ("open.users", runs[1].flow_run_id, True)
    assert users.snapshot_id == site.deployment.table("users", "open").metadata.current_snapshot_id
    assert (full.sync_mode, full.kind, full.state) == ("full_refresh", None, None)
    assert (found.states, found.unfinished) == ((own(7),), ())
    shut = tables.state(site.jobs["shut"][0].id)
    assert (shut.states, {s.protected for s in shut.streams}) == ((), {True})


def test_set_and_delete(tables: JobTables, site: Site) -> None:
    """Each is recorded, and the answer shows what is there then."""
    job = site.jobs["open"][0]
    for change, cursor in ((own(3), own(3)), (None, None), (own(7), own(7))):
        done = act(job.id)
        if change is None:
            found = tables.delete_state(job.id, ["users"], act=done)
        else:
            found = tables.set_state(job.id, [change], act=done)
        assert [s.state for s in found.streams if s.stream == "users"] == [cursor]
        assert tables.state(job.id) == found
        assert recorded(site, done)


def test_back_and_forth(tables: JobTables, site: Site) -> None:
    """A dry run changes and records nothing; the answer is that of the rewind but for `done`."""
    job, runs = site.jobs["shut"]
    done = act(job.id)
    asked = tables.rewind(job.id, runs[0].id, force=False, dry_run=True, act=done)
    assert not recorded(site, done)
    made = tables.rewind(job.id, runs[0].id, force=False, dry_run=False, act=done)
    assert (made.tables, asked.done, made.done) == (asked.tables, False, True)
    assert site.deployment.table("users", "shut").scan().to_arrow().num_rows == 3
    assert recorded(site, done)
    tables.rewind(job.id, runs[1].id, force=False, dry_run=False, act=act(job.id))
    assert site.deployment.table("users", "shut").scan().to_arrow().num_rows == 7


def test_a_table(tables: JobTables, site: Site) -> None:
    """Columns with their protection, snapshots, and rows without what is encrypted."""
    found = tables.table("shut", "users", snapshots=1, preview=2)
    columns = {c.name: c for c in found.columns}
    assert [(n, c.protection) for n, c in columns.items() if c.protection] == [
        ("name", "encrypted"),
        ("card", "masked"),
        ("address.city", "encrypted"),
    ]
    assert (columns["name"].type, columns["name"].plain_type, columns["name"].key) == (
        "binary",
        "string",
        "default",
    )
    assert columns["address.zip"].protection is None
    assert (found.rows, found.jobs, found.format_version) == (7, (str(site.jobs["shut"][0].id),), 2)
    assert found.snapshot_count >= 2
    [newest] = found.snapshots
    assert (newest.current, newest.job_id) == (True, str(site.jobs["shut"][0].id))
    assert found.preview is not None
    assert len(found.preview) == 2
    for row in found.preview:
        assert (row["name"], row["card"]) == ("<encrypted>", "***45")
        assert row["address"] == {"city": "<encrypted>", "zip": "1"}
        assert row["text"] == "t" * 200 + "…"
    assert tables.table("shut", "users", snapshots=0, preview=0).preview is None


def test_what_is_refused(tables: JobTables, site: Site) -> None:
    """The same errors with the same codes."""
    job, _ = site.jobs["open"]
    other_run = site.jobs["shut"][1][0].id
    with pytest.raises(NotFound):
        tables.state(uuid4())
    with pytest.raises(NotFound):
        tables.rewind(job.id, uuid4(), force=False, dry_run=True, act=None)
    with pytest.raises(NotFound):
        tables.rewind(job.id, other_run, force=False, dry_run=True, act=None)
    with pytest.raises(NotFound):
        tables.table("open", "nothing", snapshots=1, preview=0)
    with pytest.raises(InvalidRequest) as refused:
        tables.set_state(job.id, [own(1), {"type": "STREAM"}, own(2)], act=None)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [
        ("/states/1", "bad-state"),
        ("/states/2", "state-given-twice"),
    ]
    with pytest.raises(InvalidRequest) as refused:
        tables.delete_state(job.id, ["full", "nothing"], act=None)
    assert [p.code for p in refused.value.problems] == ["stream-without-state", "unknown-stream"]
    lease = site.deployment.store.acquire_lease(job.id, "a run", 60.0)
    with pytest.raises(Conflict) as busy:
        tables.delete_state(job.id, None, act=None)
    assert busy.value.code == "job-running"
    site.deployment.store.release_lease(lease)


def test_a_damaged_note(tables: JobTables, site: Site) -> None:
    """What ends a run is here a part that does not answer."""
    job = site.jobs["open"][0]
    table = site.deployment.table("users", "open")
    name = property_name(job.id)
    for value in ("damaged", table.properties[name]):
        with table.transaction() as transaction:
            transaction.set_properties({name: value})
        if value == "damaged":
            with pytest.raises(Unavailable) as refused:
                tables.state(job.id)
            assert refused.value.code == "checkpoint-unreadable"
    assert tables.state(job.id).states


def test_no_answer_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is ended, and the answer says which setting it was."""
    monkeypatch.setattr("airberg.sync.job_tables_child.WORKER", "support.silent_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    hurried = site.deployment.settings.model_copy(update={"api": ApiSettings(tables_timeout_s=0.1)})
    with pytest.raises(Unavailable, match="did not answer in time") as late:
        ChildJobTables(hurried).state(site.jobs["open"][0].id)
    assert late.value.code == "tables-timeout"
    assert "AIRBERG_API__TABLES_TIMEOUT_S" in late.value.guidance
