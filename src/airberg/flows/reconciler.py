"""Jobs and flows kept the same: registration at once, and again until it has happened.

The job store says what should be; the orchestrator is asked to follow. Whatever a POST, PATCH or DELETE
could not finish because the orchestrator was away is finished here, without a second call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Set
from datetime import UTC, datetime, timedelta
from uuid import UUID

from airberg.errors import Unavailable
from airberg.flows.model import flow_spec, upkeep_spec
from airberg.flows.pools import DeclaredPools
from airberg.flows.port import Orchestrator
from airberg.jobs.model import FlowJob, Job, Run, RunStatus, flow_id_of
from airberg.jobs.port import JobStore
from airberg.settings import Settings

log = logging.getLogger(__name__)

PUBLISH_WAIT_S = 20.0
ROUND_S = 20.0
"""How long a round looks after flows that nobody has changed, before it sees what has changed meanwhile."""
LOST_AFTER_S = 120.0
"""A run that its flow reports as ended, and that told us nothing for this long, is given up."""
LOGS_EVERY_S = 3600.0
"""How often old logs of runs are removed."""
UPKEEP_AGAIN_S = (5.0, 600.0)
"""How soon Airflow is asked again for the flow of upkeep: at first, and at most (it may be an older one)."""


class FlowReconciler:
    """Makes the orchestrator's flows follow the jobs.

    Every step may be repeated: publishing, triggering and withdrawing what is already so does nothing. So
    several processes may work on one job. In one process the background loop gives way to requests: who asks
    twice at the same moment makes Airflow on SQLite wait for itself, for as long as it waits for a lock.
    """

    def __init__(self, store: JobStore, orchestrator: Orchestrator, settings: Settings) -> None:
        self._store = store
        self._orchestrator = orchestrator
        self._settings = settings
        self._seen_version: str | None = None
        self._differing: dict[UUID, None] | None = None
        self._pools = DeclaredPools(orchestrator, settings.airflow)
        self._followed: Counter[UUID] = Counter()
        self._followed_lock = threading.Lock()
        self._upkeep = upkeep_spec(settings)
        self._upkeep_again_s, self._upkeep_limit_s = UPKEEP_AGAIN_S
        self._upkeep_not_before = 0.0
        self._logs_not_before = 0.0

    def follow(self, job: Job | FlowJob, wait_s: float) -> bool:
        """Bring one job's flow, its pause and its queued runs in line, for a request.

        Returns:
            Whether the flow was seen as it should be within `wait_s`.

        Raises:
            Unavailable: The orchestrator does not answer.
        """
        with self._followed_lock:
            self._followed[job.id] += 1
        try:
            return self._bring_in_line(job, wait_s)
        finally:
            with self._followed_lock:
                self._followed[job.id] -= 1
                self._followed += Counter()  # without those that nobody follows

    def _is_followed(self, job_id: UUID) -> bool:
        """Whether a request of this process does what is to be done for a job."""
        with self._followed_lock:
            return self._followed[job_id] > 0

    def _bring_in_line(self, job: Job | FlowJob, wait_s: float, *, gives_way: bool = False) -> bool:
        if job.deleted_at is not None:
            return self._withdraw(job)
        spec = flow_spec(job, self._settings)
        wanted = spec.spec_hash()
        if job.flow_hash != wanted:
            self._pools.ensure()
            other = self._store.flow_beside(job.id)
            if not self._orchestrator.publish(spec, wait_s, flow_id_of(other) if other else None):
                return False
            if gives_way and self._is_followed(job.id):
                return False
            self._orchestrator.set_paused(job.flow_id, job.paused)
            self._store.set_flow_hash(job.id, wanted)
            log.info("flow %s is registered", job.flow_id)
        for run in self._store.runs(job.id, limit=20):
            if run.status is RunStatus.QUEUED:
                self._orchestrator.trigger(job.flow_id, run.flow_run_id, run.asked)
        return True

    def registered(self, job: Job) -> bool:
        """Whether the orchestrator was seen to have the flow as it should be; of a deleted job: still."""
        return job.flow_hash is not None and (job.deleted_at is not None or not self._differs(job))

    def _withdraw(self, job: Job | FlowJob) -> bool:
        if job.flow_hash is not None:
            self._orchestrator.withdraw(job.flow_id)
            self._store.set_flow_hash(job.id, None)
            log.info("flow %s is removed", job.flow_id)
        return True

    def reconcile(self) -> int:
        """Compare jobs with their flows and repair what differs; returns how many were repaired.

        All jobs are looked at once, as settings may have changed before this process started; from then on
        only those that the store notes as changed. Cheap when nothing is: the store's version is compared.
        """
        self._pools.ensure()
        self._follow_upkeep()
        version = self._store.flows_version()
        open_runs = self._store.open_runs()
        if version == self._seen_version and not open_runs:
            return 0
        try:
            repaired, complete = self._follow_due()
        except Unavailable as e:
            log.warning("the orchestrator does not answer: %s", e.message)
            return 0
        for run in open_runs:
            self._watch(run)
        self._seen_version = version if complete else None
        return repaired

    def _follow_due(self) -> tuple[int, bool]:
        """Follow what is due; how many flows were repaired, and whether nothing is left to do."""
        due = {one.job.id: one for one in self._store.flows_due()}
        differing = self._differing
        if differing is None:
            found = self._store.flow_jobs(to_withdraw=True)
            differing = self._differing = {job.id: None for job in found if self._differs(job)}
        repaired, complete = 0, True
        for one in due.values():
            if self._is_followed(one.job.id):
                complete = False
                continue
            differs = self._differs(one.job)
            repaired += differs
            if differs and not self._bring_in_line(one.job, PUBLISH_WAIT_S, gives_way=True):
                complete = False
                continue
            self._store.flow_followed(one)
            differing.pop(one.job.id, None)
        repaired += self._follow_others(differing, due.keys())
        return repaired, complete and not differing

    def _follow_others(self, differing: dict[UUID, None], due: Set[UUID]) -> int:
        """Follow jobs that nobody has changed: after a change of the settings that may be all of them.

        Only until the time of a round is over, or a flow is not there yet, as the orchestrator is busy with
        the others: a change that somebody waits for is looked at in between.
        """
        repaired, until = 0, time.monotonic() + ROUND_S
        for job_id in [job_id for job_id in differing if job_id not in due]:
            job = self._store.job(job_id)
            differs = self._differs(job)
            repaired += differs
            followed = not differs or self._bring_in_line(job, PUBLISH_WAIT_S, gives_way=True)
            del differing[job_id]
            if not followed:
                differing[job_id] = None  # behind all others, which it must not hold up
                break
            if time.monotonic() >= until:
                break
        return repaired

    def _differs(self, job: Job | FlowJob) -> bool:
        if job.deleted_at is not None:
            return job.flow_hash is not None
        return job.flow_hash != flow_spec(job, self._settings).spec_hash()

    def _follow_upkeep(self) -> None:
        """Have the flow of upkeep registered, once after the start: its spec comes from the settings alone.

        Without it Airflow would find the flow too, at the next refresh of its bundle. Nothing waits here,
        and it is never withdrawn: where it is switched off, its file goes, and its history stays.
        """
        if self._upkeep is None or time.monotonic() < self._upkeep_not_before:
            return
        try:
            registered = self._orchestrator.publish(self._upkeep, 0.0)
        except Unavailable as e:
            log.debug("the flow of upkeep is not registered yet: %s", e.message)
            registered = False
        if registered:
            log.info("flow %s is registered", self._upkeep.flow_id)
            self._upkeep = None
            return
        self._upkeep_not_before = time.monotonic() + self._upkeep_again_s
        self._upkeep_again_s = min(2 * self._upkeep_again_s, self._upkeep_limit_s)

    def _watch(self, run: Run) -> None:
        """Start a queued run that the orchestrator does not know; end one that died without a word.

        Nobody is asked about a run that works: there may be hundreds of them.
        """
        if self._is_followed(run.job_id) or (run.status is RunStatus.RUNNING and not self._is_silent(run)):
            return
        job = self._store.job(run.job_id)
        if job.deleted_at is not None or job.flow_hash is None:
            return
        try:
            state = self._orchestrator.run_state(job.flow_id, run.flow_run_id)
            if state is None and run.status is RunStatus.QUEUED:
                self._orchestrator.trigger(job.flow_id, run.flow_run_id, run.asked)
        except Unavailable:
            return
        if state not in ("failed", "success") or not self._is_silent(run):
            return
        self._store.end_run(
            run.id,
            RunStatus.FAILED,
            datetime.now(UTC),
            error="The flow ended without a report of the run. Airflow's task log has the reason.",
            error_code="run-lost",
        )

    def _is_silent(self, run: Run) -> bool:
        """Whether nobody has said for long that the run goes on."""
        since = run.started_at or run.created_at
        if run.status.ended or (datetime.now(UTC) - since).total_seconds() < LOST_AFTER_S:
            return False
        return self._store.lease(run.job_id) is None

    def remove_old_logs(self) -> None:
        """Remove logs of runs that are kept no longer, once in a while.

        Raises:
            Unavailable: The job store does not answer.
        """
        if time.monotonic() < self._logs_not_before:
            return
        self._logs_not_before = time.monotonic() + LOGS_EVERY_S
        keep = timedelta(days=self._settings.run_logs.keep_days)
        if removed := self._store.run_logs.prune(datetime.now(UTC) - keep):
            log.info("%d old lines of logs of runs are removed", removed)

    def loop(self, stop: threading.Event, every_s: float) -> None:
        """Reconcile until told to stop; for a background thread."""
        while not stop.wait(every_s):
            started = time.monotonic()
            try:
                self.reconcile()
                self.remove_old_logs()
            except Exception:
                # The loop is what repairs things: it must outlive whatever goes wrong in one round.
                log.exception("reconciling failed after %.1f s", time.monotonic() - started)
