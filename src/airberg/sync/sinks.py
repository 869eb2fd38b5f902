"""Opens what the records of a run go into: a builder, a writer and a sink for each stream."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiceberg.table import Table

from airberg.columns.batch import BatchBuilder, RecordBuilder
from airberg.columns.compiled import available
from airberg.columns.native import NativeBuilder, NativeReader
from airberg.jobs.model import Run
from airberg.lake.note import Note
from airberg.lake.writers import MergeKey, TableWriter, WriterSettings, open_writer
from airberg.plan.model import JobPlan, StreamPlan
from airberg.plan.planner import merge_columns
from airberg.protocol.state import StateKey
from airberg.sync.archive import StreamArchive, archive_folder
from airberg.sync.backends import Backends
from airberg.sync.keys import RunKeys
from airberg.sync.lane import StagingLane
from airberg.sync.memory import WaitingRows
from airberg.sync.resume import Begin, earlier_report
from airberg.sync.shown_states import ShownStates
from airberg.sync.stream import CheckpointPolicy, RunStamp, StreamSink
from airberg.sync.texts import ConnectorTexts

if TYPE_CHECKING:
    from airberg.lake.keymemory import KeyMemory

log = logging.getLogger(__name__)


class SinkOpener:
    """Opens the sinks of one attempt.

    Args:
        backends: What a run works with.
        run: The run, in its attempt.
        plan: What is done.
        keys: The keys of protected columns.
        spill_dir: A folder for temporary files that nobody else uses.
        guard: Called right before each commit; raises when the run may not write any more.
        at_swap: By table, properties that come with new rows only.
    """

    def __init__(
        self,
        backends: Backends,
        run: Run,
        plan: JobPlan,
        keys: RunKeys,
        *,
        spill_dir: Path,
        guard: Callable[[], None],
        at_swap: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        self._backends, self._run, self._plan, self._keys = backends, run, plan, keys
        self._spill_dir = spill_dir
        self._guard = guard
        self._at_swap = at_swap
        self._key_memory: KeyMemory | None = None
        # A state that streams share is in all their tables: sealed when one must seal it.
        self._seals = any(stream.protect_state for stream in plan.streams)

    def close(self) -> None:
        """Free the memory of merges."""
        if self._key_memory is not None:
            self._key_memory.close()

    def open(
        self,
        streams: Sequence[StreamPlan],
        tables: Mapping[str, Table],
        begins: Mapping[str, Begin],
        lane: StagingLane,
        texts: ConnectorTexts,
    ) -> tuple[Mapping[StateKey, StreamSink], NativeReader | None]:
        """A sink for each stream that is not done.

        Args:
            streams: Those of the plan that are synced.
            tables: The tables, by name.
            begins: How the streams begin, by table.
            lane: Stages the rows.
            texts: Decides what may be told of the connector's states.

        Returns:
            The sinks, and what reads plain records into them without Python, where that can be.

        Raises:
            LeaseHeld: Another run has written since the notes were read.
            ConfigurationFailed: A merge key does not fit its table.
        """
        settings = self._backends.settings.sync
        policy = CheckpointPolicy(settings.checkpoint_seconds, settings.checkpoint_bytes, settings.batch_rows)
        stamp = RunStamp(self._run.flow_run_id, self._run.attempt, self._sync_id)
        waiting = WaitingRows()
        shown = ShownStates(
            protects=texts.protects or self._seals,
            streams=len(self._plan.streams),
            redact=lambda text: texts.redactor.text(text),  # another one, when secrets are renewed
        )
        sinks: dict[StateKey, StreamSink] = {}
        builders: dict[StateKey, NativeBuilder] = {}
        for stream in streams:
            start, table = begins[stream.table], tables[stream.table]
            if start.done:
                continue
            builder = self._builder(stream, start.generation_id)
            if isinstance(builder, NativeBuilder):
                builders[stream.state_key] = builder
            sinks[stream.state_key] = StreamSink(
                stream,
                start,
                builder,
                self.writer(stream, table, start.note, replaces=start.fresh),
                lane,
                waiting,
                stamp,
                policy,
                functools.partial(shown.shown, stream.state_key),
                self._archive(stream),
                earlier_report(self._run, stream, table),
            )
        if sinks and not builders:
            log.warning("records are read in Python: the compiled reader is switched off or was not built")
        return sinks, NativeReader(builders) if builders else None

    def writer(
        self, stream: StreamPlan, table: Table, note: Note | None, *, replaces: bool = False
    ) -> TableWriter:
        """The writer of a stream.

        Args:
            stream: The stream.
            table: Its table.
            note: What the run starts from.
            replaces: The rows take the place of all that are there, in one commit at the end.

        Raises:
            LeaseHeld: Another run has written since the note was read.
            ConfigurationFailed: The merge key does not fit the table.
        """
        settings, merging = self._backends.settings, self._plan.merging
        key = None
        if stream.mode == "merge":
            columns = merge_columns(stream, soft_deletes=merging.soft_deletes)
            key = MergeKey(
                columns=columns.key,
                cursor=columns.cursor,
                deleted_at=columns.deleted_at,
                delete_format=merging.delete_format,
                skip_unchanged=merging.skip_unchanged and not replaces,
            )
        return open_writer(
            stream.mode,
            self._backends.catalog,
            table,
            job_id=self._run.job_id,
            started_from=note,
            settings=WriterSettings(
                target_file_bytes=settings.sync.target_file_bytes,
                spill_dir=self._spill_dir,
                key_memory=self._memory_of_merges() if stream.mode == "merge" else None,
            ),
            guard=self._guard,
            sealer=self._backends.sealer if self._seals else None,
            key=key,
            at_swap=self._at_swap.get(stream.table, {}),
            replaces=replaces,
        )

    @property
    def _sync_id(self) -> int:
        return int(self._run.created_at.timestamp())

    def _builder(self, stream: StreamPlan, generation_id: int) -> RecordBuilder:
        plan = self._plan
        facts: dict[str, Any] = {
            "add_metadata": plan.add_ingestion_metadata,
            "sync_id": self._sync_id,
            "generation_id": generation_id,
            "cipher_for": self._keys.cipher_for(stream),
        }
        if self._backends.settings.sync.compiled_reader and available():
            return NativeBuilder(stream, keeps_text=plan.archive_staging, **facts)
        return BatchBuilder(stream, **facts)

    def _memory_of_merges(self) -> KeyMemory:
        """One for all streams: it opens while the connector starts, and bounds what they use together."""
        from airberg.lake.keymemory import KeyMemory  # needs DuckDB, which the other modes do not

        if self._key_memory is None:
            memory_mb = self._backends.settings.sync.key_memory_mb
            self._key_memory = KeyMemory(self._spill_dir, memory_mb=memory_mb)
        return self._key_memory

    def _archive(self, stream: StreamPlan) -> StreamArchive | None:
        if not self._plan.archive_staging:
            return None
        folder = archive_folder(self._backends.settings.archive_dir, self._run.job_id, self._run.id)
        return StreamArchive(folder, stream, self._run.attempt)
