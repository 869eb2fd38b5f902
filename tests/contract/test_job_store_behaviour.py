"""What every job store does, whatever it keeps its jobs in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airberg.errors import Conflict, NotFound
from airberg.jobs.lifecycle import JOBS_PER_SHARD
from airberg.jobs.model import Job, JobStatus, RunReport, RunStatus, StoredAnswer, StreamReport
from airberg.jobs.port import JobStore
from airberg.sources.entry import ConnectorEntry
from support.jobs import NOON, a_job, a_plan, a_run, at

CONFIG: dict[str, object] = {"token": "s3cret-ü-\x00", "nested": {"n": [1, 2.5, None, True, 10**30]}}
T = TypeVar("T")


# ---- jobs ------------------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was(store: JobStore) -> None:
    """Every field survives storing, plan and request included; so does its first run."""
    job = a_job(status=JobStatus.FAILED, status_message="so so", paused=True, last_failed_at=at(1))
    run = a_run(job.id)
    assert store.add_job(job, CONFIG, run) == job
    assert store.job(job.id) == job
    assert store.find_job(job.owner_id, "orders") == job
    assert list(store.runs(job.id)) == [run]


def test_times_come_back_aware_in_utc(store: JobStore) -> None:
    """A time given in another zone is the same moment, in UTC."""
    berlin = timezone(timedelta(hours=2))
    job = a_job(created_at=datetime(2026, 7, 1, 2, 0, tzinfo=berlin))
    store.add_job(job, {})
    created = store.job(job.id).created_at
    assert created == job.created_at
    assert created.astimezone(UTC).hour == 0
    assert created.tzinfo is not None


def test_a_job_without_plan(store: JobStore) -> None:
    """A job may wait for its plan, and get it later."""
    job = store.add_job(a_job(plan=None), {})
    assert store.job(job.id).plan is None
    store.set_plan(job.id, a_plan())
    assert store.job(job.id).plan == a_plan()


def test_the_configuration_comes_back_exactly(store: JobStore) -> None:
    """Secrets survive with types, big numbers, NULs and lone surrogates."""
    odd: dict[str, object] = CONFIG | {"half": "\ud800"}
    job = store.add_job(a_job(), odd)
    assert store.source_config(job.id) == odd


def test_unknown_things_are_not_found(store: JobStore) -> None:
    """Ids that nobody knows raise NotFound, searches give None."""
    nobody = uuid4()
    calls: list[Callable[[], Any]] = [
        lambda: store.job(nobody),
        lambda: store.source_config(nobody),
        lambda: store.replace_source_config(nobody, {}, {}),
        lambda: store.set_schedule(nobody, None, "UTC"),
        lambda: store.set_paused(nobody, True),
        lambda: store.set_plan(nobody, a_plan()),
        lambda: store.set_connector(nobody, ConnectorEntry(name="source-x"), None),
        lambda: store.set_flow_hash(nobody, "x"),
        lambda: store.set_job_status(nobody, JobStatus.NEW, None),
        lambda: store.delete_job(nobody, NOON),
        lambda: store.add_run(a_run(nobody)),
        lambda: store.run(nobody),
        lambda: store.start_run(nobody, "r", 1, NOON),
        lambda: store.report_run(nobody, RunReport()),
        lambda: store.end_run(nobody, RunStatus.FAILED, NOON),
        lambda: store.acquire_lease(nobody, "me", 10),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(NotFound):
            pytest.fail(f"call {number} returned {call()!r}")
    assert store.find_job("nobody", "nothing") is None
    assert store.find_run(nobody, "r") is None
    assert store.stored_answer("nobody", "k") is None
    assert store.lease(nobody) is None
    assert list(store.runs(nobody)) == []


def test_jobs_are_found_by_the_tables_that_they_fill(store: JobStore) -> None:
    """By what their newest plan says; not when they are deleted, nor for a table that only sounds alike."""
    plan = a_plan()
    first = store.add_job(a_job(), {})
    second = store.add_job(a_job("other", created_at=at(1)), {})
    unplanned = store.add_job(a_job("unplanned", plan=None), {})
    [table, *_] = plan.table_names
    assert [j.id for j in store.jobs_filling([table, "no.such"])] == [first.id, second.id]
    assert [j.id for j in store.jobs_filling([table.upper() + "x"])] == []
    assert [j.id for j in store.jobs_filling([])] == []
    moved = msgspec.structs.replace(plan, namespace=("elsewhere",))
    store.set_plan(second.id, moved)
    store.set_plan(unplanned.id, moved)
    assert [j.id for j in store.jobs_filling(plan.table_names)] == [first.id]
    assert {j.id for j in store.jobs_filling(moved.table_names)} == {second.id, unplanned.id}
    store.delete_job(first.id, at(9))
    assert [j.id for j in store.jobs_filling(plan.table_names)] == []


def test_flows_are_due_until_they_were_followed(store: JobStore) -> None:
    """Whatever changes a flow makes it due; it stays so when it changed again while it was followed."""
    job = store.add_job(a_job(), {})
    other = store.add_job(a_job("other", created_at=at(1)), {})
    first, second = store.flows_due()
    assert [first.job, second.job] == [job.as_flow_job(), other.as_flow_job()]
    store.flow_followed(second)
    paused = store.set_paused(job.id, True)
    store.flow_followed(first)
    [again] = store.flows_due()
    assert again.job == paused.as_flow_job()
    store.flow_followed(again)
    store.flow_followed(again)
    assert list(store.flows_due()) == []
    changes: list[Callable[[], Job]] = [
        lambda: store.set_schedule(other.id, "@hourly", "UTC"),
        lambda: store.set_paused(other.id, False),
        lambda: store.delete_job(other.id, at(9)),
    ]
    for change in changes:
        changed = change()
        [due] = store.flows_due()
        assert due.job == changed.as_flow_job()
        store.flow_followed(due)


def test_jobs_as_flows_are_made_of_them(store: JobStore) -> None:
    """Those that are not deleted, oldest first; and deleted ones as long as their flow is there."""
    younger = store.add_job(a_job("younger", created_at=at(1)), {})
    older = store.add_job(a_job("older", plan=None), {})
    gone = store.add_job(a_job("gone", created_at=at(2)), {})
    store.set_flow_hash(gone.id, "a" * 32)
    gone = store.delete_job(gone.id, at(9))
    younger = store.set_paused(younger.id, True)
    living = [older.as_flow_job(), younger.as_flow_job()]
    assert list(store.flow_jobs()) == living
    assert list(store.flow_jobs(to_withdraw=True)) == [*living, gone.as_flow_job()]
    store.set_flow_hash(gone.id, None)
    assert list(store.flow_jobs(to_withdraw=True)) == living


def test_a_flow_beside_is_one_that_is_there(store: JobStore) -> None:
    """In the same file, registered, of a job that is not deleted, and another one."""
    jobs = [store.add_job(a_job(f"job {number}"), {}) for number in range(JOBS_PER_SHARD + 1)]
    first, second, *_, elsewhere = jobs
    assert elsewhere.shard != first.shard
    store.set_flow_hash(first.id, "a" * 32)
    store.set_flow_hash(elsewhere.id, "a" * 32)
    assert store.flow_beside(second.id) == first.id
    assert store.flow_beside(first.id) is None
    assert store.flow_beside(elsewhere.id) is None
    store.delete_job(first.id, at(9))
    assert store.flow_beside(second.id) is None


def test_names_are_unique_per_owner(store: JobStore) -> None:
    """A second job of one name is a conflict that names the first; another owner may use the name."""
    first = store.add_job(a_job(), {})
    with pytest.raises(Conflict) as e:
        store.add_job(a_job(), {})
    assert e.value.code == "name-taken"
    assert str(first.id) in e.value.message
    store.add_job(a_job(owner="bob@example.com"), {})
    assert len(store.jobs()) == 2


def test_a_deleted_job_frees_its_name_and_forgets_its_secrets(store: JobStore) -> None:
    """After deletion: the name can be used again, the configuration is gone, the job is still known."""
    job = store.add_job(a_job(), CONFIG)
    deleted = store.delete_job(job.id, at(5))
    assert deleted.deleted_at == at(5)
    assert store.job(job.id) == deleted
    assert store.find_job(job.owner_id, "orders") is None
    with pytest.raises(NotFound):
        store.source_config(job.id)
    again = store.add_job(a_job(), {})
    assert [j.id for j in store.jobs()] == [again.id]
    assert {j.id for j in store.jobs(include_deleted=True)} == {job.id, again.id}
    assert store.delete_job(job.id, at(9)) == deleted


def test_a_deleted_job_does_not_change(store: JobStore) -> None:
    """Schedule, pause, configuration and new runs are refused; an end of a running run is still noted."""
    job = store.add_job(a_job(), CONFIG)
    run = store.start_run(job.id, "r1", 1, at(1))
    store.delete_job(job.id, at(2))
    calls: list[Callable[[], Any]] = [
        lambda: store.set_schedule(job.id, None, "UTC"),
        lambda: store.set_paused(job.id, True),
        lambda: store.replace_source_config(job.id, {}, {}),
        lambda: store.add_run(a_run(job.id, "r2")),
        lambda: store.start_run(job.id, "r1", 2, at(3)),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(NotFound):
            pytest.fail(f"call {number} returned {call()!r}")
    assert store.end_run(run.id, RunStatus.CANCELLED, at(4)).ended_at == at(4)


def test_jobs_are_listed_newest_first(store: JobStore) -> None:
    """Order, limit and the filter by creator."""
    made = [store.add_job(a_job(f"j{i}", created_at=at(i)), {}) for i in (2, 0, 1)]
    other = store.add_job(a_job("x", owner="bob@example.com", created_at=at(9)), {})
    assert [j.request.name for j in store.jobs()] == ["x", "j2", "j1", "j0"]
    assert [j.request.name for j in store.jobs(limit=2)] == ["x", "j2"]
    assert list(store.jobs(created_by=other.created_by)) == [other]
    assert len(store.jobs(created_by=made[0].created_by)) == 3


def test_a_configuration_can_be_replaced(store: JobStore) -> None:
    """A rotated token replaces the secret and what is shown of it, and nothing else."""
    job = store.add_job(a_job(), CONFIG)
    store.replace_source_config(job.id, {"token": "new"}, {"token": "*", "since": 1})
    assert store.source_config(job.id) == {"token": "new"}
    found = store.job(job.id)
    assert found.public_config == {"token": "*", "since": 1}
    assert found.request == job.request


def test_connector_is_changed_with_the_plan(store: JobStore) -> None:
    """Both at once; without a new plan the old one stays, and is not taken for fresh."""
    job = store.add_job(a_job(), {})
    one = ConnectorEntry(name="source-faker", package="airbyte-source-faker", version="7.2.1")
    plan = msgspec.structs.replace(a_plan(), connector_version="7.2.1")
    moved = store.set_connector(job.id, one, plan)
    assert moved == store.job(job.id)
    assert (moved.request.connector, moved.request.source_version, moved.plan) == (one, "7.2.1", plan)
    two = msgspec.structs.replace(one, version="7.3.0")
    kept = store.set_connector(job.id, two, None)
    assert kept == store.job(job.id)
    assert (kept.request.connector, kept.request.name) == (two, job.request.name)
    assert kept.plan == msgspec.structs.replace(plan, discovered_at=0.0)
    store.delete_job(job.id, NOON)
    with pytest.raises(NotFound):
        store.set_connector(job.id, one, plan)


def test_schedule_pause_hash_and_status_are_stored(store: JobStore) -> None:
    """Each setter changes its own fields; a message may hold what a database would refuse."""
    job = store.add_job(a_job(), {})
    changed = store.set_schedule(job.id, None, "UTC")
    assert changed.request == msgspec.structs.replace(job.request, schedule=None, timezone="UTC")
    assert store.set_paused(job.id, True).paused
    store.set_flow_hash(job.id, "abc")
    store.set_job_status(job.id, JobStatus.FAILED, "no \x00 flow \ud800")
    found = store.job(job.id)
    assert found.request == changed.request
    assert (found.paused, found.flow_hash, found.status) == (True, "abc", JobStatus.FAILED)
    assert found.status_message == "no \ufffd flow ?"
    store.set_flow_hash(job.id, None)
    assert store.job(job.id).flow_hash is None


def test_shards_hold_twenty_and_holes_are_filled(store: JobStore) -> None:
    """The 21st job opens a shard; after a deletion the next one takes the free place."""
    made = [store.add_job(a_job(f"j{i}"), {}) for i in range(JOBS_PER_SHARD + 1)]
    assert Counter(j.shard for j in made) == {0: JOBS_PER_SHARD, 1: 1}
    store.delete_job(made[3].id, NOON)
    assert store.add_job(a_job("hole"), {}).shard == 0
    assert store.add_job(a_job("next"), {}).shard == 1


def test_the_flows_version_follows_what_flows_are_made_from(store: JobStore) -> None:
    """It changes with jobs, schedules and pauses, and stays with runs, hashes and a refused job."""
    seen = [store.flows_version()]
    job = store.add_job(a_job(), {})
    seen.append(store.flows_version())
    store.set_schedule(job.id, "@daily", "UTC")
    seen.append(store.flows_version())
    store.set_paused(job.id, True)
    seen.append(store.flows_version())
    store.set_flow_hash(job.id, "abc")
    store.start_run(job.id, "r", 1, NOON)
    with pytest.raises(Conflict):
        store.add_job(a_job(), {})
    assert store.flows_version() == seen[-1]
    store.delete_job(job.id, NOON)
    seen.append(store.flows_version())
    assert len(set(seen)) == len(seen)


# ---- runs ------------------------------------------------------------------------------------------------

REPORT = RunReport(streams=(StreamReport(stream="users", table="users", rows_read=3, snapshot_ids=(2**62,)),))


def test_a_run_is_added_once(store: JobStore) -> None:
    """A flow run that is known already gives the stored run; the same id in another job is another run."""
    job, other = store.add_job(a_job(), {}), store.add_job(a_job("other"), {})
    run = store.add_run(a_run(job.id))
    assert store.add_run(a_run(job.id)) == run
    assert store.add_run(a_run(other.id)) != run
    assert store.run(run.id) == run
    assert store.find_run(job.id, run.flow_run_id) == run


def test_a_run_goes_its_way(store: JobStore) -> None:
    """Queued, running, reported, completed: run and job show it at each step."""
    job = a_job()
    queued = a_run(job.id)
    store.add_job(job, {}, queued)
    run = store.start_run(job.id, queued.flow_run_id, 1, at(1))
    assert (run.id, run.status, run.attempt, run.started_at) == (queued.id, RunStatus.RUNNING, 1, at(1))
    running = store.job(job.id)
    assert (running.status, running.last_started_at) == (JobStatus.RUNNING, at(1))
    store.report_run(run.id, REPORT)
    assert store.run(run.id).report == REPORT
    done = store.end_run(run.id, RunStatus.COMPLETED, at(2))
    assert (done.status, done.ended_at, done.report) == (RunStatus.COMPLETED, at(2), REPORT)
    assert store.run(run.id) == done
    found = store.job(job.id)
    assert (found.status, found.last_completed_at, found.last_failed_at) == (JobStatus.COMPLETED, at(2), None)


def test_a_scheduled_run_is_made_when_it_starts(store: JobStore) -> None:
    """A flow run that nobody announced becomes a run."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "scheduled__2026", 1, at(1))
    assert store.find_run(job.id, "scheduled__2026") == run
    assert run.created_at == at(1)


