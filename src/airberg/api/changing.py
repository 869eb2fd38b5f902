"""Changing a job: what was sent becomes one change of the store, checked as a new job is.

A change is made from a version of the job and is stored only if the job still has it. Without `If-Match` it
is made again from what is there then, so that the last writer wins member by member, and nobody's change is
lost.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from airberg.api.etags import require_match
from airberg.api.job_patch import JobPatch, changed_request
from airberg.api.permissions import check_schema, check_sharing
from airberg.api.submission import Submitter, with_key_names
from airberg.errors import Conflict, InvalidRequest, PreconditionFailed
from airberg.governance.policies import GOVERNED
from airberg.identity.principal import GROUP, Principal
from airberg.jobs.audit import Act
from airberg.jobs.changes import JobChange, NewConfig
from airberg.jobs.connector import connector_of
from airberg.jobs.encoding import encode_free
from airberg.jobs.model import Job
from airberg.jobs.port import JobStore
from airberg.plan.model import IngestRequest, JobPlan
from airberg.plan.plan_changes import table_problems
from airberg.plan.prepared import Prepared
from airberg.settings import Settings
from airberg.sources.kept_secrets import keep_secrets, still_masked
from airberg.sources.references import allowed, parse_reference

READ_AND_WRITTEN = frozenset(
    {
        "archive_staging",
        "column_transformations",
        "delete_format",
        "deletes",
        "merge",
        "owner_id",
        "readers",
        "skip_unchanged",
        "source_config",
        "streams",
        "tables",
    }
)
"""What decides what is read and written: a change of it is checked against the source, as a new job is."""
TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A change that somebody asks for, with what belongs to it."""

    patch: JobPatch
    caller: Principal
    act: Act
    preflight: bool = True
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a change comes to.

    Attributes:
        fields: Names of the members that change, sorted; none: there is nothing to do.
        request: The request of the job with the change.
        change: For the store.
        prepared: What preparing the job found; None when its source is not concerned.
    """

    fields: tuple[str, ...]
    request: IngestRequest
    change: JobChange
    prepared: Prepared | None = None


class JobChanger:
    """Changes jobs."""

    def __init__(self, settings: Settings, store: JobStore, submitter: Submitter) -> None:
        self._settings = settings
        self._store = store
        self._submitter = submitter

    def plan(self, job: Job, asked: Asked) -> Planned:
        """What a change comes to, without making it (`dry_run`); refuses what `change` would refuse.

        A configuration that the source hands out meanwhile is stored, as the one before is of no use then.

        Raises:
            InvalidRequest: Something in the body is wrong, cannot be changed, or does not fit the tables.
            NotAllowed: The owner is changed by who may not.
            PreconditionFailed: The job has another version than `If-Match` names.
            Conflict: A name or a table is taken.
            TooManyRequests: Too many jobs are being checked at this moment.
            Unavailable: A part that the checks need does not answer.
        """
        require_match(job, asked.if_match)
        request = with_key_names(
            changed_request(job, asked.patch, asked.caller), self._settings.keys.default_key
        )
        stored = self._store.source_config(job.id)
        config = self._config(job, asked, stored)
        fields = {
            n for n in IngestRequest.__struct_fields__ if getattr(request, n) != getattr(job.request, n)
        }
        fields |= {"source_config"} if encode_free(config) != encode_free(stored) else set()
        fields |= {"paused"} if asked.patch.paused not in (None, job.paused) else set()
        self._check(job, request, asked.caller)
        if "flow" in fields:
            self._submitter.check_flow(request)
        request = self._governed(job, request, fields, asked.caller)
        new_config, prepared, plan = None, None, job.plan
        if fields & READ_AND_WRITTEN:
            if request.connector is None:  # a job of an earlier version of Airberg
                request = request.pinned(connector_of(job, self._settings))
            prepared, new_config = self._prepared(job, request, asked, config, stored)
            plan = prepared.plan or _stale(job.plan)
        if plan is not None and request.governance is not None:
            plan = msgspec.structs.replace(plan, governance=request.governance)
        change = JobChange(
            version=job.version, request=request, plan=plan, config=new_config, paused=asked.patch.paused
        )
        return Planned(fields=tuple(sorted(fields)), request=request, change=change, prepared=prepared)

    def change(self, job: Job, asked: Asked) -> Job:
        """Make a change; the job as it is then. Raises what `plan` raises."""
        for _ in range(TRIES):
            planned = self.plan(job, asked)
            if not planned.fields:
                return job
            act = replace(asked.act, detail={"changed": list(planned.fields)})
            try:
                return self._store.update(job.id, planned.change, act=act)
            except PreconditionFailed:
                if asked.if_match is not None:
                    raise
            except Conflict:
                self._submitter.check_name(planned.request, asked.caller)  # tells what the caller may know
                raise
            job = self._store.job(job.id)
        raise Conflict(
            f"The job {job.id} is being changed by others all the time.",
            guidance="Try again.",
            code="job-contended",
        )

    # ---- parts of a plan ---------------------------------------------------------------------------------

    def _config(self, job: Job, asked: Asked, stored: dict[str, Any]) -> dict[str, Any]:
        sent = asked.patch.source_config
        if sent is None:
            return stored
        caller, rules = asked.caller, self._settings.secrets.rules

        def foreign(text: str) -> bool:
            """Whether the caller may not use what a reference names; its owner may, but is not who asks."""
            try:
                return not _owns(job, caller) and not allowed(parse_reference(text), caller.owner_id, rules)
            except ValueError:
                return False  # refused as malformed, later on

        return keep_secrets(sent, stored, job.public_config, foreign=foreign)

    def _check(self, job: Job, request: IngestRequest, caller: Principal) -> None:
        check_sharing(request.share_with, caller, "/share_with", kept=job.request.share_with)
        if request.owner_id != job.owner_id or _owns(job, caller):  # whose groups are known
            check_schema(self._settings.access, request, caller)
        if (request.owner_id, request.name) != (job.owner_id, job.request.name):
            self._submitter.check_name(request, caller)

    def _prepared(
        self, job: Job, request: IngestRequest, asked: Asked, config: dict[str, Any], stored: dict[str, Any]
    ) -> tuple[Prepared, NewConfig | None]:
        prepared = self._submitter.prepare(request, config, asked.caller, preflight=asked.preflight)
        renewed, public = prepared.renewed_config, prepared.public_config
        if not asked.preflight:
            public = still_masked(public, job.public_config)
        if config is stored and renewed is not None:
            self._store.replace_source_config(job.id, renewed, public, instead_of=stored)
        if prepared.plan is not None:
            self._check_tables(job, prepared.plan, prepared)
        if config is stored:
            return prepared, None
        return prepared, NewConfig(config=renewed or config, public=public, instead_of=stored)

    def _check_tables(self, job: Job, plan: JobPlan, prepared: Prepared) -> None:
        self._submitter.check_tables(plan, besides=job.id)
        existing = frozenset(d.table for d in prepared.tables if d.exists)
        if job.plan is not None and (problems := table_problems(job.plan, plan, existing)):
            raise InvalidRequest(problems)

    def _governed(
        self, job: Job, request: IngestRequest, fields: AbstractSet[str], caller: Principal
    ) -> IngestRequest:
        """The request with domain, tags and owner as DataHub calls them; it is asked for those that change.

        A job of an earlier version without a plan is left to its next run, until one of them changes.
        """
        before = job.plan.governance if job.plan is not None else job.request.governance
        if not fields & GOVERNED:
            return msgspec.structs.replace(request, governance=before)
        return self._submitter.governed(request, caller, before=before, changed=fields)


def _owns(job: Job, caller: Principal) -> bool:
    """Whether the caller is the job's owner, or of the group that owns it."""
    if job.owner_id.startswith(GROUP):
        return job.owner_id.removeprefix(GROUP) in caller.groups
    return caller.key == job.created_by and caller.owner_id == job.owner_id


def _stale(plan: JobPlan | None) -> JobPlan | None:
    """A plan that the next run makes anew, as the source was not asked."""
    return None if plan is None else msgspec.structs.replace(plan, discovered_at=0.0)
