"""Stands where a task starts `airberg sync`: tells the story of a run that loads nothing.

python lineage_child.py FOLDER sync JOB --flow-run-id ID --attempt NUMBER
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from airberg.governance.openlineage.story import open_story
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import RunReport, RunStatus
from airberg.settings import Settings
from support.governed_tables import PLAN, make_customers, make_job, make_orders, memory_catalog


def main(folder: Path, job_id: str, flow_run_id: str, attempt: int) -> None:
    """Begin and end, and say nothing but by events."""
    catalog = memory_catalog(folder)
    tables = {"customers": make_customers(catalog), "orders": make_orders(catalog)}
    store = MemoryJobStore()
    job = store.add_job(make_job(), {})
    assert str(job.id) == job_id
    run = store.start_run(job.id, flow_run_id, attempt, datetime.now(UTC))
    story = open_story(Settings(home=folder), store, catalog, job, run)
    story.begin(PLAN, tables)
    report = RunReport(lineage_open=story.open_attempt)
    ended = story.end(store.end_run(run.id, RunStatus.COMPLETED, datetime.now(UTC), report=report))
    if ended.report.lineage_error:
        sys.exit(ended.report.lineage_error)


if __name__ == "__main__":
    options = dict(zip(sys.argv[4::2], sys.argv[5::2], strict=True))
    main(Path(sys.argv[1]), sys.argv[3], options["--flow-run-id"], int(options["--attempt"]))