def test_a_failed_run_can_be_tried_again(store: JobStore) -> None:
    """A failure is shown on run and job; the next attempt clears it and keeps the first start."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "r", 1, at(1))
    store.end_run(run.id, RunStatus.FAILED, at(2), error="It broke \x00.", error_code="source-failed")
    failed = store.run(run.id)
    assert (failed.error, failed.error_code) == ("It broke \ufffd.", "source-failed")
    shown = store.job(job.id)
    assert (shown.status, shown.status_message, shown.last_failed_at) == (
        JobStatus.FAILED,
        "It broke \ufffd.",
        at(2),
    )
    again = store.start_run(job.id, "r", 2, at(3))
    assert (again.id, again.attempt, again.started_at) == (run.id, 2, at(1))
    assert (again.error, again.error_code, again.ended_at) == (None, None, None)
    store.end_run(run.id, RunStatus.COMPLETED, at(4), report=REPORT)
    shown = store.job(job.id)
    assert (shown.status, shown.status_message, shown.last_started_at) == (JobStatus.COMPLETED, None, at(3))
    assert (shown.last_failed_at, shown.last_completed_at) == (at(2), at(4))


def test_a_cancelled_run_fails_its_job(store: JobStore) -> None:
    """The job's statuses know no `cancelled`: it shows as failed, with a message that says so."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "r", 1, at(1))
    store.end_run(run.id, RunStatus.CANCELLED, at(2))
    assert store.run(run.id).status is RunStatus.CANCELLED
    shown = store.job(job.id)
    assert (shown.status, shown.status_message) == (JobStatus.FAILED, "The run was cancelled.")


