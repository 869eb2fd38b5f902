"""What every job store does when people change a job: all at once, from the version that they saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from airberg.errors import Conflict, NotFound, PreconditionFailed
from airberg.jobs.audit import Act
from airberg.jobs.changes import JobChange, NewConfig
from airberg.jobs.finding import JobFilter, Viewer
from airberg.jobs.model import RunStatus
from airberg.jobs.port import JobStore
from airberg.sources.entry import ConnectorEntry
from support.at_once import at_once
from support.jobs import NOON, a_job, a_plan, at

ACT = Act(actor="ann (i|ann)", action="job.change", kind="job", target="t")
CONFIG: dict[str, object] = {"host": "a", "token": "old"}


def test_all_of_a_change_is_stored_at_once(store: JobStore) -> None:
    """Request, owner, plan, configuration, pause; what runs did stays; the version goes up by one."""
    job = store.add_job(a_job(), CONFIG)
    run = store.start_run(job.id, "r", 1, at(1))
    request = msgspec.structs.replace(
        job.request, name="new", owner_id="bob@example.com", tags=("z",), share_with=("sales",), schedule=None
    )
    plan = msgspec.structs.replace(a_plan(), namespace=("other",))
    config = NewConfig(
        config={"host": "b", "token": "new"}, public={"host": "b", "token": "*"}, instead_of=CONFIG
    )
    before = store.flows_version()
    change = JobChange(version=1, request=request, plan=plan, config=config, paused=True)
    found = store.update(job.id, change, act=ACT)
    assert found == store.job(job.id)
    assert (found.request, found.owner_id, found.plan) == (request, "bob@example.com", plan)
    assert (found.public_config, found.paused, found.version) == (config.public, True, 2)
    assert store.source_config(job.id) == config.config
    assert (found.status.value, found.last_started_at, found.shard) == ("running", at(1), job.shard)
    assert store.find_job("bob@example.com", "new") == found
    assert store.find_job("ann@example.com", "orders") is None
    assert store.flows_version() != before
    assert [e.action for e in store.audit.entries()] == ["job.change"]
    for wanted in (
        JobFilter(tag="z"),
        JobFilter(owner_id="bob@example.com"),
        JobFilter(viewer=Viewer("i|c", frozenset({"sales"}))),
    ):
        assert [listed.job.id for listed in store.page(wanted)] == [job.id]
    assert list(store.page(JobFilter(tag="demo"))) == []
    assert [j.id for j in store.jobs_filling(["other.users"])] == [job.id]
    assert list(store.jobs_filling(["shop.users"])) == []
    assert store.end_run(run.id, RunStatus.COMPLETED, at(2)).status is RunStatus.COMPLETED


def test_what_is_left_out_stays(store: JobStore) -> None:
    """An empty change changes the version alone."""
    job = store.add_job(a_job(), CONFIG)
    found = store.update(job.id, JobChange(version=1))
    assert found == replace(job, version=2)
    assert store.source_config(job.id) == CONFIG


def test_a_change_of_another_version_is_refused(store: JobStore) -> None:
    """And leaves no trace; so are a deletion and a move of the connector."""
    job = store.add_job(a_job(), CONFIG)
    store.set_paused(job.id, True)
    entry = ConnectorEntry(name="source-faker")
    calls: list[Callable[[], Any]] = [
        lambda: store.update(job.id, JobChange(version=1, paused=False), act=ACT),
        lambda: store.delete_job(job.id, NOON, version=1, act=ACT),
        lambda: store.set_connector(job.id, entry, None, version=1),
    ]
    before = store.job(job.id)
    for number, call in enumerate(calls):
        with pytest.raises(PreconditionFailed) as e:
            pytest.fail(f"call {number} returned {call()!r}")
        assert (e.value.code, e.value.status) == ("job-changed", 412)
    assert store.job(job.id) == before
    assert list(store.audit.entries()) == []
    assert store.delete_job(job.id, NOON, version=2).deleted_at == NOON


def test_versions_count_what_people_do(store: JobStore) -> None:
    """Schedule, pause, connector, deletion; not what runs and the orchestrator do."""
    job = store.add_job(a_job(), CONFIG)
    versions = [
        job.version,
        store.set_schedule(job.id, None, "UTC").version,
        store.set_paused(job.id, True).version,
        store.set_connector(job.id, ConnectorEntry(name="source-faker"), None).version,
    ]
    run = store.start_run(job.id, "r", 1, at(1))
    store.end_run(run.id, RunStatus.FAILED, at(2))
    store.set_flow_hash(job.id, "x")
    store.set_plan(job.id, a_plan())
    store.replace_source_config(job.id, {}, {})
    versions.append(store.job(job.id).version)
    versions.append(store.delete_job(job.id, NOON).version)
    assert versions == [1, 2, 3, 4, 4, 5]
    assert store.job(job.id).version == 5


def test_a_configuration_that_was_renewed_meanwhile_is_not_lost(store: JobStore) -> None:
    """Neither is one that somebody changed while a run had an older one."""
    job = store.add_job(a_job(), CONFIG)
    renewed: dict[str, object] = {"host": "a", "token": "renewed"}
    assert store.replace_source_config(job.id, renewed, {"host": "a"}, instead_of=CONFIG)
    late = NewConfig(config={"host": "a", "token": "old", "n": 1}, public={}, instead_of=CONFIG)
    with pytest.raises(PreconditionFailed):
        store.update(job.id, JobChange(version=1, config=late), act=ACT)
    assert store.source_config(job.id) == renewed
    assert not store.replace_source_config(job.id, {"token": "late"}, {}, instead_of=CONFIG)
    assert store.source_config(job.id) == renewed
    assert store.job(job.id).public_config == {"host": "a"}
    assert list(store.audit.entries()) == []


def test_a_plan_of_an_older_job_is_not_stored(store: JobStore) -> None:
    """A run that planned anew while somebody changed the job does not undo the change."""
    job = store.add_job(a_job(), CONFIG)
    newer = msgspec.structs.replace(a_plan(), namespace=("newer",))
    store.update(job.id, JobChange(version=1, plan=newer))
    assert not store.set_plan(job.id, a_plan(), version=1)
    assert store.job(job.id).plan == newer
    assert store.set_plan(job.id, a_plan(), version=2)
    assert store.job(job.id).plan == a_plan()


def test_names_stay_unique(store: JobStore) -> None:
    """A change to a name that the owner has, or to an owner who has the name, is a conflict."""
    one, two = store.add_job(a_job(), {}), store.add_job(a_job("two"), {})
    bobs = store.add_job(a_job(owner="bob@example.com"), {})
    changes = (
        (two, {"name": "orders"}, one),
        (one, {"owner_id": "bob@example.com"}, bobs),
    )
    for job, members, other in changes:
        request = msgspec.structs.replace(job.request, **members)
        with pytest.raises(Conflict, match=str(other.id)):
            store.update(job.id, JobChange(version=1, request=request), act=ACT)
        assert store.job(job.id) == job
    store.delete_job(one.id, NOON)
    request = msgspec.structs.replace(two.request, name="orders")
    assert store.update(two.id, JobChange(version=1, request=request)).request.name == "orders"


def test_unknown_and_deleted_jobs(store: JobStore) -> None:
    """Are not found."""
    job = store.add_job(a_job(), {})
    store.delete_job(job.id, NOON)
    for job_id in (uuid4(), job.id):
        with pytest.raises(NotFound):
            store.update(job_id, JobChange(version=2, paused=True))


def test_one_of_many_changes_of_one_version_is_made(store: JobStore) -> None:
    """The others are told, and nothing of theirs is stored."""
    job = store.add_job(a_job(), {})
    calls = [
        lambda n=n: store.update(
            job.id,
            JobChange(version=1, request=msgspec.structs.replace(job.request, tags=(f"t{n}",))),
            act=ACT,
        )
        for n in range(8)
    ]
    results = at_once(*calls)
    made = [r for r in results if not isinstance(r, Exception)]
    assert len(made) == 1
    assert all(isinstance(r, PreconditionFailed) for r in results if isinstance(r, Exception)), results
    assert store.job(job.id) == made[0]
    assert len(store.audit.entries()) == 1
