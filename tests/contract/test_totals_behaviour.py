"""What every job store says of all its jobs together."""

from __future__ import annotations

from airberg.jobs.model import RunReport, RunStatus, StreamReport
from airberg.jobs.port import JobStore
from airberg.jobs.totals import EndedRun, TableTotal
from support.jobs import NOON, a_job, a_run, at

REPORT = RunReport(
    streams=(
        StreamReport(stream="users", table="shop.users", rows_written=5, rows_deleted=2, bytes_written=900),
        StreamReport(stream="Käufe", table="shop.kaeufe"),
    )
)


def test_an_empty_store_has_no_numbers(store: JobStore) -> None:
    """And no row of zeros."""
    found = store.totals.totals(NOON, 10)
    assert (dict(found.jobs), dict(found.open_runs), list(found.ended)) == ({}, {}, [])


def test_jobs_and_open_runs_are_counted_by_status(store: JobStore) -> None:
    """Deleted jobs are not; runs that ended are no open ones."""
    jobs = [a_job(f"job {number}") for number in range(4)]
    for job in jobs:
        store.add_job(job, {})
    store.delete_job(jobs[3].id, at(1))
    store.add_run(a_run(jobs[0].id))
    store.start_run(jobs[1].id, "manual__1", 1, at(1))
    done = store.start_run(jobs[2].id, "manual__1", 1, at(1))
    store.end_run(done.id, RunStatus.FAILED, at(2))
    found = store.totals.totals(at(9), 10)
    assert dict(found.jobs) == {"new": 1, "running": 1, "failed": 1}
    assert dict(found.open_runs) == {"queued": 1, "running": 1}
    assert list(found.ended) == []


def test_ended_runs_come_in_the_order_of_their_end(store: JobStore) -> None:
    """From a moment on, that moment included, and so many at once."""
    job = a_job("orders")
    store.add_job(job, {})
    ids = []
    for number, minutes in enumerate((30, 10, 20)):
        run = store.start_run(job.id, f"manual__{number}", 1, at(minutes - 5))
        store.end_run(run.id, RunStatus.COMPLETED, at(minutes), report=REPORT)
        ids.append(run.id)
    ended = store.totals.totals(at(0), 10).ended
    assert [run.id for run in ended] == [ids[1], ids[2], ids[0]]
    assert [run.id for run in store.totals.totals(at(20), 10).ended] == [ids[2], ids[0]]
    assert [run.id for run in store.totals.totals(at(0), 2).ended] == [ids[1], ids[2]]
    tables = (TableTotal("shop.users", 5, 2, 900), TableTotal("shop.kaeufe", 0, 0, 0))
    assert ended[0] == EndedRun(ids[1], job.id, "orders", "completed", at(5), at(10), tables)
    assert ended[0].ended_at.tzinfo is not None
