"""What every job store does with runs whose streams are synced side by side: parts, and leases of tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from airberg.errors import ConfigurationFailed, LeaseHeld, NotFound
from airberg.jobs.lifecycle import Ending
from airberg.jobs.model import AttemptReport, JobStatus, Run, RunReport, RunRequest, RunStatus, StreamReport
from airberg.jobs.port import JobStore
from support.at_once import at_once
from support.jobs import a_job

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(minutes=1)


def shared_out(store: JobStore, *parts: list[str]) -> Run:
    """A run that has begun and was shared out."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "flow-run", 1, AT)
    return store.run_parts.share_out(run.id, parts)


def end(store: JobStore, run: Run, number: int, status: RunStatus, error: str | None = None) -> Run:
    """End a part."""
    code = None if error is None else "source-failed"
    ending = Ending(status=status, at=LATER, error=error, error_code=code)
    return store.run_parts.end(run.id, number, ending)


def loaded(table: str, rows: int) -> RunReport:
    """What a part has done to its table."""
    return RunReport(streams=(StreamReport(stream=table, table=table, rows_written=rows),))


# ---- parts -----------------------------------------------------------------------------------------------


def test_a_run_that_is_shared_out_has_parts_that_wait(store: JobStore) -> None:
    """Numbered from 0, their tables sorted; each can be looked at as if it were a run."""
    run = shared_out(store, ["b", "a"], ["c"])
    stored = store.run(run.id)
    assert stored == run
    assert [(p.number, p.tables, p.status) for p in stored.report.parts] == [
        (0, ("a", "b"), RunStatus.QUEUED),
        (1, ("c",), RunStatus.QUEUED),
    ]
    assert (stored.status, stored.part) == (RunStatus.RUNNING, None)
    part = store.run_parts.part(run.id, 1)
    assert (part.id, part.part, part.status, part.attempt) == (run.id, 1, RunStatus.QUEUED, 0)


def test_parts_report_their_own_tables_and_keep_those_of_others(store: JobStore) -> None:
    """The run shows all of them; a part shows its own."""
    run = shared_out(store, ["a"], ["b"])
    for number, table in enumerate(("a", "b")):
        store.run_parts.start(run.id, number, 1, AT)
        store.run_parts.report(run.id, number, loaded(table, 10 + number))
    store.run_parts.report(run.id, 0, loaded("a", 20))
    stored = store.run(run.id)
    assert {s.table: s.rows_written for s in stored.report.streams} == {"a": 20, "b": 11}
    assert [s.table for s in store.run_parts.part(run.id, 1).report.streams] == ["b"]


def test_attempts_of_parts_are_their_own(store: JobStore) -> None:
    """The report of a part comes back whole when it is tried again."""
    run = shared_out(store, ["a"], ["b"])
    store.run_parts.start(run.id, 0, 1, AT)
    attempts = (AttemptReport(number=1, status=RunStatus.FAILED, started_at=AT),)
    report = RunReport(attempts=attempts, records_of_unknown_streams=3, lineage_open=1)
    store.run_parts.report(run.id, 0, report)
    again = store.run_parts.start(run.id, 0, 2, LATER)
    assert (again.attempt, again.report) == (2, report)
    assert (again.started_at, again.status) == (AT, RunStatus.RUNNING)
    assert store.run_parts.part(run.id, 1).report == RunReport()
    stored = store.run(run.id)
    assert (stored.attempt, stored.report.attempts) == (1, ())
    assert stored.report.records_of_unknown_streams == 3


def test_a_run_ends_with_its_last_part(store: JobStore) -> None:
    """Not before, whatever became of the others until then."""
    run = shared_out(store, ["a"], ["b"])
    store.run_parts.start(run.id, 0, 1, AT)
    assert end(store, run, 0, RunStatus.COMPLETED).status is RunStatus.COMPLETED
    assert store.run(run.id).status is RunStatus.RUNNING
    assert store.job(run.job_id).status is JobStatus.RUNNING
    store.run_parts.start(run.id, 1, 1, AT)
    end(store, run, 1, RunStatus.COMPLETED)
    stored, job = store.run(run.id), store.job(run.job_id)
    assert (stored.status, stored.ended_at, stored.error) == (RunStatus.COMPLETED, LATER, None)
    assert (job.status, job.last_completed_at) == (JobStatus.COMPLETED, LATER)
    assert store.open_runs() == []


