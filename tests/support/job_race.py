"""What the processes of a race do; in a module of its own, since a spawned process imports it."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from typing import cast
from uuid import UUID

import msgspec

from airberg.errors import AirbergError, PreconditionFailed
from airberg.jobs.audit import Act
from airberg.jobs.changes import JobChange, NewConfig
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import RunStatus
from airberg.jobs.sql import SqlJobStore
from airberg.keys.seal import Sealer
from support.jobs import a_job, a_run

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


ROUNDS = 4
"""How often each process does each thing in `do_everything`."""


def do_everything(gate: Barrier, url: str, job_id: str) -> str:
    """Add jobs, change a job that all change, and trigger, start and end runs of it, by turns."""
    store = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    me, shared = str(multiprocessing.current_process().pid), UUID(job_id)
    gate.wait(60)
    try:
        for number in range(ROUNDS):
            name = f"{me}-{number}"
            act = Act(actor=me, action="race", kind="job", target=name)
            store.add_job(a_job(name), {"token": name}, act=act)
            _add_a_tag(store, shared, name, act)
            store.add_run(a_run(shared, name, created_at=datetime.now(UTC)), act=act)
            run = store.start_run(shared, name, 1, datetime.now(UTC))
            store.end_run(run.id, RunStatus.COMPLETED, datetime.now(UTC))
    except AirbergError as e:
        return f"{e.code}: {e.message}"
    else:
        return me
    finally:
        store.close()


def _add_a_tag(store: SqlJobStore, job_id: UUID, tag: str, act: Act) -> None:
    """As the API changes a job: from a version, again until nobody was faster."""
    while True:
        job, config = store.job(job_id), store.source_config(job_id)
        request = msgspec.structs.replace(job.request, tags=(*job.request.tags, tag))
        counted = {"count": cast(int, config["count"]) + 1}
        new = NewConfig(config=counted, public=counted, instead_of=config)
        with contextlib.suppress(PreconditionFailed):
            store.update(job_id, JobChange(version=job.version, request=request, config=new), act=act)
            return


def migrate(gate: Barrier, url: str, _: str) -> str:
    """Upgrade a database that all the others upgrade too."""
    gate.wait(60)
    try:
        upgrade(url)
    except AirbergError as e:
        return e.code
    return "upgraded"
