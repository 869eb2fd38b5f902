"""The tables of a job between runs: the state in them, going back, and what a table is.

The HTTP process asks this of a worker process (`airberg.sync.job_tables_child`); the worker, the command line
and tests have the tables at hand (`airberg.sync.job_tables_here`). This module is what both know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from airberg.jobs.audit import Act


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream stands, by the note in its table.

    Attributes:
        stream: Its name.
        namespace: Its namespace at the source.
        table: Dotted name of its table.
        exists: Whether there is such a table.
        sync_mode: How it is read; only what is read incrementally has a state.
        kind: Of the state: of this stream alone (`stream`), of several (`global`), or of old connectors
            (`legacy`); None when there is none.
        state: The `AirbyteStateMessage`; None when there is none, or when it is protected.
        protected: The state is kept sealed, since it may hold values of protected columns.
        checkpoint: Number of the newest commit of the job in this table.
        shared: Number of the newest checkpoint that it shares with other tables; 0 when there was none.
        flow_run_id: The run that made it; of the service for a state that somebody set.
        complete: That run has read the stream to its end.
        generation_id: Airbyte's generation of the stream.
        snapshot_id: The table's snapshot.
    """

    stream: str
    namespace: str | None
    table: str
    exists: bool
    sync_mode: str
    kind: str | None = None
    state: Any = None
    protected: bool = False
    checkpoint: int = 0
    shared: int = 0
    flow_run_id: str | None = None
    complete: bool = False
    generation_id: int = 0
    snapshot_id: int | None = None


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job stands.

    Attributes:
        states: The state messages as a connector gets them, each once; without protected ones.
        unfinished: Tables that the next run brings to the state of the others before it reads anything.
    """

    streams: tuple[StreamState, ...] = ()
    states: tuple[Any, ...] = ()
    unfinished: tuple[str, ...] = ()


class LostCommit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit whose rows a rewind takes out of a table.

    Attributes:
        by: `run`, `state` (somebody set the state), `rewind`, `upkeep`, `job` (another job of Airberg), or
            `other` (another writer).
        who: The run's `flow_run_id`, the other job's id, or the engine that the snapshot names.
    """

    snapshot_id: int
    at_ms: int
    operation: str
    by: str
    who: str = ""


class TableRewind(msgspec.Struct, frozen=True, kw_only=True):
    """What a rewind does to one table.

    Attributes:
        from_snapshot_id: Its snapshot before.
        to_snapshot_id: The snapshot whose rows it has afterwards; None: it has none.
        rows_before: Rows by the counts of these snapshots.
        rows_after: Likewise.
        state_before: The state messages; None where there is none, or where it is protected.
        state_after: Likewise.
        lost: Commits whose rows it takes out of the table, newest first.
    """

    stream: str
    table: str
    from_snapshot_id: int | None
    to_snapshot_id: int | None
    rows_before: int
    rows_after: int
    state_before: Any = None
    state_after: Any = None
    protected: bool = False
    lost: tuple[LostCommit, ...] = ()


class Rewind(msgspec.Struct, frozen=True, kw_only=True):
    """What a rewind does, or did: table by table, in the order of their commits."""

    run_id: UUID
    flow_run_id: str
    done: bool
    tables: tuple[TableRewind, ...]


class ShownColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a table.

    Attributes:
        name: Its dotted path.
        protection: `encrypted`, `hashed` or `masked`; None when it is in clear.
        key: Name of the key.
        plain_type: Type before that.
    """

    name: str
    type: str
    required: bool
    doc: str | None = None
    protection: str | None = None
    key: str | None = None
    plain_type: str | None = None


class ShownSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a table.

    Attributes:
        rows_deleted: Rows of data files that went, and those that new delete files name.
        current: It is the one that readers see.
        act: `rewind` or `state`, where it was no run.
        upkeep: What upkeep did.
    """

    snapshot_id: int
    parent_id: int | None
    at_ms: int
    operation: str
    rows_added: int
    rows_deleted: int
    rows_total: int
    current: bool = False
    job_id: str | None = None
    flow_run_id: str | None = None
    checkpoint: int | None = None
    act: str | None = None
    upkeep: str | None = None


class ShownTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table as it is.

    Attributes:
        rows: By the counts of the current snapshot.
        bytes: Size of data and delete files, by the same.
        jobs: Ids of the jobs whose notes it has.
        preview: Up to so many rows as were asked for, in no particular order; None when none were.
    """

    table: str
    location: str
    format_version: int
    columns: tuple[ShownColumn, ...]
    partition_by: tuple[str, ...]
    sort_by: tuple[str, ...]
    identifier: tuple[str, ...]
    rows: int
    bytes: int
    data_files: int
    delete_files: int
    owner: str | None
    comment: str | None
    jobs: tuple[str, ...]
    snapshots: tuple[ShownSnapshot, ...]
    snapshot_count: int
    preview: tuple[dict[str, Any], ...] | None = None


class JobTables(Protocol):
    """What can be asked about the tables of jobs.

    What changes something holds the job's lease meanwhile, and records its act once it is clear that nothing
    speaks against it.
    """

    def state(self, job_id: UUID) -> JobState:
        """Where a job stands.

        Raises:
            NotFound: There is no such job.
            Unavailable: The catalog or its storage does not answer.
        """
        ...

    def set_state(self, job_id: UUID, states: Sequence[Any], *, act: Act | None) -> JobState:
        """Replace the state of the streams that some state messages speak of.

        Args:
            job_id: The job.
            states: `AirbyteStateMessage` objects: one for each stream, or a global one for all.
            act: What is recorded.

        Raises:
            InvalidRequest: A message does not fit the job or its tables.
            Conflict: A run is at work, there is no table yet, or the tables do not stand together.
            Unavailable: As for `state`.
        """
        ...

    def delete_state(self, job_id: UUID, streams: Sequence[str] | None, *, act: Act | None) -> JobState:
        """Forget the state of some streams, or of all: the next run reads them from the start.

        Raises:
            InvalidRequest: There is no such stream.
            Conflict, Unavailable: As for `set_state`.
        """
        ...

    def rewind(self, job_id: UUID, run_id: UUID, *, force: bool, dry_run: bool, act: Act | None) -> Rewind:
        """Take all tables of a job back to what they were at the end of a run, with their state.

        Args:
            job_id: The job.
            run_id: A run of it that has completed.
            force: Also where that takes rows of other writers out of a table.
            dry_run: Only say what would be done.
            act: What is recorded.

        Raises:
            NotFound: There is no such job, or no such run of it.
            Conflict: A run is at work; or it cannot be done, and the message says why.
            Unavailable: As for `state`.
        """
        ...

    def table(self, schema: str, name: str, *, snapshots: int, preview: int) -> ShownTable:
        """A table as it is.

        Args:
            schema: Its namespace, dotted.
            name: Its name.
            snapshots: How many of the newest snapshots are listed.
            preview: How many rows are shown.

        Raises:
            NotFound: There is no such table.
            Unavailable: As for `state`.
        """
        ...
