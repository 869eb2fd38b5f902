"""Moving a job to another version of its connector: what would change, and whether the job can follow."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import msgspec

from airberg.errors import AirbergError, InvalidRequest
from airberg.jobs.model import Job
from airberg.keys.port import KeyStore
from airberg.plan.model import JobPlan
from airberg.plan.preparation import TargetTables, compare_tables, replan
from airberg.plan.stream_changes import breaking_changes, stream_changes
from airberg.settings import Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.hosts import host_problems
from airberg.sources.launch import resolve
from airberg.sources.references import Resolved, resolve_references
from airberg.sources.secret_fields import Schema
from airberg.sources.spec import config_problems
from airberg.sources.spec_changes import spec_changes
from airberg.sources.workspace import for_protected_columns

INSTALL_WITHIN_S = 1800.0
"""Nobody waits for an answer at a POST here."""


def _withheld(text: str) -> str:
    return "[not shown: the job protects columns]" if text.strip() else text


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """What moving a job would do.

    Attributes:
        spec: Lines of what changes in the specification.
        streams: Lines of what changes in the job's streams.
        tables: Lines of what would change in its tables.
        notes: What could not be compared, and why.
        refusals: Why the job cannot follow; empty when it can.
        new_spec: The specification of the new version.
        plan: The new plan, when there is one.
        given: The configuration that the source was asked with.
    """

    spec: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    new_spec: Schema = {}
    plan: JobPlan | None = None
    given: Resolved = Resolved({})


def examine_upgrade(
    job: Job,
    old: ConnectorEntry,
    new: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    keys: KeyStore,
    *,
    on_config: Callable[[dict[str, Any], Schema, Resolved], None],
) -> Upgrade:
    """Compare two versions of a job's connector, with the job's configuration and its tables.

    The new version is installed when it is not there, and asked for its streams.

    Args:
        job: The job, with its plan as it is.
        old: The connector that it runs with.
        new: The one that it would run with.
        config: Its configuration, with secrets, or references to them.
        on_config: Gets a configuration that the source hands out meanwhile, with the specification that says
            what in it is secret, and what it was asked with: it must be stored even when the job is not
            moved.

    Raises:
        AirbergError: The new version cannot be started here, or the tables cannot be looked at.
    """
    launch = resolve(new, settings, deadline=time.monotonic() + INSTALL_WITHIN_S)
    spec: list[str] = []
    notes: list[str] = []
    try:
        known = resolve(old, settings, deadline=time.monotonic() + INSTALL_WITHIN_S)
    except AirbergError as error:
        notes.append(f"The specification of {old.known_version} is not compared: {error.message}")
    else:
        spec = spec_changes(known.spec, launch.spec)
    given = resolve_references(config, job.request.owner_id, settings.secrets)
    found_problems = config_problems(launch.spec, given.config) or host_problems(
        given.config, launch.limits.host_rules
    )
    problems = [f"{p.pointer}: {p.message}" for p in found_problems]
    found = Upgrade(
        spec=tuple(spec), notes=tuple(notes), refusals=tuple(problems), new_spec=launch.spec, given=given
    )
    if problems:
        return found
    moved = dataclasses.replace(job, request=job.request.pinned(new))
    if job.request.protects_columns:
        launch = for_protected_columns(launch, settings)
    try:
        plan = replan(
            moved,
            launch,
            given.config,
            settings,
            keys,
            on_config=lambda renewed: on_config(given.restored(renewed), launch.spec, given),
            told=_withheld if job.request.protects_columns else str,
            hidden=given.hidden,
        )
    except InvalidRequest as error:
        return msgspec.structs.replace(found, refusals=tuple(p.message for p in error.problems))
    except AirbergError as error:
        return msgspec.structs.replace(found, refusals=(f"Its streams cannot be found: {error.message}",))
    return _with_tables(found, moved, plan, settings, keys)


def _with_tables(found: Upgrade, job: Job, plan: JobPlan, settings: Settings, keys: KeyStore) -> Upgrade:
    """Add what becomes of streams and tables."""
    tables: list[str] = []
    refusals: list[str] = []
    try:
        differences = compare_tables(
            plan, TargetTables(settings, job.request.schema_name), keys, job.request.column_transformations
        )
    except InvalidRequest as error:
        refusals += [" ".join(filter(None, (p.message, p.guidance))) for p in error.problems]
    else:
        tables = [f"{d.table}: {change}" for d in differences for change in d.changes]
        tables += [f"{d.table}: is made" for d in differences if not d.exists]
    streams: list[str] = []
    if job.plan is None:
        found = msgspec.structs.replace(
            found, notes=(*found.notes, "The job has no plan yet, so its streams are not compared.")
        )
    else:
        streams = stream_changes(job.plan, plan)
        refusals = [*breaking_changes(job.plan, plan), *refusals]
    return msgspec.structs.replace(
        found, streams=tuple(streams), tables=tuple(tables), refusals=tuple(refusals), plan=plan
    )
