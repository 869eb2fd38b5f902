"""One run of a job, from lease to report: what `airberg sync JOB_ID` does."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.columns.batch import BatchBuilder, RecordBuilder
from airberg.columns.compiled import available
from airberg.columns.native import NativeBuilder, NativeReader
from airberg.errors import (
    AirbergError,
    ConfigurationFailed,
    LeaseHeld,
    RunCancelled,
    RunError,
    TransientFailed,
)
from airberg.governance.openlineage.story import Story, open_story
from airberg.jobs.connector import connector_of
from airberg.jobs.model import Job, Run, RunReport, StreamReport
from airberg.jobs.port import JobStore
from airberg.keys.port import KeyStore
from airberg.keys.seal import Sealer
from airberg.keys.texts import TextSeal
from airberg.lake.note import Note, read_note
from airberg.lake.rewind import finish_rewind
from airberg.lake.writers import MergeKey, TableWriter, WriterSettings, open_writer
from airberg.plan.model import JobPlan, MergeOptions, StreamPlan
from airberg.plan.planner import merge_columns
from airberg.plan.preparation import replan
from airberg.plan.transformations import key_names
from airberg.protocol.ledger import Ledger
from airberg.protocol.state import StateKey
from airberg.settings import Settings
from airberg.sources.hosts import refuse_hosts
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.read import ReadProcess
from airberg.sources.redact import Redactor
from airberg.sources.references import Resolved, resolve_references
from airberg.sources.renewal import check_renewal
from airberg.sources.secret_fields import mask_config, secret_values
from airberg.sources.workspace import for_protected_columns
from airberg.sync.archive import StreamArchive, archive_folder
from airberg.sync.attempts import Attempts, record_end
from airberg.sync.checkpoint import finish_together, keep_promises
from airberg.sync.connector_log import ConnectorLog
from airberg.sync.failure import as_run_error
from airberg.sync.kept_log import kept_log
from airberg.sync.keys import RunKeys
from airberg.sync.lane import StagingLane
from airberg.sync.lease import LeaseKeeper, job_lease
from airberg.sync.memory import WaitingRows
from airberg.sync.progress import ProgressKeeper, open_display
from airberg.sync.read import Reader, commit_what_is_covered
from airberg.sync.resume import Begin, begin, configured_catalog, earlier_report, states
from airberg.sync.shown_states import ShownStates
from airberg.sync.stream import CheckpointPolicy, RunStamp, StreamSink
from airberg.sync.tables import prepare_tables
from airberg.sync.texts import ConnectorTexts

if TYPE_CHECKING:
    from airberg.lake.keymemory import KeyMemory

log = logging.getLogger(__name__)

INSTALL_WITHIN_S = 1800.0
"""A worker that sees a connector for the first time installs it; nobody waits for an answer there."""
ASKED_GRACE_S = 2.5
"""What a connector gets to end when the run is asked to. The operator kills us 4 seconds after that: what is
left is for the store to be told how the run ended, and for the lease to be given back."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a run works with, opened by the caller."""

    settings: Settings
    store: JobStore
    keys: KeyStore
    catalog: Catalog
    sealer: Sealer


def run_sync(parts: Parts, job_id: UUID, flow_run_id: str, attempt: int) -> Run:
    """Run a job once and record how it went.

    Args:
        flow_run_id: The orchestrator's id of the run; attempts of one run share it.
        attempt: Number of the attempt, from 1.

    Raises:
        RunError: The run did not succeed; its branch says whether a retry makes sense. The reason is
            stored with the run.
    """
    store = parts.store
    job = store.job(job_id)
    if job.deleted_at is not None:
        raise ConfigurationFailed("The job was deleted.", guidance="Create a new job.")
    with job_lease(store, job_id, f"{flow_run_id}/{attempt}", parts.settings.sync.lease_seconds) as lease:
        run = store.start_run(job_id, flow_run_id, attempt, datetime.now(UTC))
        story = open_story(parts.settings, store, parts.catalog, job, run)
        session = _Session(parts, job, run, lease, story)
        # Its log is kept before its end is: who follows the log stops at the end.
        with kept_log(store.run_logs, run, parts.settings):
            log.info("run %s of job %r, attempt %d", run.id, job.request.name, attempt)
            error = _failure(session)
        return record_end(store, run.id, session.attempts, session.report, story, error)


def _failure(session: _Session) -> RunError | None:
    """Do the work; what ends the run when it fails.

    Raises:
        LeaseHeld: The run belongs to another process now, which will report it.
    """
    try:
        with _empty(session.spill_dir):
            session.execute()
    except LeaseHeld:
        raise
    except Exception as e:  # noqa: BLE001 - whatever it is, the run must not stay "running"
        error = as_run_error(e, session.texts)
        log.error("failed (%s): %s", error.code, error.sentence())
        return error
    streams = session.report().streams
    written, deleted = sum(s.rows_written for s in streams), sum(s.rows_deleted for s in streams)
    log.info("completed: %s rows written, %s deleted", f"{written:,}", f"{deleted:,}")
    return None


