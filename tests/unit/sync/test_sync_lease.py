"""Who waits for the lease of a job, and who gives up."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

from airberg.errors import LeaseHeld
from airberg.jobs.memory import MemoryJobStore
from airberg.sync.lease import job_lease
from support.conditions import eventually
from support.jobs import a_job

LEASE_S = 0.6
LONG_LEASE_S = 30.0
RENEWALS = 7
"""More than come between two looks at the lease."""
RUN = "scheduled__2026-01-01T00:00:00+00:00/@x"


@pytest.mark.parametrize(
    ("holder", "comes", "outcome"),
    [
        (f"{RUN}/1", f"{RUN}/2", "got it"),
        (f"{RUN}/1", "airberg__1/2", "gave up"),
        ("upgrade", f"{RUN}/1", "gave up"),
    ],
    ids=["earlier attempt", "another run", "no run"],
)
def test_a_holder_that_is_alive(holder: str, comes: str, outcome: str) -> None:
    """Whoever renews its lease is at work; only an attempt that Airflow has taken back is waited for.

    A task that is cleared runs again at once, while what ran before still ends.
    """
    store = MemoryJobStore()
    job_id = store.add_job(a_job(), {}).id
    outcomes: list[str] = []

    def come() -> None:
        try:
            with job_lease(store, job_id, comes, LONG_LEASE_S):
                outcomes.append("got it")
        except LeaseHeld:
            outcomes.append("gave up")

    coming = threading.Thread(target=come)
    with job_lease(store, job_id, holder, LEASE_S):
        coming.start()
        seen: set[datetime] = set()

        def renewed_often() -> bool:
            if (lease := store.lease(job_id)) is not None:
                seen.add(lease.expires_at)
            return len(seen) > RENEWALS

        eventually(renewed_often, every_s=0.02)
        if outcome == "gave up":
            coming.join(10.0)
        assert outcomes == ([] if outcome == "got it" else [outcome])
    coming.join(10.0)
    assert outcomes == [outcome]
