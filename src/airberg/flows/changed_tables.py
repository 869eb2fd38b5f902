"""Which tables a run has changed, for the orchestrator: it starts the flows that wait for them.

`airberg_airflow.operator` names the file in the environment and reads it when the command has succeeded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from airberg.jobs.model import Job, Run, StreamReport
from airberg.settings import Settings

VARIABLE = "AIRBERG_CHANGED_TABLES_FILE"
"""Environment variable with the path of the file (`airberg_airflow.changed_tables` sets it)."""
LIMIT_VARIABLE = "AIRBERG_RESULT_MAX_BYTES"
"""Environment variable with the most that the file may hold (`airberg_airflow.pods` sets it)."""
_PLAIN = "._-~:@!$&'()*+,;="
"""What the host of a URI may hold beside letters and digits (RFC 3986, reg-name), with `:` and `@`."""


def table_uri(namespace: tuple[str, ...], table: str, settings: Settings) -> str:
    """The URI of a table's asset: `iceberg://<platform instance>.<namespace>.<table>`, all of it the host.

    DataHub's plugin for Airflow turns it into the urn that our own metadata has; slashes in the place of
    dots would be part of the name there, and so another table.
    """
    parts = (settings.datahub.platform_instance, *namespace, table)
    return "iceberg://" + quote(".".join(filter(None, parts)), safe=_PLAIN)


def write_changed_tables(
    job: Job, run: Run, settings: Settings, environment: Mapping[str, str] = os.environ
) -> None:
    """Write down what the run, over all its attempts, has changed. Does nothing where nobody asks.

    Args:
        job: The job as it is now, with the plan that the run had.
        run: The run, completed.
        settings: Its platform instance is part of the URIs.
        environment: Where the file is named.
    """
    path = environment.get(VARIABLE)
    if not path or job.plan is None:
        return
    namespace = job.plan.namespace
    tables = [
        {"uri": table_uri(namespace, stream.table, settings), "extra": _extra(job, run, namespace, stream)}
        for stream in run.report.streams
        if stream.snapshot_ids
    ]
    Path(path).write_bytes(_fitting(tables, int(environment.get(LIMIT_VARIABLE) or sys.maxsize)))


def _fitting(tables: list[dict[str, Any]], limit: int) -> bytes:
    """The list, or what of it has room: first the numbers go, then the last tables. That is told."""
    text = msgspec.json.encode({"tables": tables})
    if len(text) <= limit:
        return text
    named = [{"uri": table["uri"]} for table in tables]
    for kept in range(len(named), -1, -1):
        text = msgspec.json.encode({"tables": named[:kept], "left_out": len(named) - kept})
        if len(text) <= limit:
            return text
    return b""


def _extra(job: Job, run: Run, namespace: tuple[str, ...], stream: StreamReport) -> dict[str, str | int]:
    """What the event says beside the table: ids and counts. The number of a snapshot needs 64 bits: text."""
    return {
        "job_id": str(job.id),
        "run_id": str(run.id),
        "table": ".".join((*namespace, stream.table)),
        "rows_written": stream.rows_written,
        "rows_deleted": stream.rows_deleted,
        "snapshot_id": str(stream.snapshot_ids[-1]),
    }