def test_a_run_fails_when_a_part_fails_and_names_its_tables(store: JobStore) -> None:
    """And completes after all when the part is tried again and goes well."""
    run = shared_out(store, ["a"], ["b"])
    for number in (0, 1):
        store.run_parts.start(run.id, number, 1, AT)
    end(store, run, 0, RunStatus.FAILED, "The source refused.")
    assert store.run(run.id).status is RunStatus.RUNNING
    end(store, run, 1, RunStatus.COMPLETED)
    stored, job = store.run(run.id), store.job(run.job_id)
    assert (stored.status, stored.error_code) == (RunStatus.FAILED, "source-failed")
    assert stored.error == "1 of 2 parts did not succeed. a: The source refused."
    assert (job.status, job.status_message) == (JobStatus.FAILED, stored.error)

    store.run_parts.start(run.id, 0, 2, LATER)
    assert (store.run(run.id).status, store.run(run.id).error) == (RunStatus.RUNNING, None)
    end(store, run, 0, RunStatus.COMPLETED)
    stored = store.run(run.id)
    assert (stored.status, stored.error, stored.error_code) == (RunStatus.COMPLETED, None, None)
    assert store.job(run.job_id).status is JobStatus.COMPLETED


def test_a_cancelled_part_ends_a_run_whose_other_parts_wait(store: JobStore) -> None:
    """They will not begin: the flow's run was stopped."""
    run = shared_out(store, ["a"], ["b"], ["c"])
    for number in (0, 1):
        store.run_parts.start(run.id, number, 1, AT)
    end(store, run, 0, RunStatus.CANCELLED, "The run was asked to stop.")
    assert store.run(run.id).status is RunStatus.RUNNING
    end(store, run, 1, RunStatus.CANCELLED, "The run was asked to stop.")
    assert store.run(run.id).status is RunStatus.CANCELLED


def test_parts_that_fail_in_many_ways_are_told_apart_by_looking_at_them(store: JobStore) -> None:
    """The run repeats a few of them."""
    run = shared_out(store, *([f"t{n}"] for n in range(5)))
    for number in range(5):
        store.run_parts.start(run.id, number, 1, AT)
        ending = Ending(status=RunStatus.FAILED, at=LATER, error=f"No {number}.", error_code=f"code-{number}")
        store.run_parts.end(run.id, number, ending)
    stored = store.run(run.id)
    assert stored.error == "5 of 5 parts did not succeed. t0: No 0.; t1: No 1.; t2: No 2.; and 2 more"
    assert stored.error_code == "parts-failed"
    assert stored.report.parts[4].error == "No 4."


def test_sharing_out_again_begins_anew_and_keeps_what_was_done(store: JobStore) -> None:
    """The task `plan` of a flow's run was cleared."""
    run = shared_out(store, ["a"], ["b"])
    store.run_parts.start(run.id, 0, 1, AT)
    store.run_parts.report(run.id, 0, loaded("a", 5))
    again = store.run_parts.share_out(run.id, [["a", "b"]])
    assert [p.tables for p in again.report.parts] == [("a", "b")]
    assert again.report.parts[0].status is RunStatus.QUEUED
    assert [s.rows_written for s in again.report.streams] == [5]


def test_a_part_that_is_not_there_says_what_to_do(store: JobStore) -> None:
    """Nor does anything change."""
    run = shared_out(store, ["a"])
    for call in (
        lambda: store.run_parts.part(run.id, 1),
        lambda: store.run_parts.start(run.id, 1, 1, AT),
        lambda: store.run_parts.report(run.id, 1, RunReport()),
        lambda: end(store, run, 1, RunStatus.COMPLETED),
    ):
        with pytest.raises(ConfigurationFailed) as caught:
            call()
        assert caught.value.code == "no-part"
    assert store.run(run.id) == run


def test_parts_of_runs_that_are_not_there(store: JobStore) -> None:
    """Are not found; a deleted job's part does not begin."""
    nobody = uuid4()
    for call in (
        lambda: store.run_parts.share_out(nobody, [["a"]]),
        lambda: store.run_parts.part(nobody, 0),
        lambda: store.run_parts.start(nobody, 0, 1, AT),
        lambda: store.run_parts.report(nobody, 0, RunReport()),
    ):
        with pytest.raises(NotFound):
            call()
    run = shared_out(store, ["a"])
    store.delete_job(run.job_id, LATER)
    with pytest.raises(NotFound):
        store.run_parts.start(run.id, 0, 1, AT)


def test_parts_that_report_at_once_lose_nothing(store: JobStore) -> None:
    """Each writes into the report of the same run."""
    count = 12
    run = shared_out(store, *([f"t{n}"] for n in range(count)))

    def work(number: int) -> None:
        store.run_parts.start(run.id, number, 1, AT)
        store.run_parts.report(run.id, number, loaded(f"t{number}", number))
        end(store, run, number, RunStatus.COMPLETED)

    results = at_once(*(lambda n=n: work(n) for n in range(count)))
    assert not [r for r in results if isinstance(r, Exception)]
    stored = store.run(run.id)
    assert stored.status is RunStatus.COMPLETED
    assert {s.table: s.rows_written for s in stored.report.streams} == {f"t{n}": n for n in range(count)}


