"""Ids of jobs as the command prints them, and how they are shared out among tasks. No Airflow in here."""

from __future__ import annotations

import re
from collections.abc import Sequence

PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""Of a job's id, for the forms of Airflow too."""
MAX_TASKS = 1000
"""Airflow refuses to map over more than 1024 (`[core] max_map_length`)."""
_JOB_ID = re.compile(PATTERN)


def is_job_id(text: str) -> bool:
    """Whether a text is the id of a job, and so can never be an option of a command."""
    return len(text) == 36 and _JOB_ID.match(text) is not None


def shared_out(ids: Sequence[str], tasks: int = MAX_TASKS) -> list[list[str]]:
    """Ids by task: one each, and several where there are more ids than tasks may be."""
    each = -(-len(ids) // tasks)
    return [list(ids[start : start + each]) for start in range(0, len(ids), max(each, 1))]
