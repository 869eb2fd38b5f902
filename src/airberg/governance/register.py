"""The flow task `register`: tells the catalog of metadata about the tables that a run loaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from airberg.errors import AirbergError, ConfigurationFailed, RunError, TransientFailed
from airberg.flows.model import flow_url
from airberg.governance.facts import table_facts, write_table_facts
from airberg.governance.later import NO_LATER_RUNS, LaterRuns
from airberg.governance.policies import open_policies
from airberg.governance.resolve import DOMAIN_PREFIX, domain_name
from airberg.governance.wire import without_repeats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from airberg.governance.port import MetadataSink, Proposal
    from airberg.governance.proposals import TableFacts
    from airberg.jobs.model import Job, Run
    from airberg.plan.model import JobPlan
    from airberg.settings import Settings

__all__ = ["register_run", "table_facts", "write_table_facts"]


def register_run(
    job: Job,
    run: Run,
    catalog: Catalog,
    settings: Settings,
    sink: MetadataSink,
    later: LaterRuns = NO_LATER_RUNS,
) -> str:
    """Send the proposals for every table that the run loaded, and for the run itself, in one go.

    Streams of the report that have no table (nothing was ever committed) are left out. Of tables and flow
    that a later run tells of, only what this run did is sent.

    Returns:
        Where the proposals went: a path or an address.

    Raises:
        ConfigurationFailed: The job has no plan.
        TransientFailed: Anything else. The rows are committed, so only this task fails, and is tried again.
    """
    try:
        return sink.send(job.id, run.id, run_proposals(job, run, catalog, settings, later))
    except RunError:
        raise
    except AirbergError as error:
        raise TransientFailed(error.message, guidance=error.guidance, code=error.code) from error
    except Exception as error:  # whatever the catalog's or DataHub's library raises, the load stands
        raise TransientFailed(
            f"The tables could not be registered ({type(error).__name__}).",
            guidance="The rows are committed; the task is tried again.",
            code="metadata-failed",
        ) from error


def run_proposals(
    job: Job, run: Run, catalog: Catalog, settings: Settings, later: LaterRuns = NO_LATER_RUNS
) -> Iterator[Proposal]:
    """Everything that there is to tell of a run, in the order in which it is to be applied.

    Tables are loaded from the catalog as their turn comes, and forgotten afterwards: there may be thousands.

    Raises:
        ConfigurationFailed: The job has no plan.
        Unavailable: DataHub is to say which domain is meant, and does not.
    """
    plan = _plan_of(job)
    domain = _domain(plan, settings)
    return without_repeats(_proposals(job, run, catalog, settings, later, domain))


def _proposals(
    job: Job, run: Run, catalog: Catalog, settings: Settings, later: LaterRuns, domain: str | None
) -> Iterator[Proposal]:
    from airberg.governance.proposals import table_proposals
    from airberg.governance.runs import Edge, flow_proposals

    url = flow_url(settings, job.flow_id)
    edges: list[Edge] = []
    for table, facts in _loads(job, run, catalog, settings, url, later, domain):
        edges.append(Edge.of(table, facts))
        yield from table_proposals(table, facts)
    yield from flow_proposals(edges, job, run, url, settings.datahub, newest=not later.flow)


def _loads(
    job: Job,
    run: Run,
    catalog: Catalog,
    settings: Settings,
    url: str,
    later: LaterRuns,
    domain: str | None,
) -> Iterator[tuple[Table, TableFacts]]:
    """The tables of the run's report with what is known about them, in the order of the report."""
    from pyiceberg.exceptions import NoSuchTableError

    from airberg.governance.proposals import TableFacts

    plan = _plan_of(job)
    streams = {stream.table: stream for stream in plan.streams}
    datahub = settings.datahub
    makes_domains = datahub.server is None or datahub.domain_policy == "create"
    named = domain_name(job.request.domain, domain) if makes_domains else None
    namespace = cache(catalog.load_namespace_properties)
    for report in run.report.streams:
        if (stream := streams.get(report.table)) is None:
            continue
        try:
            table = catalog.load_table((*plan.namespace, report.table))
        except NoSuchTableError:
            continue
        yield (
            table,
            TableFacts(
                job=job,
                run=run,
                stream=stream,
                report=report,
                datahub=datahub,
                flow_url=url,
                namespace_properties=namespace(plan.namespace),
                domain=domain,
                domain_name=named,
                superseded=later.has(plan.namespace, report.table),
            ),
        )


def _plan_of(job: Job) -> JobPlan:
    if job.plan is None:
        raise ConfigurationFailed(
            f"The job {job.id} has no plan yet.", guidance="Register after a sync.", code="no-plan"
        )
    return job.plan


def _domain(plan: JobPlan, settings: Settings) -> str | None:
    """The domain's urn; a job that was submitted without preflight may still have only its name."""
    domain = plan.governance.domain
    if not domain or domain.startswith(DOMAIN_PREFIX):
        return domain or None
    return open_policies(settings).domain(domain)
