"""One contender in a process of its own: tells DataHub of a run, and prints what that took.

    python -m benchmarks.governing.emit CONTENDER TABLES WIDTH

Where DataHub and the catalog are is in the environment. Imports come before the clock; each table's metadata
is read from the catalog within it, as every contender has to.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from pyiceberg.catalog import Catalog

from airberg.governance.register import register_run, run_proposals
from airberg.governance.sinks import open_connection, open_sink
from airberg.jobs.model import Job, Run
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings, load_settings
from benchmarks.governing.tables import job_of, run_of

Tell = Callable[[Job, Run, Catalog, Settings], None]


def airberg(job: Job, run: Run, catalog: Catalog, settings: Settings) -> None:
    """What the flow task `register` does."""
    register_run(job, run, catalog, settings, open_sink(settings))


def client_batches(job: Job, run: Run, catalog: Catalog, settings: Settings) -> None:
    """DataHub's emitter, given all proposals at once."""
    emitter, mode = client(settings)
    emitter.emit_mcps(list(run_proposals(job, run, catalog, settings)), emit_mode=mode)


def client_one_by_one(job: Job, run: Run, catalog: Catalog, settings: Settings) -> None:
    """DataHub's emitter, given one proposal at a time, as its examples show."""
    emitter, mode = client(settings)
    for proposal in run_proposals(job, run, catalog, settings):
        emitter.emit_mcp(proposal, emit_mode=mode)


def client(settings: Settings) -> tuple[Any, Any]:
    """DataHub's emitter, and its mode that waits for the primary store."""
    from datahub.emitter.rest_emitter import DatahubRestEmitter, EmitMode

    token = settings.datahub.token.get_secret_value() if settings.datahub.token else None
    return DatahubRestEmitter(str(settings.datahub.server), token=token), EmitMode.SYNC_PRIMARY


CONTENDERS: dict[str, Tell] = {
    "airberg": airberg,
    "airberg_openapi": airberg,
    "airberg_files": airberg,
    "client_batches": client_batches,
    "client_one_by_one": client_one_by_one,
}


def main(contender: str, tables: int, width: int) -> None:
    """Tell, and print the seconds."""
    settings = load_settings()
    catalog = open_catalog(settings)
    job = job_of(tables, width)
    run = run_of(job)
    _load_libraries(settings)
    begun, cpu = time.perf_counter(), time.process_time()
    CONTENDERS[contender](job, run, catalog, settings)
    took = {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu}
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in took.items()}) + "\n")


def _load_libraries(settings: Settings) -> None:
    """DataHub's and pyiceberg's libraries: a second that is everybody's."""
    import airberg.governance.proposals
    import airberg.governance.runs  # noqa: F401

    if settings.datahub.server:
        open_connection(settings).close()
        client(settings)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
