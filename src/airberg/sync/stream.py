"""One stream on its way into its table: batches, checkpoints, the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from airberg.columns.batch import PendingBatch, RecordBuilder
from airberg.jobs.model import ReportedState, StreamPhase, StreamReport
from airberg.lake.note import Note
from airberg.lake.together import Member
from airberg.lake.writers import CommitReport, TableWriter
from airberg.plan.model import StreamPlan
from airberg.protocol.messages import Estimate, Record, record_changes
from airberg.protocol.state import State, state_from_json
from airberg.sync.archive import StreamArchive
from airberg.sync.lane import StagingLane
from airberg.sync.memory import WaitingRows
from airberg.sync.resume import Begin

BATCH_BYTES = 8 * 1024 * 1024
"""A batch is handed on at this size even when it has few rows: wide records must not fill the memory."""


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When a checkpoint is due: at the first STATE after either limit."""

    seconds: float
    bytes: int
    batch_rows: int


@dataclass(frozen=True, slots=True)
class RunStamp:
    """What every commit of a run is stamped with."""

    run_id: str
    attempt: int
    sync_id: int


class StreamSink:
    """Takes the records of one stream and commits them together with the states that cover them.

    Rows are staged while they arrive, in the lane. A state covers all rows before it, so a commit takes the
    rows up to the last state; rows behind it wait for the next one, or for the end of a run that succeeded.
    Commits are made by the thread that reads, when the lane has nothing left to do.
    """

    def __init__(
        self,
        stream: StreamPlan,
        begin: Begin,
        builder: RecordBuilder,
        writer: TableWriter,
        lane: StagingLane,
        waiting: WaitingRows,
        stamp: RunStamp,
        policy: CheckpointPolicy,
        shown: Callable[[str | None], ReportedState | None],
        archive: StreamArchive | None = None,
        earlier: StreamReport | None = None,
    ) -> None:
        self.plan = stream
        self._builder = builder
        self._writer = writer
        self._lane = lane
        self._waiting = waiting
        waiting.watch(writer)
        self._stamp = stamp
        self._policy = policy
        self._archive = archive
        self._fresh = begin.fresh
        self._state: str | None = begin.note.state if begin.note and not begin.fresh else None
        self._began_from = self._state
        self._shown = shown
        self._own_state = self._state is not None and state_from_json(self._state.encode()).key is not None
        self._shared = begin.note.shared if begin.note else 0
        self._generation = begin.generation_id
        self._number = begin.note.number if begin.note else 0
        self._counted = 0
        self._covered = 0
        self._covered_records = 0
        self._staged_rows = 0
        self._staged_bytes = 0
        self._phase: StreamPhase = "waiting"
        self._began_at = time.monotonic()
        self._stopped_at: float | None = None
        self._started_at: datetime | None = None
        self._new_state = False
        self._ending = False
        self._committed_at = time.monotonic()
        self._earlier_nulled = earlier.values_nulled if earlier else 0
        self._earlier_read = earlier.rows_read if earlier else 0
        self._earlier_bytes = earlier.bytes_read if earlier else 0
        again = begin.note is not None and begin.note.run_id == stamp.run_id
        self.report = self._begun(
            earlier or StreamReport(stream=stream.name, table=stream.table), again=again
        )

    @property
    def commits_early(self) -> bool:
        """Whether checkpoints may be committed before the end.

        Only what is read incrementally: a full copy without an end cannot be told from a complete one, and
        a retry would read it again from the start.
        """
        return self._keeps_state and not self._fresh

    @property
    def _keeps_state(self) -> bool:
        return self.plan.sync_mode == "incremental" and self.plan.mode != "overwrite"

    @property
    def rows_read(self) -> int:
        """Records taken in this attempt."""
        return self._builder.total

    @property
    def waiting_bytes(self) -> int:
        """Memory of the records that are in no batch yet."""
        return self._builder.nbytes

    def add(self, record: Record) -> None:
        """Take one record that was decoded on its own."""
        self._builder.add(record.data, record.emitted_at, record_changes(record))

    def uncounted(self) -> int:
        """How many records were taken since this was asked last."""
        before, self._counted = self._counted, self._builder.total
        return self._counted - before

    def stage_when_full(self) -> None:
        """Hand a batch on when there are enough records for one."""
        waiting = len(self._builder)
        if waiting and self._started_at is None:
            self._started_at = datetime.now(UTC)
        if waiting >= self._policy.batch_rows or self._builder.nbytes >= BATCH_BYTES:
            self.stage()

    def stage(self) -> None:
        """Hand on what there is."""
        if len(self._builder):
            pending = self._builder.take()
            self._lane.submit(lambda: self._write(pending), pending.nbytes)

    def _write(self, pending: PendingBatch) -> None:
        """Convert a batch and stage its rows; done in the lane."""
        if self._archive is not None:
            for text, emitted in pending.texts():
                self._archive.add(text, emitted)
        self._writer.write(pending.batch())
        self._waiting.bound()
        self._note_staged()

    def cover(self, state: State, records: int) -> None:
        """Note that `state` covers every record taken so far.

        Args:
            state: The state.
            records: How many records it covers since the state before it, by our own count.
        """
        self._covered_records += records
        if self._keeps_state:
            self._own_state = state.key is not None
            self._state = state.raw.decode()
        if self.commits_early:
            self._covered = self._builder.total
            self._new_state = True

    def due(self) -> bool:
        """Whether what is covered should be committed now."""
        if not self._new_state:
            return False
        staged = self._staged_bytes + self._builder.nbytes
        return staged >= self._policy.bytes or time.monotonic() - self._committed_at >= self._policy.seconds

    @property
    def own_state(self) -> bool:
        """See `airberg.sync.checkpoint.Sink`. Also true of streams that keep no state."""
        return self._own_state or not self._keeps_state

    @property
    def shares_state(self) -> bool:
        """See `airberg.sync.checkpoint.Sink`. A table whose rows are replaced is committed alone."""
        return self._state is not None and not self.own_state and self.commits_early

    @property
    def waits(self) -> bool:
        """See `airberg.sync.checkpoint.Sink`."""
        return self._new_state and not self._ending

    @property
    def shared(self) -> int:
        """See `airberg.sync.checkpoint.Sink`."""
        return self._shared

    def prepare(self, shared: int | None, *, complete: bool) -> Member:
        """See `airberg.sync.checkpoint.Sink`."""
        self._ending = complete
        self._settle()
        self._writer.mark(None if complete else self._covered)
        note = self._note(shared, complete=complete)
        self._phase = "committing"
        return Member(self._writer, note, lambda done: self._landed(note, done))

    def finish(self) -> None:
        """See `airberg.sync.checkpoint.Sink`."""
        self._ending = True
        self._settle()
        note = self._note(None, complete=True)
        self._phase = "committing"
        self._landed(note, self._writer.finish(note))

    def discard(self) -> None:
        """Give up what is not committed; nothing of this stream may be in the lane."""
        self._writer.discard()
        self._note_staged()
        self._stopped_at = self._stopped_at or time.monotonic()
        if not self.report.complete:
            self._phase = "incomplete"
            self.report = msgspec.structs.replace(self.report, ended_at=datetime.now(UTC))

    def close(self) -> None:
        """Finish the archive, if there is one."""
        if self._archive is not None:
            self._archive.close()

    def progress(self, estimate: Estimate | None = None) -> StreamReport:
        """The report as it stands, with records that are not committed yet.

        Args:
            estimate: What the connector says will come.
        """
        rows, passed = self._builder.total, (self._stopped_at or time.monotonic()) - self._began_at
        phase: StreamPhase = "complete" if self.report.complete else self._phase
        if phase == "waiting" and rows:
            phase = "reading"
        return msgspec.structs.replace(
            self.report,
            rows_read=self._earlier_read + rows,
            bytes_read=self._earlier_bytes + self._builder.json_bytes,
            rows_staged=self._staged_rows,
            bytes_staged=self._staged_bytes,
            values_nulled=self._earlier_nulled + self._builder.values_nulled,
            rows_estimated=estimate.rows if estimate else self.report.rows_estimated,
            bytes_estimated=estimate.bytes if estimate else self.report.bytes_estimated,
            rows_per_s=round(rows / passed, 1) if passed > 0 else 0.0,
            phase=phase,
            started_at=self.report.started_at or self._started_at,
        )

    def _begun(self, report: StreamReport, *, again: bool) -> StreamReport:
        """The report of the run as this attempt begins.

        Args:
            report: That of the attempts before, if there were any.
            again: The table's state is one that this very run has committed. The report may not have it yet:
                an attempt that is killed reports no more.
        """
        state = self._shown(self._state)
        before = report.state_before if report.attempts else state
        after = state if again else report.state_after
        return msgspec.structs.replace(
            report,
            attempts=report.attempts + 1,
            ended_at=None,
            state_before=before,
            state_after=after,
            state_changed=report.state_changed or (again and after != before),
        )

    def _note_staged(self) -> None:
        self._staged_rows, self._staged_bytes = self._writer.staged_rows, self._writer.staged_bytes

    def _settle(self) -> None:
        self.stage()
        self._lane.settle()

    def _note(self, shared: int | None, *, complete: bool) -> Note:
        return Note(
            run_id=self._stamp.run_id,
            attempt=self._stamp.attempt,
            number=self._number + 1,
            generation_id=self._generation,
            sync_id=self._stamp.sync_id,
            state=self._state,
            complete=complete,
            rows=self._builder.total,
            destination_records=self._covered_records if self._new_state else None,
            shared=self._shared if shared is None else shared,
        )

    def _landed(self, note: Note, done: CommitReport) -> None:
        self._number = note.number
        self._shared = note.shared
        self._new_state = False
        self._covered_records = 0
        self._phase = "reading"
        self._note_staged()
        self._committed_at = time.monotonic()
        now = datetime.now(UTC)
        self._started_at = self._started_at or now
        if note.complete:
            self._stopped_at = self._committed_at
        snapshots = (done.snapshot_id,) if done.snapshot_id is not None else ()
        self.report = msgspec.structs.replace(
            self.progress(),
            rows_written=self.report.rows_written + done.rows_written,
            rows_deleted=self.report.rows_deleted + done.rows_deleted,
            bytes_written=self.report.bytes_written + done.bytes_written,
            checkpoints=self.report.checkpoints + 1,
            snapshot_ids=(*self.report.snapshot_ids, *snapshots),
            complete=note.complete,
            ended_at=now if note.complete else None,
            state_after=self._shown(note.state),
            state_changed=self.report.state_changed or note.state != self._began_from,
        )
