"""The lease of a job, kept alive while a run works, and checked right before each commit.

Airflow can start a run whose predecessor still lives for a second (a restarted scheduler), and a killed
process leaves its lease behind. So: wait while the holder shows no sign of life, give up when it does. Only
an earlier attempt of the same run is waited for in any case: Airflow has asked it to end (a task that is
cleared runs again at once), and who gave up would leave its work undone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator
from uuid import UUID

from airberg.errors import AirbergError, LeaseHeld
from airberg.jobs.model import Lease
from airberg.jobs.port import JobStore

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Holds a lease: renews it in a thread, tells when it was lost."""

    def __init__(self, store: JobStore, lease: Lease, seconds: float) -> None:
        self._store = store
        self._lease = lease
        self._seconds = seconds
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._renew_loop, name="lease", daemon=True)

    def check(self) -> None:
        """Raise LeaseHeld when the lease is not ours any more, or may not be."""
        if self._lost.is_set() or time.monotonic() - self._renewed_at > self._seconds:
            raise LeaseHeld(
                "This run lost the lease of its job, so it must not commit.",
                guidance="Another run of the job took over; nothing needs to be done.",
            )

    def _renew_loop(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            started = time.monotonic()
            try:
                self._lease = self._store.renew_lease(self._lease, self._seconds)
            except LeaseHeld:
                self._lost.set()
                return
            except AirbergError as e:
                log.warning("the lease could not be renewed: %s", e.message)
            else:
                self._renewed_at = started

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._lost.is_set():
            self._store.release_lease(self._lease)


@contextlib.contextmanager
def job_lease(
    store: JobStore, job_id: UUID, run: str, seconds: float, *, tables: Collection[str] = ()
) -> Iterator[LeaseKeeper]:
    """Hold the job's lease for the time of a `with` block.

    Args:
        store: The job store.
        job_id: The job.
        run: Names the run and attempt, `<run>/<attempt>`.
        seconds: How long the lease lives without renewal; also the longest wait for a silent holder.
        tables: Only these tables of the job; empty: all of it.

    Raises:
        LeaseHeld: Another run of the job is alive (it renewed its lease while we watched).
    """
    holder = f"{run}@{socket.gethostname()}:{os.getpid()}"
    with LeaseKeeper(store, _acquire(store, job_id, holder, seconds, tables), seconds) as keeper:
        yield keeper


def _acquire(store: JobStore, job_id: UUID, holder: str, seconds: float, tables: Collection[str]) -> Lease:
    seen: Lease | None = None
    pause = threading.Event()
    deadline = time.monotonic() + 2 * seconds + 5
    while True:
        try:
            return store.acquire_lease(job_id, holder, seconds, tables=tables)
        except LeaseHeld:
            current = store.lease(job_id, tables=tables)
            if seen is not None and (current is None or current.holder != seen.holder):
                seen = None  # another one holds it by now
            alive = seen is not None and current is not None and current.expires_at > seen.expires_at
            ends = current is not None and _run_of(current.holder) == _run_of(holder)
            if (alive and not ends) or time.monotonic() > deadline:
                raise
            if seen is None:
                log.info("another run holds the lease of this job; waiting to see whether it is alive")
            seen = seen or current
        pause.wait(0.5)


def _run_of(holder: str) -> str:
    """The run in `<run>/<attempt>@<host>:<process>`; a run's id may hold any of these signs."""
    return holder.rpartition("@")[0].rpartition("/")[0] or holder
