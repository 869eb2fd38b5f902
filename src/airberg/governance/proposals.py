"""Change proposals for one loaded table.

Urns and aspects equal those of DataHub's own Iceberg source, so that both may run. What people edit in
DataHub (tags, owners, field tags) is patched, never replaced. All of it is a pure function of table, job
and run: no clock, no chance, so a repeated run sends the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import datahub.emitter.mce_builder as builder
import datahub.metadata.schema_classes as aspects
from datahub.metadata.urns import TagUrn
from datahub.specific.dataset import DatasetPatchBuilder
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from airberg.errors import ConfigurationFailed
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import (
    Aspect,
    Target,
    container_proposals,
    dataset_proposals,
    target_of,
    upserts,
)
from airberg.governance.facts import column_lines
from airberg.governance.lineage import fine_grained, source_urn
from airberg.governance.port import Proposal
from airberg.governance.resolve import owner_urn
from airberg.governance.schema import DescribedSchema, describe_schema
from airberg.jobs.model import Job, Run, StreamReport
from airberg.plan.model import EncryptRule, HashRule, JobPlan, Mode, ProtectionRule, StreamPlan

ENCRYPTED_TAG = "encrypted"
HASHED_TAG = "hashed"
MASKED_TAG = "masked"
_NO_NUMBERS = Snapshot(snapshot_id=0, timestamp_ms=0, manifest_list="")
_OPERATIONS: dict[Mode, str] = {"append": "INSERT", "merge": "UPDATE", "overwrite": "CREATE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """What is known about a loaded table beside the table itself.

    Attributes:
        job: The job; it must have a plan.
        run: The run that loaded the table.
        stream: The plan of the stream.
        report: What the run did to the table.
        datahub: Environment and platform instance.
        flow_url: The page of the flow in Airflow.
        namespace_properties: Properties of the table's namespace.
        domain: Urn of the domain, or None.
        domain_name: Name of a domain that is to be made if it is missing, or None.
        superseded: A later run has loaded the table: only what this run did is told.
    """

    job: Job
    run: Run
    stream: StreamPlan
    report: StreamReport
    datahub: DataHubSettings
    flow_url: str
    namespace_properties: Mapping[str, str] = field(default_factory=dict)
    domain: str | None = None
    domain_name: str | None = None
    superseded: bool = False

    @property
    def plan(self) -> JobPlan:
        """The job's plan. Raises ConfigurationFailed when there is none yet."""
        if self.job.plan is None:
            raise ConfigurationFailed(f"The job {self.job.id} has no plan yet.", code="no-plan")
        return self.job.plan

    @property
    def source(self) -> str:
        """Urn of the source stream."""
        return source_urn(
            self.plan.source_name, self.stream, self.job.public_config, env=self.datahub.env.upper()
        )


def table_proposals(table: Table, facts: TableFacts) -> list[Proposal]:
    """Everything about one table: container, dataset, domain, tags, owner, lineage, what the run did.

    Args:
        table: The table after the run.
        facts: What is known beside it.

    Raises:
        ConfigurationFailed: The job has no plan.
    """
    target = target_of(table, facts.datahub)
    if facts.superseded:
        return _activity(target, facts)
    schema = describe_schema(table.schema())
    return [
        *container_proposals(target, facts.namespace_properties),
        *dataset_proposals(target, schema),
        *_governance(target, facts, schema),
        *_lineage(target, facts, schema),
        *_activity(target, facts),
    ]


def _governance(target: Target, facts: TableFacts, schema: DescribedSchema) -> list[Proposal]:
    """Domain (replaced, if given), tags, owner and tags of protected columns (added to what is there)."""
    governance = facts.plan.governance
    tags = [builder.make_tag_urn(tag) for tag in governance.tags]
    protected = [
        (schema.paths[line.target], protection_tag(line.rule))
        for line in column_lines(facts.stream.columns)
        if line.rule and line.target in schema.paths
    ]
    out: list[Proposal] = []
    for urn in dict.fromkeys([*tags, *(tag.tag for _, tag in protected)]):
        # The key aspect alone makes a tag that is missing and changes nothing of one that is there.
        out += upserts(urn, TagUrn.from_string(urn).to_key_aspect())
    if facts.domain:
        if facts.domain_name:
            out += upserts(facts.domain, aspects.DomainPropertiesClass(name=facts.domain_name))
        out += upserts(target.urn, aspects.DomainsClass(domains=[facts.domain]))
    patch = DatasetPatchBuilder(target.urn)
    for urn in tags:
        patch.add_tag(aspects.TagAssociationClass(tag=urn))
    if governance.owner:
        patch.add_owner(owner_aspect(governance.owner))
    for path, tag in protected:
        patch.for_field(path).add_tag(tag)
    return out + list(patch.build())