@contextlib.contextmanager
def _empty(folder: Path) -> Iterator[None]:
    """Remove a folder of temporary files, before and afterwards: a run that was killed left its own."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Session:
    """The state of one attempt."""

    def __init__(self, parts: Parts, job: Job, run: Run, lease: LeaseKeeper, story: Story) -> None:
        self._parts = parts
        self._story = story
        self._job = job
        self._run = run
        self._lease = lease
        self.attempts = Attempts(run)
        self._sinks: dict[StateKey, StreamSink] = {}
        self._lane = StagingLane()
        self._native: NativeReader | None = None
        self._done: list[StreamReport] = []
        self._at_swap: Mapping[str, Mapping[str, str | None]] = {}
        self._key_memory: KeyMemory | None = None
        self._ledger: Ledger | None = None
        self._cancelled = False
        self._secrets: frozenset[str] = frozenset()
        self.texts = ConnectorTexts(protects=job.request.protects_columns)
        self._given = Resolved({})
        self._config: dict[str, Any] = {}
        self._kept_config: dict[str, Any] = {}  # as it is stored, with references

    @property
    def spill_dir(self) -> Path:
        """Temporary files of merges; one folder a job, which only the holder of its lease uses."""
        return self._parts.settings.home / "spill" / str(self._job.id)

    def report(self) -> RunReport:
        """What was done so far: by streams that an earlier attempt completed, and by those at work.

        An attempt that ends before its streams begin adds nothing to what is reported of them.
        """
        estimates = self._ledger.estimates if self._ledger else {}
        now = [*self._done, *(sink.progress(estimates.get(key)) for key, sink in self._sinks.items())]
        tables = {stream.table for stream in now}
        return RunReport(
            streams=(*(s for s in self._run.report.streams if s.table not in tables), *now),
            records_of_unknown_streams=self._ledger.unknown_records if self._ledger else 0,
            attempts=self.attempts.reports,
            lineage_open=self._story.open_attempt,
        )

    def execute(self) -> None:
        """Plan, prepare the tables, read, commit."""
        try:
            self._execute()
        finally:
            if self._key_memory is not None:
                self._key_memory.close()

    def _execute(self) -> None:
        settings, job = self._parts.settings, self._job
        config = self._kept_config = self._parts.store.source_config(job.id)
        entry = connector_of(job, settings)
        # Before the connector does anything, even say what it offers.
        names = key_names(job.request.column_transformations, settings.keys.default_key)
        keys = RunKeys(self._parts.keys, names)
        if job.plan is not None:
            keys.settle(job.plan, self._parts.catalog)
        launch = resolve(entry, settings, deadline=time.monotonic() + INSTALL_WITHIN_S)
        if job.request.protects_columns:
            launch = for_protected_columns(launch, settings)
            self.texts.seal = TextSeal(str(job.id), map(keys.primary, names), self._parts.sealer)
        self._given = resolve_references(config, job.request.owner_id, settings.secrets)
        self._config = self._given.config
        refuse_hosts(self._config, launch.limits.host_rules)
        self._secrets = secret_values(launch.spec, self._config) | self._given.hidden
        self.texts.redactor = Redactor(self._secrets)
        plan = self._current_plan(launch, self._config)
        if plan is not job.plan:
            keys.settle(plan, self._parts.catalog)
        tables, self._at_swap = prepare_tables(self._parts.catalog, job.id, plan, keys)
        self._finish_rewind(tables)
        keep_promises(plan.streams, tables, str(job.id), self._parts.sealer, self._writer_of(plan))
        self._story.begin(plan, tables)
        begins = {s.table: self._begin(s, tables[s.table]) for s in plan.streams}
        self._open_sinks(plan, tables, begins, keys)
        active = [s for s in plan.streams if not begins[s.table].done]
        if not active:
            log.info("every stream was completed by an earlier attempt")
            return
        self._ledger = Ledger([s.state_key for s in active], redact=self.texts.told)
        sync_id = int(self._run.created_at.timestamp())
        catalog = configured_catalog(plan.streams, begins, sync_id)
        process = ReadProcess(
            launch,
            self._config,  # what the connector handed out meanwhile, if it did
            catalog,
            states(active, begins),
            idle_timeout_s=settings.sources.idle_timeout_s,
            read_timeout_s=settings.sources.read_timeout_s,
            hidden=self._given.hidden,
        )
        try:
            with self._lane:
                self._read(process, launch)
        finally:
            for sink in self._sinks.values():
                sink.close()

    # ---- planning ----------------------------------------------------------------------------------------

    def _current_plan(self, launch: LaunchDescription, config: dict[str, Any]) -> JobPlan:
        """The stored plan while it is fresh, else a new one from what the source offers today."""
        plan, settings = self._job.plan, self._parts.settings
        if (
            plan is not None
            and plan.connector_version == launch.version
            and time.time() - plan.discovered_at < settings.sources.rediscover_after_s
        ):
            return plan
        log.info("asking the source for its streams")
        fresh = replan(
            self._job,
            launch,
            config,
            settings,
            self._parts.keys,
            on_config=self._store_config(launch),
            told=self.texts.told,
        )
        # Not over a plan of somebody who changed the job meanwhile: this run goes on as the job was.
        self._parts.store.set_plan(self._job.id, fresh, version=self._job.version)
        return fresh

    def _store_config(self, launch: LaunchDescription) -> Any:  # noqa: ANN401 - a closure, typed at its use
        def store(config: dict[str, Any]) -> None:
            check_renewal(launch.spec, self._config, config)
            kept = self._given.restored(config)
            public = mask_config(launch.spec, kept, self._given.hidden)
            stored = self._parts.store.replace_source_config(
                self._job.id, kept, public, instead_of=self._kept_config
            )
            self._config = config
            self._secrets |= secret_values(launch.spec, config)
            self.texts.redactor = Redactor(self._secrets)
            if stored:
                self._kept_config = kept
                log.info("the source handed out a new configuration; it is stored")
            else:
                log.warning("somebody changed the configuration meanwhile; that of the source is not stored")

        return store

    # ---- tables ------------------------------------------------------------------------------------------

    def _finish_rewind(self, tables: dict[str, Table]) -> None:
        """Take back the tables that a rewind did not come to, before anything else is made of them."""
        parts, job_id = self._parts, str(self._job.id)
        for name in finish_rewind(
            parts.catalog, job_id, tables.values(), sealer=parts.sealer, guard=self._lease.check
        ):
            tables[name] = tables[name].refresh()

    def _begin(self, stream: StreamPlan, table: Table) -> Begin:
        note = read_note(table, str(self._job.id), self._parts.sealer)
        start = begin(stream, note, self._run.flow_run_id)
        if start.done:
            earlier = earlier_report(self._run, stream, table)
            done = earlier or StreamReport(stream=stream.name, table=stream.table)
            self._done.append(msgspec.structs.replace(done, complete=True))
        return start

    def _open_sinks(
        self, plan: JobPlan, tables: Mapping[str, Table], begins: dict[str, Begin], keys: RunKeys
    ) -> None:
        settings = self._parts.settings.sync
        open_for = self._writer_of(plan)
        policy = CheckpointPolicy(settings.checkpoint_seconds, settings.checkpoint_bytes, settings.batch_rows)
        stamp = RunStamp(self._run.flow_run_id, self._run.attempt, int(self._run.created_at.timestamp()))
        builders: dict[StateKey, NativeBuilder] = {}
        waiting = WaitingRows()
        shown = ShownStates(
            protects=self.texts.protects or any(s.protect_state for s in plan.streams),
            streams=len(plan.streams),
            redact=lambda text: self.texts.redactor.text(text),  # another one, when secrets are renewed
        )
        for stream in plan.streams:
            start = begins[stream.table]
            if start.done:
                continue
            builder = self._builder(plan, stream, start.generation_id, keys)
            if isinstance(builder, NativeBuilder):
                builders[stream.state_key] = builder
            self._sinks[stream.state_key] = StreamSink(
                stream,
                start,
                builder,
                open_for(stream, tables[stream.table], start.note),
                self._lane,
                waiting,
                stamp,
                policy,
                functools.partial(shown.shown, stream.state_key),
                self._archive(plan, stream),
                earlier_report(self._run, stream, tables[stream.table]),
            )
        self._native = NativeReader(builders) if builders else None
        if self._sinks and not builders:
            log.warning("records are read in Python: the compiled reader is switched off or was not built")

    def _builder(self, plan: JobPlan, stream: StreamPlan, generation_id: int, keys: RunKeys) -> RecordBuilder:
        facts: dict[str, Any] = {
            "add_metadata": plan.add_ingestion_metadata,
            "sync_id": int(self._run.created_at.timestamp()),
            "generation_id": generation_id,
            "cipher_for": keys.cipher_for(stream),
        }
        if self._parts.settings.sync.compiled_reader and available():
            return NativeBuilder(stream, keeps_text=plan.archive_staging, **facts)
        return BatchBuilder(stream, **facts)

    def _writer_of(self, plan: JobPlan) -> Callable[[StreamPlan, Table, Note | None], TableWriter]:
        """Opens writers. A state that streams share is in all their tables: sealed when one must seal it."""
        seal = any(stream.protect_state for stream in plan.streams)
        return lambda stream, table, note: self._writer(plan.merging, stream, table, note, seal=seal)

    def _writer(
        self, merging: MergeOptions, stream: StreamPlan, table: Table, note: Note | None, *, seal: bool
    ) -> TableWriter:
        key = None
        if stream.mode == "merge":
            columns = merge_columns(stream, soft_deletes=merging.soft_deletes)
            key = MergeKey(
                columns=columns.key,
                cursor=columns.cursor,
                deleted_at=columns.deleted_at,
                delete_format=merging.delete_format,
                skip_unchanged=merging.skip_unchanged,
            )
        settings = self._parts.settings
        return open_writer(
            stream.mode,
            self._parts.catalog,
            table,
            job_id=self._job.id,
            started_from=note,
            settings=WriterSettings(
                target_file_bytes=settings.sync.target_file_bytes,
                spill_dir=self.spill_dir,
                key_memory=self._memory_of_merges() if stream.mode == "merge" else None,
            ),
            guard=self._lease.check,
            sealer=self._parts.sealer if seal else None,
            key=key,
            at_swap=self._at_swap.get(stream.table, {}),
        )

    def _memory_of_merges(self) -> KeyMemory:
        """One for all streams: it opens while the connector starts, and bounds what they use together."""
        from airberg.lake.keymemory import KeyMemory  # needs DuckDB, which the other modes do not

        if self._key_memory is None:
            memory_mb = self._parts.settings.sync.key_memory_mb
            self._key_memory = KeyMemory(self.spill_dir, memory_mb=memory_mb)
        return self._key_memory

    def _archive(self, plan: JobPlan, stream: StreamPlan) -> StreamArchive | None:
        if not plan.archive_staging:
            return None
        folder = archive_folder(self._parts.settings.archive_dir, self._job.id, self._run.id)
        return StreamArchive(folder, stream, self._run.attempt)

    # ---- reading -----------------------------------------------------------------------------------------

    def _read(self, process: ReadProcess, launch: LaunchDescription) -> None:
        assert self._ledger is not None  # noqa: S101 - set by execute, for the type checker
        sinks = list(self._sinks.values())
        save = functools.partial(self._parts.store.report_run, self._run.id)
        progress = ProgressKeeper(self.report, save, open_display())
        reader = Reader(
            self._sinks,
            self._ledger,
            native=self._native,
            on_config=self._store_config(launch),
            progress=progress,
            connector_log=ConnectorLog(self.texts, launch.limits),
        )
        with self._until_cancelled(process):
            try:
                with process:
                    reader.consume(process.line_blocks())
                self._conclude(process, sinks, heard=reader.heard)
            except (RunCancelled, LeaseHeld):
                self._lane.drop()
                for sink in sinks:
                    sink.discard()
                raise
            except AirbergError:
                commit_what_is_covered(sinks)
                raise
            finally:
                progress.close()

    def _conclude(self, process: ReadProcess, sinks: Sequence[StreamSink], *, heard: bool) -> None:
        """The connector has ended: decide how it went, and commit the rest if it went well.

        Whoever asks us to end from here on waits for the commits, which are nearly all that is left to do.
        """
        assert self._ledger is not None  # noqa: S101 - set by execute, for the type checker
        if self._cancelled:
            raise RunCancelled(
                "The run was asked to stop.", guidance="What was checkpointed stays; the next run goes on."
            )
        self._ledger.verdict(process.exit_code, process.stderr_tail)
        if not heard:  # an overwrite would replace the table with nothing
            raise TransientFailed(
                "The connector ended without writing a single message.",
                guidance="One that finds nothing new has to write a state or the status of its streams.",
                code="connector-silent",
            )
        self._finish(sinks)

    def _finish(self, sinks: Sequence[StreamSink]) -> None:
        """Commit the rest. Only now are tables swapped: the whole run has succeeded."""
        finish_together(sinks)
        for sink in sinks:
            log.info(
                "%s: %s records read, %s rows committed to %s",
                sink.plan.name,
                f"{sink.rows_read:,}",
                f"{sink.report.rows_written:,}",
                sink.plan.table,
            )

    @contextlib.contextmanager
    def _until_cancelled(self, process: ReadProcess) -> Iterator[None]:
        """Stop the connector when somebody asks this process to end."""

        def stop(_signum: int, _frame: object) -> None:
            self._cancelled = True
            process.stop(ASKED_GRACE_S)

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
