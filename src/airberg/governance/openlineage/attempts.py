"""What events are made of. Light: the client is loaded by the thread that tells, not by the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airberg.jobs.model import Job, Run
from airberg.plan.model import JobPlan

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt of a run. For OpenLineage each is a run.

    Attributes:
        job: The job.
        run: Its run; `attempt` is the number of the attempt that is told.
        namespace: OpenLineage's namespace of our jobs.
        parent: Variables with the ids of the Airflow task that started it, and of the flow's run.
    """

    job: Job
    run: Run
    namespace: str
    parent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTables:
    """The tables of an attempt.

    Attributes:
        plan: What is loaded.
        tables: The tables, by name, with the schema that the rows are written with.
        fresh: Names of those that had no content when the attempt began.
        catalog_name: The catalog's name, for us.
        catalog_properties: Its properties; secrets among them are not told.
    """

    plan: JobPlan
    tables: Mapping[str, Table]
    fresh: frozenset[str]
    catalog_name: str
    catalog_properties: Mapping[str, str]
