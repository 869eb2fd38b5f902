"""One attempt of a run, or of a part of one: plan, prepare the tables, read, commit."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pyiceberg.table import Table

from airberg.columns.native import NativeReader
from airberg.errors import AirbergError, ConfigurationFailed, LeaseHeld, RunCancelled, TransientFailed
from airberg.governance.openlineage.story import Story
from airberg.jobs.connector import connector_of
from airberg.jobs.model import Job, Run, RunReport, StreamReport
from airberg.keys.texts import TextSeal
from airberg.lake.note import Note, read_note
from airberg.lake.rewind import finish_rewind
from airberg.plan.model import JobPlan
from airberg.plan.preparation import replan
from airberg.plan.transformations import key_names
from airberg.protocol.ledger import Ledger
from airberg.protocol.state import StateKey
from airberg.sources.hosts import refuse_hosts
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.read import ReadProcess
from airberg.sources.redact import Redactor
from airberg.sources.references import Resolved, resolve_references
from airberg.sources.renewal import check_renewal
from airberg.sources.secret_fields import mask_config, secret_values
from airberg.sources.workspace import for_protected_columns
from airberg.sync.attempts import Attempts
from airberg.sync.backends import Backends
from airberg.sync.checkpoint import finish_together, keep_promises
from airberg.sync.connector_log import ConnectorLog
from airberg.sync.keys import RunKeys
from airberg.sync.lane import StagingLane
from airberg.sync.lease import LeaseKeeper
from airberg.sync.progress import ProgressKeeper, open_display
from airberg.sync.read import Reader, commit_what_is_covered
from airberg.sync.record import RunRecord
from airberg.sync.resume import Begin, begin_all, configured_catalog, earlier_report, states
from airberg.sync.sharing import only_asked, side_by_side
from airberg.sync.sinks import SinkOpener
from airberg.sync.stream import StreamSink
from airberg.sync.tables import prepare_tables
from airberg.sync.texts import ConnectorTexts

log = logging.getLogger(__name__)

INSTALL_WITHIN_S = 1800.0
"""A worker that sees a connector for the first time installs it; nobody waits for an answer there."""
ASKED_GRACE_S = 2.5
"""What a connector gets to end when the run is asked to. The operator kills us 4 seconds after that: what is
left is for the store to be told how the run ended, and for the lease to be given back."""


@contextlib.contextmanager
def empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder of temporary files, before and afterwards: a run that was killed left its own."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Session:
    """The state of one attempt.

    Args:
        backends: What it works with.
        job: The job.
        run: The run, or the part of one that this attempt is of.
        record: Keeps the run.
        lease: Of the job, or of the tables of the part.
        story: Told of the run.
    """

    def __init__(
        self,
        backends: Backends,
        job: Job,
        run: Run,
        record: RunRecord,
        lease: LeaseKeeper,
        story: Story,
    ) -> None:
        self._backends = backends
        self._job = job
        self._run = run
        self._record = record
        self._lease = lease
        self._story = story
        self.attempts = Attempts(run)
        self._opener: SinkOpener | None = None
        self._sinks: Mapping[StateKey, StreamSink] = {}
        self._native: NativeReader | None = None
        self._lane = StagingLane()
        self._done: list[StreamReport] = []
        self._ledger: Ledger | None = None
        self._cancelled = False
        self._secrets: frozenset[str] = frozenset()
        self.texts = ConnectorTexts(protects=job.request.protects_columns)
        self._given = Resolved({})
        self._config: dict[str, Any] = {}
        self._kept_config: dict[str, Any] = {}  # as it is stored, with references

    @property
    def spill_dir(self) -> Path:
        """Temporary files of merges, in a folder that only the holder of the lease uses."""
        folder = self._backends.settings.home / "spill" / str(self._job.id)
        if not self._record.tables:
            return folder  # and all that parts have left in it
        return folder / hashlib.sha256(self._record.tables[0].encode()).hexdigest()[:32]

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
            parts=self._run.report.parts,
        )

    def execute(self) -> None:
        """Plan, prepare the tables, read, commit.

        Raises:
            Exception: Whatever went wrong.
        """
        with self._prepared() as (plan, launch, tables):
            self._execute(plan, launch, tables)

    def share_out(self) -> list[list[str]]:
        """Plan and prepare the tables; names of those that can be filled side by side, by task.

        Raises:
            Exception: Whatever went wrong.
        """
        with self._prepared() as (plan, _, tables):
            return side_by_side(plan, [self._note_of(tables[stream.table]) for stream in plan.streams])

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[tuple[JobPlan, LaunchDescription, dict[str, Table]]]:
        """What is asked of the plan, how the connector is started, and the tables, ready for rows."""
        with empty_folder(self.spill_dir):
            try:
                yield self._prepare()
            finally:
                if self._opener is not None:
                    self._opener.close()

    def _prepare(self) -> tuple[JobPlan, LaunchDescription, dict[str, Table]]:
        job, catalog = self._job, self._backends.catalog
        keys, launch = self._connect()
        plan = self._planned_part() if self._record.tables else self._current_plan(launch, self._config)
        if plan is not job.plan:
            keys.settle(plan, catalog)
        tables, at_swap = prepare_tables(catalog, job.id, plan, keys)
        self._finish_rewind(tables)
        opener = self._opener = SinkOpener(
            self._backends,
            self._run,
            plan,
            keys,
            spill_dir=self.spill_dir,
            guard=self._lease.check,
            at_swap=at_swap,
        )
        keep_promises(plan.streams, tables, str(job.id), self._backends.sealer, opener.writer)
        if self._run.part is None:  # else the run was limited to what is asked when it was planned
            plan = only_asked(plan, self._run.asked, lambda stream: self._note_of(tables[stream.table]))
        return plan, launch, tables

    def _connect(self) -> tuple[RunKeys, LaunchDescription]:
        """The keys, and how the connector is started, with its configuration complete."""
        settings, job = self._backends.settings, self._job
        config = self._kept_config = self._backends.store.source_config(job.id)
        entry = connector_of(job, settings)
        # Before the connector does anything, even say what it offers.
        names = key_names(job.request.column_transformations, settings.keys.default_key)
        keys = RunKeys(self._backends.keys, names)
        if job.plan is not None:
            keys.settle(job.plan, self._backends.catalog)
        launch = resolve(entry, settings, deadline=time.monotonic() + INSTALL_WITHIN_S)
        if job.request.protects_columns:
            launch = for_protected_columns(launch, settings)
            self.texts.seal = TextSeal(str(job.id), map(keys.primary, names), self._backends.sealer)
        self._given = resolve_references(config, job.request.owner_id, settings.secrets)
        self._config = self._given.config
        refuse_hosts(self._config, launch.limits.host_rules)
        self._secrets = secret_values(launch.spec, self._config) | self._given.hidden
        self.texts.redactor = Redactor(self._secrets)
        return keys, launch

    def _execute(self, plan: JobPlan, launch: LaunchDescription, tables: dict[str, Table]) -> None:
        assert self._opener is not None  # noqa: S101 - set by _prepare, for the type checker
        settings = self._backends.settings
        self._story.begin(plan, tables)
        begins = self._begins(plan, tables)
        self._sinks, self._native = self._opener.open(plan.streams, tables, begins, self._lane, self.texts)
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
        plan, settings = self._job.plan, self._backends.settings
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
            self._backends.keys,
            on_config=self._store_config(launch),
            told=self.texts.told,
        )
        if plan is not None and plan.shared_state:
            fresh = msgspec.structs.replace(fresh, shared_state=True)
        # Not over a plan of somebody who changed the job meanwhile: this run goes on as the job was.
        self._backends.store.set_plan(self._job.id, fresh, version=self._job.version)
        return fresh

    def _planned_part(self) -> JobPlan:
        """The stored plan, limited to the tables of this part: the task `plan` has looked at the source.

        Raises:
            ConfigurationFailed: The job was changed since.
        """
        plan, tables = self._job.plan, self._record.tables
        streams = () if plan is None else tuple(s for s in plan.streams if s.table in tables)
        if plan is None or len(streams) != len(tables):
            raise ConfigurationFailed(
                "The job was changed after this run was planned.",
                guidance="Nothing needs to be done: the next run goes by the new plan.",
                code="job-changed",
            )
        return msgspec.structs.replace(plan, streams=streams)

    def _note_shared_state(self) -> None:
        """Have the next run sync all streams in one task."""
        plan = self._job.plan
        if plan is not None:
            marked = msgspec.structs.replace(plan, shared_state=True)
            self._backends.store.set_plan(self._job.id, marked, version=self._job.version)

    def _store_config(self, launch: LaunchDescription) -> Any:  # noqa: ANN401 - a closure, typed at its use
        def store(config: dict[str, Any]) -> None:
            check_renewal(launch.spec, self._config, config)
            kept = self._given.restored(config)
            public = mask_config(launch.spec, kept, self._given.hidden)
            stored = self._backends.store.replace_source_config(
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
        backends, job_id = self._backends, str(self._job.id)
        for name in finish_rewind(
            backends.catalog, job_id, tables.values(), sealer=backends.sealer, guard=self._lease.check
        ):
            tables[name] = tables[name].refresh()

    def _note_of(self, table: Table) -> Note | None:
        return read_note(table, str(self._job.id), self._backends.sealer)

    def _begins(self, plan: JobPlan, tables: Mapping[str, Table]) -> dict[str, Begin]:
        """How the streams begin, by table."""
        asked = self._run.asked
        notes = {stream.table: self._note_of(tables[stream.table]) for stream in plan.streams}
        begins = begin_all(plan.streams, notes, self._run.flow_run_id, full_refresh=asked.full_refresh)
        for stream in plan.streams:
            if begins[stream.table].done:
                earlier = earlier_report(self._run, stream, tables[stream.table])
                done = earlier or StreamReport(stream=stream.name, table=stream.table)
                self._done.append(msgspec.structs.replace(done, complete=True))
        return begins

    # ---- reading -----------------------------------------------------------------------------------------

    def _read(self, process: ReadProcess, launch: LaunchDescription) -> None:
        assert self._ledger is not None  # noqa: S101 - set by execute, for the type checker
        sinks = list(self._sinks.values())
        save = functools.partial(self._record.report, self._run.id)
        progress = ProgressKeeper(self.report, save, open_display())
        reader = Reader(
            self._sinks,
            self._ledger,
            native=self._native,
            on_config=self._store_config(launch),
            progress=progress,
            connector_log=ConnectorLog(self.texts, launch.limits),
            on_shared_state=None if self._record.alone else self._note_shared_state,
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
