"""Which connector a job runs with."""

from __future__ import annotations

from airberg.errors import InvalidRequest
from airberg.jobs.model import Job
from airberg.settings import Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.registry import load_registry


def connector_of(job: Job, settings: Settings) -> ConnectorEntry:
    """The connector that the job keeps.

    A job of an earlier version of Airberg keeps none: it runs with what its plan was made with where that is
    known still, else with what new jobs get.

    Raises:
        InvalidRequest: It keeps none, and there is none of its name any more.
        Unavailable: It keeps none, and the connectors file cannot be used.
    """
    if job.request.connector is not None:
        return job.request.connector
    registry, name = load_registry(settings), job.request.source_name
    if job.plan is not None:
        try:
            return registry.find(name, job.plan.connector_version)
        except InvalidRequest:
            pass  # it may be unknown by its name too: told below
    return registry.find(name)
