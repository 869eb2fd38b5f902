"""The version of a job in HTTP: `ETag` says it, `If-Match` asks for it (RFC 9110, section 13.1.1)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Response

from airberg.jobs.changes import changed_meanwhile
from airberg.jobs.model import Job

_TAG = re.compile(r'(W/)?"([^"]*)"')

IfMatch = Annotated[
    str | None, Header(max_length=1_000, description="Only if this is still the job's ETag; else 412.")
]


def show_version(response: Response, job: Job) -> None:
    """Say in the header which version of the job is shown. It is what people asked for, not what runs did."""
    response.headers["ETag"] = f'"{job.version}"'


def require_match(job: Job, if_match: str | None) -> int | None:
    """The version that a change is conditional on; None when it is not.

    Raises:
        PreconditionFailed: The job has another version than the header names. A weak tag never matches.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    strong = {tag for weak, tag in _TAG.findall(if_match) if not weak}
    if str(job.version) not in strong:
        raise changed_meanwhile(job.id)
    return job.version
