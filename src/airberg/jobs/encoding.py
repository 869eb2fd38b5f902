"""How the values of a job become columns and come back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import RowMapping

from airberg.jobs.model import FlowJob, Job, JobStatus, Run, RunReport, RunRequest, RunStatus
from airberg.plan.model import IngestRequest, decode_plan, encode_plan

T = TypeVar("T", bound=msgspec.Struct)


def storable_text(value: str | None) -> str | None:
    """Text that every database takes: without NUL (PostgreSQL) and lone surrogates (UTF-8).

    Messages of connectors end in the store, and they may hold anything.
    """
    if value is None:
        return None
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def encode_free(value: Mapping[str, object]) -> str:
    """JSON of a value whose shape is not ours; ASCII, so that even lone surrogates come back as they were.

    Raises:
        ValueError: It holds NaN or an infinity, which JSON has no words for.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def decode_free(text: str | bytes) -> dict[str, object]:
    """The value that `encode_free` wrote."""
    value: dict[str, object] = json.loads(text)
    return value


def encode_struct(value: msgspec.Struct) -> str:
    """JSON of one of our own structs."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate in a message: keep the rest
        plain = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return plain.encode("utf-8", "replace").decode()


def decode_struct(text: str, kind: type[T]) -> T:
    """The struct that `encode_struct` wrote."""
    return msgspec.json.decode(text, type=kind)


def job_columns(job: Job) -> dict[str, Any]:
    """The columns of a job, without `source_config`."""
    return {
        "id": job.id,
        "name": job.request.name,
        "owner_id": job.owner_id,
        "created_by": job.created_by,
        "request": encode_struct(job.request),
        "plan": None if job.plan is None else encode_plan(job.plan),
        "public_config": encode_free(job.public_config),
        "status": job.status.value,
        "status_message": storable_text(job.status_message),
        "paused": job.paused,
        "shard": job.shard,
        "flow_hash": job.flow_hash,
        "created_at": job.created_at,
        "last_started_at": job.last_started_at,
        "last_completed_at": job.last_completed_at,
        "last_failed_at": job.last_failed_at,
        "deleted_at": job.deleted_at,
        "version": job.version,
        "source_name": job.request.source_name,
    }


class _FilledTable(msgspec.Struct):
    table: str


class _FilledTables(msgspec.Struct):
    namespace: tuple[str, ...]
    streams: tuple[_FilledTable, ...]


def filled_tables(plan: str | None) -> tuple[str, ...]:
    """Dotted names of the tables in the text of a plan, of which nothing else is read."""
    if plan is None:
        return ()
    found = msgspec.json.decode(plan, type=_FilledTables)
    return tuple(".".join((*found.namespace, stream.table)) for stream in found.streams)


def job_of(row: RowMapping | Mapping[str, Any]) -> Job:
    """The job of a row."""
    return Job(
        id=row["id"],
        owner_id=row["owner_id"],
        created_by=row["created_by"],
        request=decode_struct(row["request"], IngestRequest),
        plan=None if row["plan"] is None else decode_plan(row["plan"]),
        public_config=decode_free(row["public_config"]),
        status=JobStatus(row["status"]),
        status_message=row["status_message"],
        paused=row["paused"],
        shard=row["shard"],
        flow_hash=row["flow_hash"],
        created_at=row["created_at"],
        last_started_at=row["last_started_at"],
        last_completed_at=row["last_completed_at"],
        last_failed_at=row["last_failed_at"],
        deleted_at=row["deleted_at"],
        version=row["version"],
    )


def flow_job_of(row: RowMapping) -> FlowJob:
    """What the flow of a job is made of, from a row of these columns."""
    return FlowJob(
        id=row["id"],
        request=decode_struct(row["request"], IngestRequest),
        created_at=row["created_at"],
        paused=row["paused"],
        shard=row["shard"],
        flow_hash=row["flow_hash"],
        deleted_at=row["deleted_at"],
    )


def run_columns(run: Run) -> dict[str, Any]:
    """The columns of a run."""
    return {
        "id": run.id,
        "job_id": run.job_id,
        "flow_run_id": run.flow_run_id,
        "status": run.status.value,
        "attempt": run.attempt,
        "report": encode_struct(run.report),
        "error": storable_text(run.error),
        "error_code": run.error_code,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "metadata_due": run.metadata_due,
        "asked": None if run.asked == RunRequest() else encode_struct(run.asked),
    }


def run_of(row: RowMapping) -> Run:
    """The run of a row."""
    return Run(
        id=row["id"],
        job_id=row["job_id"],
        flow_run_id=row["flow_run_id"],
        status=RunStatus(row["status"]),
        attempt=row["attempt"],
        report=decode_struct(row["report"], RunReport),
        error=row["error"],
        error_code=row["error_code"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        asked=RunRequest() if row["asked"] is None else decode_struct(row["asked"], RunRequest),
    )
