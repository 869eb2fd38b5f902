"""What the processes of a race do; in a module of its own, since a spawned process imports it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from uuid import UUID

from airberg.errors import AirbergError
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import upgrade
from airberg.jobs.sql import SqlJobStore
from airberg.keys.seal import Sealer
from support.jobs import a_job

Racer = Callable[["Barrier", str, str], str]


def race(racer: Racer, url: str, argument: str, processes: int) -> list[str]:
    """What each of some processes says that start at the same moment."""
    context = multiprocessing.get_context("spawn")
    gate = context.Manager().Barrier(processes)
    with context.Pool(processes) as pool:
        return pool.starmap(racer, [(gate, url, argument)] * processes, chunksize=1)


def add_a_job(gate: Barrier, url: str, name: str) -> str:
    """Try to add a job of a name that all the others want too."""
    store = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    gate.wait(60)
    try:
        return f"job {store.add_job(a_job(name), {}).id}"
    except AirbergError as e:
        return e.code
    finally:
        store.close()


def take_the_lease(gate: Barrier, url: str, job_id: str) -> str:
    """Try to take a lease that all the others want too."""
    store = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    gate.wait(60)
    try:
        holder = str(multiprocessing.current_process().pid)
        return f"token {store.acquire_lease(UUID(job_id), holder, 60).token}"
    except AirbergError as e:
        return e.code
    finally:
        store.close()


def migrate(gate: Barrier, url: str, _: str) -> str:
    """Upgrade a database that all the others upgrade too."""
    gate.wait(60)
    try:
        upgrade(url)
    except AirbergError as e:
        return e.code
    return "upgraded"
