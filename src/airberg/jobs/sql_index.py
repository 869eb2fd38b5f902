"""What jobs are found by: tags and groups of their requests, one row each."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airberg.jobs.encoding import storable_text
from airberg.jobs.model import Job
from airberg.jobs.tables import job_groups, job_tags


def index_request(c: Connection, job: Job) -> None:
    """Note the tags and groups of a job's request anew, in the transaction that stores the request."""
    found = ((job_tags, "tag", job.request.tags), (job_groups, "group", job.request.share_with))
    for table, column, texts in found:
        c.execute(sa.delete(table).where(table.c.job_id == job.id))
        rows = [{"job_id": job.id, column: text} for text in sorted({storable_text(t) or "" for t in texts})]
        if rows:
            c.execute(table.insert(), rows)
