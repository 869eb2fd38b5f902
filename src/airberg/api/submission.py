"""Creating a job: from a checked body to a stored job with a registered flow."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from airberg.api.flow_check import check_flow
from airberg.api.permissions import check_schema, check_sharing, datahub_user, owner_roles
from airberg.api.rooms import is_visible
from airberg.api.slots import Slots
from airberg.errors import Conflict, Unavailable
from airberg.flows.port import Orchestrator
from airberg.flows.reconciler import FlowReconciler
from airberg.governance.policies import GOVERNED, Policies
from airberg.identity.principal import Principal
from airberg.jobs.audit import Act
from airberg.jobs.model import Job, Run, StoredAnswer
from airberg.jobs.port import JobStore
from airberg.plan.model import KEYED, GovernancePlan, IngestRequest, JobPlan
from airberg.plan.prepared import Planner, Prepared
from airberg.quoted import quoted
from airberg.settings import Settings

log = logging.getLogger(__name__)

NOT_REGISTERED = "The job is stored; its flow is registered as soon as Airflow answers."
CLIENT_PATIENCE_S = 29.0
"""Clients of this contract give up after 30 seconds."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request with what belongs to it; `act` is told of the job once it has an id."""

    request: IngestRequest
    source_config: dict[str, Any]
    principal: Principal
    preflight: bool = True
    idempotency_key: str | None = None
    body: bytes = b""
    act: Act | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a submission. `again` means that it was given before under the same key."""

    flow_url: str
    job_id: UUID
    error: str | None
    again: bool = False


class Submitter:
    """Creates jobs and plans."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        planner: Planner,
        orchestrator: Orchestrator,
        reconciler: FlowReconciler,
        policies: Policies,
        *,
        body_key: bytes,
        slots: Slots,
    ) -> None:
        self._settings = settings
        self._store = store
        self._planner = planner
        self._orchestrator = orchestrator
        self._reconciler = reconciler
        self._policies = policies
        self._body_key = body_key
        self._slots = slots

    def plan(self, submission: Submission) -> tuple[IngestRequest, Prepared]:
        """Prepare without creating anything (`dry_run`); refuses what `create` would refuse.

        Returns:
            The request with what DataHub calls its domain, tags and owner, and what preparing it found.
        """
        request = submission.request
        check_sharing(request.share_with, submission.principal, "/share_with")
        check_schema(self._settings.access, request, submission.principal)
        self.check_flow(request)
        self.check_name(request, submission.principal)
        request = self.governed(request, submission.principal)
        prepared = self.prepare(
            request, submission.source_config, submission.principal, preflight=submission.preflight
        )
        if prepared.plan is not None:
            self.check_tables(prepared.plan)
        return request, prepared

    def create(self, submission: Submission) -> Created:
        """Create the job, register its flow, start its first run.

        Raises:
            InvalidRequest: Something in the body is wrong.
            Conflict: The name or a table is taken, or the idempotency key was used with another body.
            TooManyRequests: Too many submissions are being checked at this moment.
            Unavailable: A part that the checks need does not answer.
        """
        started = time.monotonic()
        if (known := self._answered(submission)) is not None:
            return known
        request, prepared = self.plan(submission)
        try:
            job = self._store_job(submission, request, prepared)
        except Conflict:
            # Two requests with one idempotency key at once: the later one gets the earlier one's answer.
            if (known := self._answered(submission)) is not None:
                return known
            self.check_name(
                submission.request, submission.principal
            )  # which tells no more of the other job than the caller may see
            raise
        patience = CLIENT_PATIENCE_S - (time.monotonic() - started)
        wait = max(0.0, min(self._settings.api.registration_wait_s, patience))
        return Created(self._orchestrator.flow_url(job.flow_id), job.id, self._register(job, wait))

    # ---- checks ------------------------------------------------------------------------------------------

    def check_flow(self, request: IngestRequest) -> None:
        """Refuse options of the flow that do not fit this deployment; raises InvalidRequest."""
        check_flow(request.flow, self._settings, self._orchestrator)

    def check_name(self, request: IngestRequest, caller: Principal) -> None:
        """Refuse a name that the owner has used. Which job it is, is told to who may see it.

        Raises:
            Conflict: The owner has a job of that name.
        """
        taken = self._store.find_job(request.owner_id, request.name)
        if taken is not None:
            which = f": {taken.id}" if is_visible(taken, caller) else ""
            raise Conflict(
                f"{quoted(request.owner_id)} has a job named {quoted(request.name)} already{which}.",
                guidance="Use another name, or delete that job.",
                code="name-taken",
            )

    def governed(
        self,
        request: IngestRequest,
        caller: Principal,
        *,
        before: GovernancePlan | None = None,
        changed: AbstractSet[str] = GOVERNED,
    ) -> IngestRequest:
        """The request with what DataHub calls its domain, its tags and its owner.

        Args:
            request: The request.
            caller: Who sends it.
            before: What the job had, if it is there already.
            changed: Members of the request that change.

        Raises:
            InvalidRequest: With all that has to be in DataHub and is not.
            Conflict: Several there have the name.
            Unavailable: DataHub has to be asked, and does not answer.
        """
        user = datahub_user(request.owner_id, caller)
        found = self._policies.resolve(request, user=user, before=before, changed=changed)
        return msgspec.structs.replace(request, governance=found)

    def prepare(
        self, request: IngestRequest, source_config: dict[str, Any], caller: Principal, *, preflight: bool
    ) -> Prepared:
        """Have the planner look at a request, when it is its turn.

        Raises:
            InvalidRequest: With everything that is wrong.
            TooManyRequests: Too many are being looked at.
            Unavailable: A part that this needs does not answer.
        """
        # Without its source nothing is waited for, and no process is started.
        with self._slots.one() if preflight else contextlib.nullcontext():
            return self._planner.prepare(
                request,
                source_config,
                preflight=preflight,
                roles=owner_roles(request.owner_id, caller),
            )

    def check_tables(self, plan: JobPlan, *, besides: UUID | None = None) -> None:
        """A table that is swapped as a whole cannot be shared: each run would undo the other's.

        Args:
            plan: Of the job.
            besides: The job itself, when there is one.

        Raises:
            Conflict: Another job fills one of the tables, and one of the two replaces them.
        """
        for job in self._store.jobs_filling(plan.table_names):
            if job.id == besides:
                continue
            if job.plan is None or "overwrite" not in (job.plan.mode, plan.mode):
                continue
            table = min(set(job.plan.table_names) & set(plan.table_names))
            raise Conflict(
                f"Another job fills the table {table}, and overwrite replaces all of it.",
                guidance="Use another schema_name, or delete the other job.",
                code="table-taken",
            )

    # ---- storing and registering -------------------------------------------------------------------------

    def _store_job(self, submission: Submission, request: IngestRequest, prepared: Prepared) -> Job:
        now = datetime.now(UTC)
        request = with_key_names(request, self._settings.keys.default_key).pinned(prepared.connector)
        job = Job(
            id=uuid4(),
            owner_id=request.owner_id,
            created_by=submission.principal.key,
            request=request,
            plan=prepared.plan,
            public_config=prepared.public_config,
            created_at=now,
        )
        run = None
        if request.run_now or request.schedule is None:
            run_id = uuid4()
            run = Run(id=run_id, job_id=job.id, flow_run_id=f"airberg__{run_id}", created_at=now)
        act = submission.act
        if act is not None:
            act = replace(act, target=str(job.id), detail={"name": request.name, "owner_id": job.owner_id})
        config = prepared.renewed_config or submission.source_config
        return self._store.add_job(job, config, run, act=act, answer=self._answer(submission, job))

    def _register(self, job: Job, wait_s: float) -> str | None:
        try:
            if self._reconciler.follow(job, wait_s):
                return None
        except Unavailable as e:
            log.warning("job %s is stored, but its flow could not be registered: %s", job.id, e.message)
        return NOT_REGISTERED

    # ---- idempotency -------------------------------------------------------------------------------------

    def _digest(self, body: bytes) -> str:
        """A keyed hash: bodies hold secrets, and a plain hash of a short one could be guessed."""
        return hmac.new(self._body_key, body, hashlib.sha256).hexdigest()

    def _answered(self, submission: Submission) -> Created | None:
        if submission.idempotency_key is None:
            return None
        stored = self._store.stored_answer(submission.principal.key, submission.idempotency_key)
        if stored is None:
            return None
        if not hmac.compare_digest(stored.body_hash, self._digest(submission.body)):
            raise Conflict(
                "This Idempotency-Key was used with another body.",
                guidance="Use a new key for a new request.",
                code="idempotency-key-reused",
            )
        answer = msgspec.json.decode(stored.answer, type=dict[str, str | None])
        job = self._store.job(UUID(answer["job_id"]))
        waits = job.flow_hash is None and job.deleted_at is None
        return Created(answer["flow_url"] or "", job.id, NOT_REGISTERED if waits else None, again=True)

    def _answer(self, submission: Submission, job: Job) -> StoredAnswer | None:
        """What the request will be answered with; how its flow fares is looked up when it is asked again."""
        if submission.idempotency_key is None:
            return None
        answer = {"flow_url": self._orchestrator.flow_url(job.flow_id), "job_id": str(job.id)}
        return StoredAnswer(
            key=submission.idempotency_key,
            caller=submission.principal.key,
            body_hash=self._digest(submission.body),
            status=201,
            answer=msgspec.json.encode(answer).decode(),
        )


def with_key_names(request: IngestRequest, default_key: str) -> IngestRequest:
    """Name the key of each column, so that a later change of the default changes no existing column."""
    rules = tuple(
        msgspec.structs.replace(t, encryption_key_name=t.encryption_key_name or default_key)
        if t.transformation_type in KEYED
        else t
        for t in request.column_transformations
    )
    return msgspec.structs.replace(request, column_transformations=rules)
