"""`airberg sources upgrade`: moves jobs to another version of their connector, after showing what changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import typer

from airberg.errors import ConfigurationFailed, PreconditionFailed, RunError, TransientFailed
from airberg.jobs.connector import connector_of
from airberg.jobs.model import Job
from airberg.jobs.open import open_store
from airberg.jobs.port import JobStore
from airberg.keys.open import open_keys
from airberg.keys.port import KeyStore
from airberg.plan.upgrade import Upgrade, examine_upgrade
from airberg.settings import Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.references import Resolved
from airberg.sources.registry import load_registry
from airberg.sources.secret_fields import Schema, mask_config
from airberg.sync.lease import job_lease


def upgrade_jobs(
    settings: Settings,
    name: str,
    *,
    job: UUID | None,
    every: bool,
    version: str | None,
    dry_run: bool,
    force: bool,
) -> None:
    """Show what another version changes for jobs, and move those that can follow.

    Args:
        settings: Of the deployment.
        name: The connector.
        job: Only this job.
        every: All jobs of the connector.
        version: Which version; the one that new jobs get when None.
        dry_run: Only show.
        force: Move jobs that cannot follow too; their next run may fail.

    Raises:
        NotFound: There is no such job.
        InvalidRequest: There is no such connector or version.
        ConfigurationFailed: No job is named, or it has another connector; or a job cannot follow, and all
            others were moved.
        TransientFailed: A run of a job goes on, or the new version could not be started; likewise.
    """
    if every == (job is not None):
        raise ConfigurationFailed(
            "It is not said, or said twice, which jobs are meant.",
            guidance="Name one job (--job), or all of the connector (--all).",
            code="jobs-not-named",
        )
    new = load_registry(settings).find(name, version)
    left: list[str] = []
    failure: type[RunError] = ConfigurationFailed
    with contextlib.closing(open_store(settings)) as store, contextlib.closing(open_keys(settings)) as keys:
        for found in _chosen(store, name, job):
            mover = _Mover(settings, store, keys, found, new)
            try:
                followed = mover.move(dry_run=dry_run, force=force)
            except RunError as error:  # a run that goes on among them
                typer.echo(f"  failed: {error.sentence()}")
                followed = False
                if not isinstance(error, ConfigurationFailed):
                    failure = TransientFailed
            if not followed:
                left.append(found.request.name)
    if left:
        raise failure(
            f"{len(left)} of the jobs cannot be moved to {name} {new.known_version}: {', '.join(left)}.",
            guidance="What stands in the way is said above; --force moves them in spite of it.",
            code="upgrade-refused",
        )


def _chosen(store: JobStore, name: str, job_id: UUID | None) -> Sequence[Job]:
    if job_id is None:
        return [job for job in store.jobs() if job.request.source_name == name]
    job = store.job(job_id)
    if job.request.source_name != name or job.deleted_at is not None:
        raise ConfigurationFailed(
            f"The job {job_id} "
            + ("was deleted." if job.deleted_at else f"is one of {job.request.source_name}, not of {name}."),
            guidance="Check its id; `GET /api/jobs` lists the jobs.",
            code="jobs-not-named",
        )
    return [job]


class _Mover:
    """Moves one job."""

    def __init__(
        self, settings: Settings, store: JobStore, keys: KeyStore, job: Job, new: ConnectorEntry
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._job = job
        self._new = new
        self._config: dict[str, Any] = {}

    def move(self, *, dry_run: bool, force: bool) -> bool:
        """Show what changes, and move the job. False when it cannot follow."""
        old = connector_of(self._job, self._settings)
        versions = f"{old.known_version} → {self._new.known_version}"
        typer.echo(f"{self._job.request.name} ({self._job.id}): {self._new.name} {versions}")
        if self._job.request.connector == self._new:
            typer.echo("  nothing to do")
            return True
        # No run may use, or renew, the configuration while the source is asked with it.
        with job_lease(self._store, self._job.id, "upgrade", self._settings.sync.lease_seconds) as lease:
            self._job = self._store.job(self._job.id)  # a run that has just ended may have planned it anew
            found = self._examined(old)
            for line in _lines(found):
                typer.echo(f"  {line}")
            allowed = force or not found.refusals
            if allowed and not dry_run:
                lease.check()
                self._store_moved(found)
                typer.echo("  moved" + (", in spite of what stands in the way" if found.refusals else ""))
        if allowed and dry_run:
            typer.echo("  would be moved")
        return allowed

    def _examined(self, old: ConnectorEntry) -> Upgrade:
        self._config = self._store.source_config(self._job.id)
        return examine_upgrade(
            self._job, old, self._new, self._config, self._settings, self._keys, on_config=self._keep
        )

    def _keep(self, config: dict[str, Any], spec: Schema, given: Resolved) -> None:
        public = mask_config(spec, config, given.hidden)
        if not self._store.replace_source_config(self._job.id, config, public, instead_of=self._config):
            raise _changed_meanwhile()
        self._config = config

    def _store_moved(self, found: Upgrade) -> None:
        # What is secret is said by the new version from now on.
        self._keep(self._config, found.new_spec, found.given)
        try:
            self._store.set_connector(self._job.id, self._new, found.plan, version=self._job.version)
        except PreconditionFailed:
            raise _changed_meanwhile() from None


def _changed_meanwhile() -> TransientFailed:
    return TransientFailed(
        "The job was changed while its source was asked.", guidance="Try again.", code="job-changed"
    )


def _lines(found: Upgrade) -> Iterator[str]:
    parts = (
        ("specification", found.spec),
        ("streams", found.streams),
        ("tables", found.tables),
        ("not compared", found.notes),
        ("in the way", found.refusals),
    )
    for heading, lines in parts:
        if lines:
            yield f"{heading}:"
            yield from (f"  {line}" for line in lines)
    if not any(lines for _, lines in parts):
        yield "no differences"
