"""Values of the job store. All times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from airberg.plan.model import IngestRequest, JobPlan


class JobStatus(StrEnum):
    """Status of a job, in the words of the sibling API: that of its newest run, `new` before the first."""

    NEW = "new"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class RunStatus(StrEnum):
    """Status of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Nothing more happens to this run unless the orchestrator retries it."""
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


StreamPhase: TypeAlias = Literal["waiting", "reading", "committing", "complete", "incomplete"]


class ReportedState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connector's state of a stream, as people may see it: without secrets, or only that there is one.

    Attributes:
        text: The state as JSON text; None when it is withheld.
        bytes: How long that text is.
        sha256: Its digest, by which states that are too large to show can be told apart.
        withheld: Why it is not here. Of a state that may hold values of protected columns there is nothing
            else either: from a digest they could be guessed.
    """

    text: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    withheld: Literal["protected", "too-large", "unreadable"] | None = None


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did to one stream's table. Counts are of this run over all its attempts' commits.

    Attributes:
        rows_read: Records of the source, whatever became of them.
        bytes_read: Their JSON text.
        rows_staged: Rows in data files that are not committed yet.
        bytes_staged: Size of these files.
        rows_written: Rows of the source that were committed.
        bytes_written: Size of the data files that were committed.
        rows_estimated: How many records there will be, if the connector says so.
        bytes_estimated: How many bytes, likewise.
        rows_per_s: Records read each second, over the newest attempt.
        phase: Where the stream is.
        started_at: When the first records came, or the first commit was made.
        ended_at: When the stream was complete, or given up.
        attempts: How many attempts of the run have worked on it.
        state_before: The state that the run began from.
        state_after: That of the newest commit.
        state_changed: Whether a commit of the run has noted another state than the run began from.
    """

    stream: str
    table: str
    rows_read: int = 0
    bytes_read: int = 0
    rows_staged: int = 0
    bytes_staged: int = 0
    rows_written: int = 0
    rows_deleted: int = 0
    values_nulled: int = 0
    records_ignored: int = 0
    bytes_written: int = 0
    checkpoints: int = 0
    snapshot_ids: tuple[int, ...] = ()
    complete: bool = False
    rows_estimated: int | None = None
    bytes_estimated: int | None = None
    rows_per_s: float = 0.0
    phase: StreamPhase = "waiting"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    state_before: ReportedState | None = None
    state_after: ReportedState | None = None
    state_changed: bool = False


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a run: how it went, in the words of `Run`.

    Attributes:
        status: `running` also of one that ended without a word.
        guidance: What to do about the error.
    """

    number: int
    status: RunStatus
    started_at: datetime | None
    ended_at: datetime | None = None
    error: str | None = None
    error_code: str | None = None
    guidance: str | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of one run of a job.

    Attributes:
        streams: Names of the only streams to sync; empty: all of the job's.
        full_refresh: Read them from their beginning, whatever was read before.
    """

    streams: tuple[str, ...] = ()
    full_refresh: bool = False


class RunPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run: the tables that one task of the flow fills. Statuses and errors as of a `Run`.

    Attributes:
        number: From 0.
        tables: Names of the tables in the job's namespace, sorted.
        report: What the part did; what it did to its tables is in the report of the run.
    """

    number: int
    tables: tuple[str, ...]
    status: RunStatus = RunStatus.QUEUED
    attempt: int = 0
    error: str | None = None
    error_code: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    report: RunReport


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did, stream by stream; `metadata` names what `register` wrote or sent.

    Attributes:
        parts: Where the streams of a run are synced side by side, by several tasks: what each of them did.
        lineage_open: Number of an attempt that OpenLineage was told to have begun and not to have ended.
        lineage_error: Why OpenLineage was not told everything.
    """

    streams: tuple[StreamReport, ...] = ()
    metadata: str | None = None
    metadata_error: str | None = None
    lineage_open: int = 0
    lineage_error: str | None = None
    records_of_unknown_streams: int = 0
    attempts: tuple[AttemptReport, ...] = ()
    parts: tuple[RunPart, ...] = ()

    @property
    def metadata_sent(self) -> bool:
        """Whether a server has the metadata: the address of one is there, and no error since."""
        sent = (self.metadata or "").startswith(("http://", "https://"))
        return sent and self.metadata_error is None


def flow_id_of(job_id: UUID) -> str:
    """The orchestrator's id of a job's flow."""
    return f"airberg_{job_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An ingestion job.

    Attributes:
        id: Its identity; derived ids (flow, files) are made from it.
        created_by: `issuer|subject` of the caller: who may see and change it.
        owner_id: The owner shown and sent to DataHub.
        request: What was asked, without `source_config`.
        plan: What will be done; None when preflight was skipped and no run has planned yet.
        public_config: `source_config` with every secret masked; for people.
        shard: Number of the flow file that holds its flow; stable for the job's life.
        flow_hash: Hash of the flow spec that the orchestrator was last seen to have; None = not yet.
        version: Goes up with every change that somebody asked for; not with what runs do to the job.
    """

    id: UUID
    owner_id: str
    created_by: str
    request: IngestRequest
    plan: JobPlan | None
    public_config: dict[str, object]
    status: JobStatus = JobStatus.NEW
    status_message: str | None = None
    paused: bool = False
    shard: int = 0
    flow_hash: str | None = None
    created_at: datetime
    last_started_at: datetime | None = None
    last_completed_at: datetime | None = None
    last_failed_at: datetime | None = None
    deleted_at: datetime | None = None
    version: int = 1

    @property
    def flow_id(self) -> str:
        """The orchestrator's id of this job's flow."""
        return flow_id_of(self.id)

    def as_flow_job(self) -> FlowJob:
        """What its flow is made of."""
        return FlowJob(
            id=self.id,
            request=self.request,
            created_at=self.created_at,
            paused=self.paused,
            shard=self.shard,
            flow_hash=self.flow_hash,
            deleted_at=self.deleted_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowJob:
    """A job as far as its flow is made of it: without its plan, which may be large. As in `Job`."""

    id: UUID
    request: IngestRequest
    created_at: datetime
    paused: bool
    shard: int
    flow_hash: str | None
    deleted_at: datetime | None

    @property
    def flow_id(self) -> str:
        """The orchestrator's id of this job's flow."""
        return flow_id_of(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFlow:
    """A job whose flow has changed. `mark` tells this change from a later one."""

    job: FlowJob
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job: one run of its flow, over all attempts.

    Attributes:
        flow_run_id: The orchestrator's id of the run; unique together with the job.
        attempt: Number of the attempt that wrote last, from 1; 0 while queued.
        error: One sentence for people when it failed; no secrets.
        error_code: Stable code of the error.
        asked: What is asked of this run.
        part: Number of the part of a run that this is; None: it is a whole one, and in the store.
    """

    id: UUID
    job_id: UUID
    flow_run_id: str
    status: RunStatus = RunStatus.QUEUED
    attempt: int = 0
    report: RunReport = field(default_factory=RunReport)
    error: str | None = None
    error_code: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    asked: RunRequest = field(default_factory=RunRequest)
    part: int | None = None

    @property
    def metadata_due(self) -> bool:
        """Whether it has loaded tables that no server was told of: not yet, in vain, or into a file."""
        return self.status is RunStatus.COMPLETED and not self.report.metadata_sent


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The answer to a request with an `Idempotency-Key`, kept to be given again."""

    key: str
    caller: str
    body_hash: str
    status: int
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run a job, or to fill some of its tables.

    Attributes:
        token: Grows with every new holder, so that a late one can be told apart.
        tables: Names of the tables, sorted; empty: the whole job.
    """

    job_id: UUID
    holder: str
    token: int
    expires_at: datetime
    tables: tuple[str, ...] = ()
