"""Tables and namespaces, described aspect for aspect and in the order of DataHub's own Iceberg source.

Ownership is left out: there it replaces all owners, here it is patched (`airberg.governance.proposals`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import datahub.emitter.mce_builder as builder
import datahub.metadata.schema_classes as aspects
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from pyiceberg.table import Table

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.port import Proposal
from airberg.governance.schema import DescribedSchema

Aspect: TypeAlias = Any
"""One of DataHub's generated aspect classes."""

PLATFORM = "iceberg"
STATE_PREFIX = "airberg.checkpoint."
"""Table properties that hold a connector's state: positions in the source, no business of a catalog."""


@dataclass(frozen=True, slots=True)
class Target:
    """A table and its place among DataHub's entities."""

    table: Table
    instance: str | None
    env: str

    @property
    def identifier(self) -> tuple[str, ...]:
        """Parts of the namespace and the table's name."""
        return tuple(self.table.name())

    @property
    def name(self) -> str:
        """The dotted name, in the case that the catalog has."""
        return ".".join(self.identifier)

    @property
    def namespace(self) -> str:
        """The dotted namespace."""
        return ".".join(self.identifier[:-1])

    @property
    def urn(self) -> str:
        """Urn of the dataset."""
        return str(
            builder.make_dataset_urn_with_platform_instance(PLATFORM, self.name, self.instance, self.env)
        )

    @property
    def container(self) -> str:
        """The guid is that of DataHub's `NamespaceKey`; the environment is not part of it."""
        key = {"platform": PLATFORM, "instance": self.instance, "namespace": self.namespace}
        guid = builder.datahub_guid({k: v for k, v in key.items() if v is not None})
        return str(builder.make_container_urn(guid))

    @property
    def platform_instance(self) -> Aspect:
        """The aspect that both table and namespace carry."""
        instance = builder.make_dataplatform_instance_urn(PLATFORM, self.instance) if self.instance else None
        return aspects.DataPlatformInstanceClass(builder.make_data_platform_urn(PLATFORM), instance)

    def browse_path(self, *containers: str) -> Aspect:
        """Platform instance, if there is one, and containers from the top."""
        urns = [u for u in (self.platform_instance.instance, *containers) if u]
        return aspects.BrowsePathsV2Class([aspects.BrowsePathEntryClass(id=u, urn=u) for u in urns])


def dataset_urn(table: Table, datahub: DataHubSettings) -> str:
    """DataHub's urn of a table: `<platform instance>.<namespace>.<table>`, the catalog's name not in it."""
    return target_of(table, datahub).urn


def target_of(table: Table, datahub: DataHubSettings) -> Target:
    """The table's place under these settings."""
    return Target(table, datahub.platform_instance, datahub.env.upper())


def upserts(urn: str, *values: Aspect) -> list[Proposal]:
    """One UPSERT per aspect of an entity."""
    return [MetadataChangeProposalWrapper(entityUrn=urn, aspect=value) for value in values]


def container_proposals(target: Target, properties: Mapping[str, str]) -> list[Proposal]:
    """The namespace of a table. No domain: other jobs load into it too."""
    about = aspects.ContainerPropertiesClass(
        name=target.namespace,
        qualifiedName=target.namespace,
        env=target.env,
        customProperties={str(k): str(v) for k, v in properties.items()},
    )
    return upserts(
        target.container,
        aspects.StatusClass(removed=False),
        about,
        aspects.SubTypesClass(typeNames=["Namespace"]),
        target.platform_instance,
        target.browse_path(),
    )


def dataset_proposals(target: Target, schema: DescribedSchema) -> list[Proposal]:
    """The table itself: status, properties, schema, place."""
    metadata = aspects.SchemaMetadataClass(
        schemaName=target.name,
        platform=builder.make_data_platform_urn(PLATFORM),
        version=0,
        hash="",
        platformSchema=aspects.OtherSchemaClass(rawSchema=str(target.table.schema())),
        fields=schema.fields,
    )
    return upserts(
        target.urn,
        aspects.StatusClass(removed=False),
        aspects.SubTypesClass(typeNames=["Table"]),
        _properties(target),
        metadata,
        target.platform_instance,
        target.browse_path(target.container),
        aspects.ContainerClass(container=target.container),
    )


def _properties(target: Target) -> Aspect:
    table = target.table
    custom = {k: v for k, v in table.metadata.properties.items() if not k.startswith(STATE_PREFIX)}
    custom["location"] = table.metadata.location
    custom["format-version"] = str(table.metadata.format_version)
    custom["partition-spec"] = _partition_spec(table)
    if snapshot := table.current_snapshot():
        custom["snapshot-id"] = str(snapshot.snapshot_id)
        custom["manifest-list"] = snapshot.manifest_list
    return aspects.DatasetPropertiesClass(
        name=target.identifier[-1],
        qualifiedName=target.name,
        description=table.metadata.properties.get("comment"),
        customProperties=custom,
        lastModified=aspects.TimeStampClass(table.metadata.last_updated_ms),
        created=_created(custom.get("created-at")),
    )


def _created(text: str | None) -> Aspect:
    """Some engines note when they made a table."""
    try:
        return aspects.TimeStampClass(int(datetime.fromisoformat(text).timestamp() * 1000)) if text else None
    except ValueError:
        return None


def _partition_spec(table: Table) -> str:
    schema = table.schema()
    parts = [
        {
            "name": part.name,
            "transform": str(part.transform),
            "source": str(schema.find_column_name(part.source_id)),
            "source-id": part.source_id,
            "source-type": str(schema.find_type(part.source_id)),
            "field-id": part.field_id,
        }
        for part in table.spec().fields
    ]
    return json.dumps(parts)