def test_a_run_keeps_what_is_asked_of_it(store: JobStore) -> None:
    """Whoever triggers it: the API stores it, a flow's run that nobody announced brings it along."""
    job = store.add_job(a_job(), {})
    asked = RunRequest(streams=("users",), full_refresh=True)
    queued = Run(id=uuid4(), job_id=job.id, flow_run_id="by-api", created_at=AT, asked=asked)
    store.add_run(queued)
    assert store.run(queued.id).asked == asked
    assert store.start_run(job.id, "by-api", 1, AT).asked == asked
    assert store.start_run(job.id, "by-api", 2, AT, asked=RunRequest()).asked == asked
    started = store.start_run(job.id, "by-page", 1, AT, asked=asked)
    assert store.run(started.id).asked == asked
    assert store.start_run(job.id, "by-schedule", 1, AT).asked == RunRequest()


# ---- leases of tables ------------------------------------------------------------------------------------


def test_tables_of_a_job_have_leases_of_their_own(store: JobStore) -> None:
    """Two that fill other tables are not in each other's way."""
    job = store.add_job(a_job(), {})
    one = store.acquire_lease(job.id, "a", 60, tables=["y", "x"])
    two = store.acquire_lease(job.id, "b", 60, tables=["z"])
    assert (one.tables, two.tables) == (("x", "y"), ("z",))
    assert store.lease(job.id, tables=["x"]) == one
    assert store.lease(job.id, tables=["z"]) == two
    assert store.lease(job.id, tables=["w"]) is None
    assert store.lease(job.id) == one
    with pytest.raises(LeaseHeld):
        store.acquire_lease(job.id, "c", 60, tables=["z", "w"])
    assert store.lease(job.id, tables=["w"]) is None


def test_the_lease_of_a_job_and_those_of_its_tables_exclude_each_other(store: JobStore) -> None:
    """In both directions, until they are given back."""
    job = store.add_job(a_job(), {})
    part = store.acquire_lease(job.id, "part", 60, tables=["x"])
    with pytest.raises(LeaseHeld):
        store.acquire_lease(job.id, "whole", 60)
    store.release_lease(part)
    whole = store.acquire_lease(job.id, "whole", 60)
    assert store.lease(job.id, tables=["x"]) == whole
    with pytest.raises(LeaseHeld):
        store.acquire_lease(job.id, "part", 60, tables=["x"])
    store.release_lease(whole)
    again = store.acquire_lease(job.id, "part", 60, tables=["x"])
    assert again.token > part.token


def test_an_expired_lease_of_tables_fences_its_holder(store: JobStore) -> None:
    """Also when the whole job, or only one of its tables, was taken by somebody else."""
    job = store.add_job(a_job(), {})
    old = store.acquire_lease(job.id, "old", -1, tables=["x", "y"])
    new = store.acquire_lease(job.id, "new", 60, tables=["y"])
    with pytest.raises(LeaseHeld):
        store.renew_lease(old, 60)
    store.release_lease(old)
    assert store.lease(job.id, tables=["y"]) == new
    store.release_lease(new)

    old = store.acquire_lease(job.id, "old", -1, tables=["x"])
    whole = store.acquire_lease(job.id, "whole", 60)
    with pytest.raises(LeaseHeld):
        store.renew_lease(old, 60)
    store.release_lease(whole)

    late = store.acquire_lease(job.id, "late", -1)
    store.acquire_lease(job.id, "part", 60, tables=["x"])
    with pytest.raises(LeaseHeld):
        store.renew_lease(late, 60)


def test_a_lease_of_tables_can_be_renewed_and_taken_again_by_its_holder(store: JobStore) -> None:
    """Its token stays."""
    job = store.add_job(a_job(), {})
    lease = store.acquire_lease(job.id, "a", -1, tables=["x", "y"])
    renewed = store.renew_lease(lease, 60)
    assert (renewed.token, renewed.tables) == (lease.token, ("x", "y"))
    assert store.lease(job.id) == renewed
    again = store.acquire_lease(job.id, "a", 60, tables=["y", "x"])
    assert again.token == lease.token


def test_only_one_of_many_gets_the_lease_of_a_table(store: JobStore) -> None:
    """Ten want it, and one the whole job."""
    job = store.add_job(a_job(), {})
    asking = [lambda i=i: store.acquire_lease(job.id, f"h{i}", 60, tables=["x", f"own{i}"]) for i in range(9)]
    results = at_once(*asking, lambda: store.acquire_lease(job.id, "whole", 60))
    leases = [r for r in results if not isinstance(r, Exception)]
    assert len(leases) == 1
    assert store.lease(job.id) == leases[0]
    assert sum(isinstance(r, LeaseHeld) for r in results) == 9
