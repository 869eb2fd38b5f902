"""What every job store knows of runs and deleted jobs that no server of metadata was told of."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from airberg.errors import NotFound
from airberg.jobs.finding import Place
from airberg.jobs.model import Run, RunReport, RunStatus
from airberg.jobs.port import JobStore
from support.jobs import NOON, a_job, at

SENT = RunReport(metadata="https://datahub.example.com")


def completed(store: JobStore, job_id: UUID, minute: float, report: RunReport | None = None) -> Run:
    """A run that was made in that minute and has completed."""
    run = store.start_run(job_id, f"r{minute}", 1, at(minute))
    return store.end_run(run.id, RunStatus.COMPLETED, at(minute + 1), report=report)


@pytest.mark.parametrize(
    ("report", "due"),
    [
        (RunReport(), True),
        (RunReport(metadata="/srv/metadata/x.json"), True),
        (RunReport(metadata='"metadata":"http'), True),
        (RunReport(metadata_error="DataHub gave no answer."), True),
        (msgspec.structs.replace(SENT, metadata_error="DataHub gave no answer."), True),
        (SENT, False),
        (RunReport(metadata="http://datahub:8080"), False),
    ],
)
def test_a_run_is_due_until_a_server_has_its_metadata(store: JobStore, report: RunReport, due: bool) -> None:
    """By its report, whether that comes with the end of the run or afterwards, as that of a task does."""
    job = store.add_job(a_job(), {})
    whole = completed(store, job.id, 1, report)
    later = completed(store, job.id, 2)
    store.report_run(later.id, report)
    assert [r.id for r in store.metadata_due.runs()] == ([whole.id, later.id] if due else [])
    store.report_run(whole.id, SENT)
    store.report_run(later.id, SENT)
    assert list(store.metadata_due.runs()) == []


def test_only_completed_runs_are_due(store: JobStore) -> None:
    """One that is tried again after it was registered is not due before it completes again."""
    job = store.add_job(a_job(), {})
    running = store.start_run(job.id, "r1", 1, NOON)
    store.report_run(running.id, RunReport(metadata_error="x"))
    failed = store.start_run(job.id, "r2", 1, NOON)
    store.end_run(failed.id, RunStatus.FAILED, at(1))
    assert list(store.metadata_due.runs()) == []
    run = completed(store, job.id, 3)
    assert [r.id for r in store.metadata_due.runs()] == [run.id]
    store.start_run(job.id, run.flow_run_id, 2, at(4))
    assert list(store.metadata_due.runs()) == []


def test_due_runs_come_in_pages_oldest_first(store: JobStore) -> None:
    """By job and by time; of one moment by their ids."""
    one, two = (store.add_job(a_job(name), {}) for name in ("one", "two"))
    runs = [completed(store, job.id, minute) for minute in (5, 1, 3) for job in (one, two)]
    ordered = sorted(runs, key=lambda r: (r.created_at, r.id.hex))
    found: list[Run] = []
    while page := store.metadata_due.runs(limit=2, after=Place.of(found[-1]) if found else None):
        assert len(page) <= 2
        found += page
    assert [r.id for r in found] == [r.id for r in ordered]
    assert found == ordered
    mine = [r.id for r in ordered if r.job_id == one.id]
    assert [r.id for r in store.metadata_due.runs(job_id=one.id)] == mine
    assert [r.id for r in store.metadata_due.runs(job_id=one.id, since=at(3))] == mine[1:]


def test_the_end_of_a_job_is_due_until_it_was_told(store: JobStore) -> None:
    """Deleting is what makes it due, once."""
    one, two = (store.add_job(a_job(name, created_at=at(m)), {}) for m, name in enumerate(("one", "two")))
    assert list(store.metadata_due.deleted_jobs()) == []
    gone = [store.delete_job(job.id, at(9)) for job in (two, one)]
    assert list(store.metadata_due.deleted_jobs()) == [gone[1], gone[0]]
    assert list(store.metadata_due.deleted_jobs(limit=1)) == [gone[1]]
    store.metadata_due.job_told(one.id)
    store.metadata_due.job_told(one.id)
    store.delete_job(one.id, at(10))
    assert list(store.metadata_due.deleted_jobs()) == [gone[0]]


def test_a_job_that_is_not_there_cannot_be_told_of(store: JobStore) -> None:
    """As with everything that is told of a job."""
    with pytest.raises(NotFound):
        store.metadata_due.job_told(UUID(int=7))