def test_telling_an_end_twice_loses_nothing(store: JobStore) -> None:
    """Whoever only saw that the flow failed does not wipe out the reason that the run gave itself."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "r", 1, at(1))
    store.end_run(run.id, RunStatus.FAILED, at(2), error="Why.", error_code="why", report=REPORT)
    second = store.end_run(run.id, RunStatus.FAILED, at(9))
    assert (second.error, second.error_code, second.report, second.ended_at) == ("Why.", "why", REPORT, at(2))
    assert store.job(job.id).status_message == "Why."


def test_the_late_end_of_an_older_run_does_not_hide_the_newest(store: JobStore) -> None:
    """A job shows its newest run; a queued one does not count before it starts."""
    job = store.add_job(a_job(), {})
    old = store.start_run(job.id, "old", 1, at(1))
    store.start_run(job.id, "new", 1, at(2))
    store.end_run(old.id, RunStatus.FAILED, at(3), error="lost")
    shown = store.job(job.id)
    assert (shown.status, shown.status_message, shown.last_failed_at) == (JobStatus.RUNNING, None, at(3))
    store.add_run(a_run(job.id, "waiting", created_at=at(4)))
    new = store.find_run(job.id, "new")
    assert new is not None
    store.end_run(new.id, RunStatus.COMPLETED, at(5))
    assert store.job(job.id).status is JobStatus.COMPLETED


def test_a_run_cannot_end_as_running(store: JobStore) -> None:
    """Only an end is an end."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "r", 1, at(1))
    with pytest.raises(ValueError, match="cannot end"):
        store.end_run(run.id, RunStatus.RUNNING, at(2))