def protection_tag(rule: ProtectionRule) -> Aspect:
    """The tag of a protected column, with what is needed to know how it is protected; no key, no value."""
    match rule:
        case EncryptRule():
            name, how = ENCRYPTED_TAG, {"key": rule.key_name, "mode": rule.mode}
        case HashRule():
            name, how = HASHED_TAG, {"key": rule.key_name}
        case _:
            name, how = MASKED_TAG, {"keep_last": str(rule.keep_last)}
    return aspects.TagAssociationClass(tag=builder.make_tag_urn(name), context=json.dumps(how))


def owner_aspect(owner_id: str) -> Aspect:
    """A technical owner, the kind that DataHub's source makes of the property `owner`."""
    return aspects.OwnerClass(owner=owner_urn(owner_id), type=aspects.OwnershipTypeClass.TECHNICAL_OWNER)


def _lineage(target: Target, facts: TableFacts, schema: DescribedSchema) -> list[Proposal]:
    lines = fine_grained(facts.source, target.urn, facts.stream, schema.paths)
    upstream = aspects.UpstreamClass(dataset=facts.source, type=aspects.DatasetLineageTypeClass.TRANSFORMED)
    aspect = aspects.UpstreamLineageClass(upstreams=[upstream], fineGrainedLineages=lines or None)
    return upserts(target.urn, aspect)


def _activity(target: Target, facts: TableFacts) -> list[Proposal]:
    """What the run changed, and how large the table is now. Numbers only, never a value of a column."""
    report, run = facts.report, facts.run
    at = millis(run.ended_at) or target.table.metadata.last_updated_ms
    out: list[Proposal] = []
    if report.snapshot_ids or report.rows_written or report.rows_deleted:
        operation = aspects.OperationClass(
            timestampMillis=at,
            lastUpdatedTimestamp=at,
            operationType=_OPERATIONS[facts.stream.mode],
            numAffectedRows=report.rows_written + report.rows_deleted,
            sourceType=aspects.OperationSourceTypeClass.DATA_PROCESS,
            customProperties={"dag_id": facts.job.flow_id, "run_id": run.flow_run_id},
        )
        out += upserts(target.urn, operation)
    rows, size = extent(_snapshot_after(target.table, facts))
    if facts.superseded and rows is None:
        return out
    profile = aspects.DatasetProfileClass(
        timestampMillis=at,
        rowCount=rows,
        columnCount=len(target.table.schema().fields),
        sizeInBytes=size,
    )
    return out + upserts(target.urn, profile)


def _snapshot_after(table: Table, facts: TableFacts) -> Snapshot | None:
    """The table as the run left it: as it is now, or the run's last snapshot where a later run came.

    Of that nothing but a summary without numbers is left when it has expired.
    """
    if not facts.superseded:
        return table.current_snapshot()
    ids = facts.report.snapshot_ids
    found = table.snapshot_by_id(ids[-1]) if ids else None
    return found or _NO_NUMBERS


def extent(snapshot: Snapshot | None) -> tuple[int | None, int | None]:
    """Rows and bytes of a table by the summary of its snapshot, None where that does not say.

    Rows that position deletes hide are part of `total-records` (Iceberg spec, Snapshot summary) and not
    of the table.
    """
    if snapshot is None:
        return 0, 0
    summary = snapshot.summary
    if summary is None or (records := summary["total-records"]) is None:
        return None, None
    hidden, size = summary["total-position-deletes"], summary["total-files-size"]
    return int(records) - int(hidden or 0), int(size) if size else None


def millis(at: datetime | None) -> int | None:
    """Milliseconds since the epoch."""
    return int(at.timestamp() * 1000) if at else None
