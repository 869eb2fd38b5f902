"""What every job store finds, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from airberg.jobs.finding import JobFilter, ListedJob, Place, Viewer
from airberg.jobs.model import Job, JobStatus, RunStatus
from airberg.jobs.port import JobStore
from support.jobs import NOON, a_job, a_request, a_run, at


def names(page: Sequence[ListedJob]) -> list[str]:
    """The names of jobs."""
    return [found.job.request.name for found in page]


def add(store: JobStore, name: str, owner: str = "ann@example.com", **changes: Any) -> Job:
    """Add a job; changes are those of the job, and under `request` those of its request."""
    request = a_request(name, owner_id=owner, **changes.pop("request", {}))
    return store.add_job(a_job(name, owner=owner, request=request, **changes), {})


def test_a_page_shows_jobs_without_their_plans(store: JobStore) -> None:
    """With tables and the newest run instead; without a plan there are no tables."""
    job = add(store, "a")
    add(store, "bare", plan=None, created_at=at(-1))
    for minute in (1, 3, 2):
        store.add_run(a_run(job.id, f"r{minute}", created_at=at(minute)))
    first, bare = store.page(JobFilter())
    assert (first.job.plan, first.job.request, first.job.public_config) == (
        None,
        job.request,
        job.public_config,
    )
    assert first.tables == ("shop.users",)
    assert first.newest_run is not None
    assert first.newest_run.flow_run_id == "r3"
    assert (bare.tables, bare.newest_run) == ((), None)


@pytest.fixture
def jobs(store: JobStore) -> dict[str, Job]:
    """Jobs of two people, some shared, one deleted; some made at the same moment."""
    made = [
        add(store, "a1", request={"tags": ("x", "y")}),
        add(store, "a2", created_at=at(1), request={"source_name": "source-github", "tags": ()}),
        add(store, "a3", created_at=at(1), request={"share_with": ("sales", "legal")}),
        add(store, "b1", "bob@example.com", created_at=at(2), request={"share_with": ("sales",)}),
        add(store, "b2", "bob@example.com", created_at=at(3), request={"tags": ("y",)}),
        add(store, "gone", created_at=at(4), request={"share_with": ("sales",)}),
    ]
    store.delete_job(made[-1].id, NOON)
    run = store.start_run(made[4].id, "r", 1, at(5))
    store.end_run(run.id, RunStatus.FAILED, at(6))
    return {job.request.name: job for job in made}


ANN, BOB = "https://issuer.example|ann@example.com", "https://issuer.example|bob@example.com"
FILTERS: list[tuple[JobFilter, str]] = [
    (JobFilter(), "b2 b1 a3 a2 a1"),
    (JobFilter(include_deleted=True), "gone b2 b1 a3 a2 a1"),
    (JobFilter(viewer=Viewer(ANN, frozenset())), "a3 a2 a1"),
    (JobFilter(viewer=Viewer(ANN, frozenset()), include_deleted=True), "gone a3 a2 a1"),
    (JobFilter(viewer=Viewer(BOB, frozenset({"legal"}))), "b2 b1 a3"),
    (JobFilter(viewer=Viewer(BOB, frozenset({"legal", "sales"}))), "b2 b1 a3"),
    (JobFilter(viewer=Viewer("i|carl", frozenset({"sales", "other"}))), "b1 a3"),
    (JobFilter(viewer=Viewer("i|carl", frozenset({"sales"})), include_deleted=True), "gone b1 a3"),
    (JobFilter(viewer=Viewer("i|carl", frozenset({"other"}))), ""),
    (JobFilter(viewer=Viewer("i|carl", frozenset())), ""),
    (JobFilter(owner_id="bob@example.com"), "b2 b1"),
    (JobFilter(owner_id="bob@example.com", viewer=Viewer(ANN, frozenset({"sales"}))), "b1"),
    (JobFilter(status=JobStatus.FAILED), "b2"),
    (JobFilter(status=JobStatus.NEW, viewer=Viewer(BOB, frozenset())), "b1"),
    (JobFilter(source="source-github"), "a2"),
    (JobFilter(tag="y"), "b2 a1"),
    (JobFilter(tag="y", viewer=Viewer(ANN, frozenset())), "a1"),
    (JobFilter(tag="Y"), ""),
]


@pytest.mark.parametrize(("wanted", "found"), FILTERS)
def test_filters(store: JobStore, jobs: dict[str, Job], wanted: JobFilter, found: str) -> None:
    """Each alone and together; of jobs of one moment the order is that of their ids."""
    expected = found.split()
    if jobs["a2"].id.hex > jobs["a3"].id.hex and {"a2", "a3"} <= set(expected):
        i = expected.index("a3")
        expected[i], expected[i + 1] = expected[i + 1], expected[i]
    assert names(store.page(wanted)) == expected


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("viewer", [None, Viewer(BOB, frozenset({"sales", "legal"}))])
def test_pages_follow_each_other(
    store: JobStore, jobs: dict[str, Job], size: int, viewer: Viewer | None
) -> None:
    """Nothing is left out, nothing comes twice, also when a newer job appears in between."""
    wanted = JobFilter(viewer=viewer)
    expected = names(store.page(wanted))
    found: list[str] = []
    after: Place | None = None
    while page := store.page(wanted, after=after, limit=size):
        assert len(page) <= size
        found += names(page)
        after = Place.of(page[-1].job)
        add(store, f"newer {len(found)}", "bob@example.com", created_at=at(100 + len(found)))
    assert found == expected
    assert len(jobs) == 6


def test_changed_tags_and_groups_are_found(store: JobStore, jobs: dict[str, Job]) -> None:
    """A deleted job keeps its tags and groups."""
    wanted = JobFilter(include_deleted=True, viewer=Viewer("i|carl", frozenset({"sales"})))
    assert jobs["gone"].id in {found.job.id for found in store.page(wanted)}


def test_runs_in_pages(store: JobStore) -> None:
    """Of one job, newest first; runs of one moment by their ids."""
    job, other = add(store, "a"), add(store, "other")
    made = [store.add_run(a_run(job.id, f"r{n}", created_at=at(n // 2))) for n in range(7)]
    store.add_run(a_run(other.id))
    expected = [r.id for r in sorted(made, key=lambda r: (r.created_at, r.id.hex), reverse=True)]
    found: list[UUID] = []
    before: Place | None = None
    while page := store.runs(job.id, limit=2, before=before):
        found += [run.id for run in page]
        before = Place.of(page[-1])
    assert found == expected


def test_runs_by_status(store: JobStore) -> None:
    """With pages."""
    job = add(store, "a")
    made = [store.add_run(a_run(job.id, f"r{n}", created_at=at(n))) for n in range(4)]
    for n in (0, 2, 3):
        store.end_run(made[n].id, RunStatus.FAILED, at(9))
    first = store.runs(job.id, status=RunStatus.FAILED, limit=2)
    assert [run.id for run in first] == [made[3].id, made[2].id]
    rest = store.runs(job.id, status=RunStatus.FAILED, before=Place.of(first[-1]))
    assert [run.id for run in rest] == [made[0].id]
    assert [run.id for run in store.runs(job.id, status=RunStatus.QUEUED)] == [made[1].id]
