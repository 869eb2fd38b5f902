"""Change proposals for a job's flow, its `sync` task and one run, named as the Airflow plugin names them.

That is DataHub's own plugin for Airflow; with the `cluster` and the `platform_instance` of its settings, both
write the same entities.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

import datahub.emitter.mce_builder as builder
import datahub.metadata.schema_classes as aspects
from datahub.specific.aspect_helpers.ownership import HasOwnershipPatch
from pyiceberg.table import Table

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import dataset_urn, upserts
from airberg.governance.port import Proposal
from airberg.governance.proposals import TableFacts, millis, owner_aspect
from airberg.jobs.model import Job, Run, RunStatus

ORCHESTRATOR = "airflow"
SYNC_TASK = "sync"

_RESULTS = {
    RunStatus.COMPLETED: aspects.RunResultTypeClass.SUCCESS,
    RunStatus.FAILED: aspects.RunResultTypeClass.FAILURE,
    RunStatus.CANCELLED: aspects.RunResultTypeClass.SKIPPED,
}


def flow_urn(job: Job, datahub: DataHubSettings) -> str:
    """Urn of a job's flow."""
    place = (datahub.flow_cluster, datahub.flow_platform_instance)
    return str(builder.make_data_flow_urn(ORCHESTRATOR, job.flow_id, *place))


class Edge(NamedTuple):
    """What a run loaded.

    Attributes:
        source: Urn of the source stream.
        dataset: Urn of the table.
    """

    source: str
    dataset: str

    @classmethod
    def of(cls, table: Table, facts: TableFacts) -> Edge:
        """That to a table."""
        return cls(facts.source, dataset_urn(table, facts.datahub))


def flow_proposals(
    edges: Iterable[Edge],
    job: Job,
    run: Run,
    flow_url: str,
    datahub: DataHubSettings,
    *,
    newest: bool = True,
) -> list[Proposal]:
    """The flow, its `sync` task and the run, with all tables as outputs and all streams as inputs.

    They belong to a run and not to a table: one aspect lists all inputs and outputs.

    Args:
        edges: From streams to tables of the run; may be empty.
        job: The job.
        run: Its run; the end and its result are told only when the run has ended.
        flow_url: The page of the flow in Airflow.
        datahub: How the Airflow plugin is set up.
        newest: Without a later run of a job that is there; of an older one only the run itself is told.
    """
    edges = tuple(edges)
    inputs = sorted({edge.source for edge in edges})
    outputs = sorted({edge.dataset for edge in edges})
    flow = flow_urn(job, datahub)
    task = str(builder.make_data_job_urn_with_flow(flow, SYNC_TASK))
    instance = _process_instance(job, run, task, flow_url, datahub.flow_cluster, inputs, outputs)
    if not newest:
        return instance
    about = {"airberg.job": str(job.id), "airberg.source": job.request.source_name}
    flow_info = aspects.DataFlowInfoClass(name=job.request.name, externalUrl=flow_url, customProperties=about)
    task_info = aspects.DataJobInfoClass(
        name=SYNC_TASK,
        type="COMMAND",
        flowUrn=flow,
        externalUrl=f"{flow_url}/tasks/{SYNC_TASK}",
        customProperties=about,
    )
    out = [
        *upserts(flow, flow_info, aspects.StatusClass(removed=False)),
        *upserts(
            task,
            task_info,
            aspects.StatusClass(removed=False),
            aspects.DataJobInputOutputClass(inputDatasets=inputs, outputDatasets=outputs),
        ),
    ]
    if owner := (job.plan.governance.owner if job.plan else ""):
        for urn in (flow, task):
            out += HasOwnershipPatch(urn).add_owner(owner_aspect(owner)).build()
    return out + instance


def _process_instance(
    job: Job, run: Run, task: str, flow_url: str, cluster: str, inputs: list[str], outputs: list[str]
) -> list[Proposal]:
    """The run as the Airflow plugin names it: `{dag_id}_{task_id}_{run_id}`."""
    name = f"{job.flow_id}_{SYNC_TASK}_{run.flow_run_id}"
    guid = builder.datahub_guid({"cluster": cluster, "orchestrator": ORCHESTRATOR, "id": name})
    started = millis(run.started_at) or millis(run.created_at) or 0
    kinds = aspects.DataProcessTypeClass
    rows = sum(report.rows_written for report in run.report.streams)
    values = [
        aspects.DataProcessInstancePropertiesClass(
            name=name,
            created=aspects.AuditStampClass(time=started, actor="urn:li:corpuser:datahub"),
            type=kinds.BATCH_SCHEDULED if job.request.schedule else kinds.BATCH_AD_HOC,
            externalUrl=f"{flow_url}/runs/{quote(run.flow_run_id, safe='')}",
            customProperties={"airberg.run": str(run.id), "run_id": run.flow_run_id, "rows": str(rows)},
        ),
        aspects.DataProcessInstanceRelationshipsClass(upstreamInstances=[], parentTemplate=task),
    ]
    if inputs:
        values.append(aspects.DataProcessInstanceInputClass(inputs=inputs))
    if outputs:
        values.append(aspects.DataProcessInstanceOutputClass(outputs=outputs))
    attempt = max(run.attempt, 1)
    values.append(
        aspects.DataProcessInstanceRunEventClass(
            timestampMillis=started, status=aspects.DataProcessRunStatusClass.STARTED, attempt=attempt
        )
    )
    if run.status in _RESULTS and (ended := millis(run.ended_at)):
        result = aspects.DataProcessInstanceRunResultClass(
            type=_RESULTS[run.status], nativeResultType=ORCHESTRATOR
        )
        values.append(
            aspects.DataProcessInstanceRunEventClass(
                timestampMillis=ended,
                status=aspects.DataProcessRunStatusClass.COMPLETE,
                result=result,
                attempt=attempt,
                durationMillis=ended - started,
            )
        )
    return upserts(f"urn:li:dataProcessInstance:{guid}", *values)