def test_runs_are_listed_newest_first(store: JobStore) -> None:
    """Order and limit, of one job only."""
    job, other = store.add_job(a_job(), {}), store.add_job(a_job("other"), {})
    for i in (1, 3, 2):
        store.add_run(a_run(job.id, f"r{i}", created_at=at(i)))
    store.add_run(a_run(other.id, created_at=at(9)))
    assert [r.flow_run_id for r in store.runs(job.id)] == ["r3", "r2", "r1"]
    assert [r.flow_run_id for r in store.runs(job.id, limit=1)] == ["r3"]


def test_open_runs(store: JobStore) -> None:
    """Queued and running runs of living jobs, oldest first."""
    job, gone = store.add_job(a_job(), {}), store.add_job(a_job("gone"), {})
    store.add_run(a_run(job.id, "queued", created_at=at(2)))
    store.start_run(job.id, "running", 1, at(1))
    done = store.start_run(job.id, "done", 1, at(3))
    store.end_run(done.id, RunStatus.COMPLETED, at(4))
    store.add_run(a_run(gone.id))
    store.delete_job(gone.id, at(5))
    assert [r.flow_run_id for r in store.open_runs()] == ["running", "queued"]


# ---- answers ---------------------------------------------------------------------------------------------


def test_an_answer_is_stored_with_its_job(store: JobStore) -> None:
    """Both or none; a second job under one caller and key is refused, other callers have their own keys."""
    first = StoredAnswer(key="k", caller="a", body_hash="h1", status=201, answer='{"x": "é"}')
    job = store.add_job(a_job(), {}, answer=first)
    assert store.stored_answer("a", "k") == first
    second = StoredAnswer(key="k", caller="a", body_hash="h2", status=201, answer="{}")
    with pytest.raises(Conflict) as e:
        store.add_job(a_job("another"), {}, answer=second)
    assert e.value.code == "answered-already"
    with pytest.raises(Conflict) as e:
        store.add_job(
            a_job(), {}, answer=StoredAnswer(key="k2", caller="a", body_hash="h", status=201, answer="")
        )
    assert e.value.code == "name-taken"
    assert store.stored_answer("a", "k") == first
    assert store.stored_answer("a", "k2") is None
    assert store.stored_answer("b", "k") is None
    assert [j.id for j in store.jobs()] == [job.id]


# ---- any configuration -----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(config=st.dictionaries(st.text(), json_values, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_configuration_comes_back(store: JobStore, config: dict[str, object]) -> None:
    """Whatever JSON a configuration is made of, it comes back equal, and so does its public form."""
    job = store.add_job(a_job(str(uuid4()), public_config=config), config)
    assert store.source_config(job.id) == config
    assert store.job(job.id).public_config == config
