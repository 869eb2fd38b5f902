"""The frozen values that the rest of Airberg works from: what was asked, and what will be done.

`IngestRequest` is the body of the call after its form was checked. `JobPlan` is the outcome of planning
against the connector's catalog: it is stored with the job, serialises to JSON (`encode_plan`,
`decode_plan`) and never holds a secret.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from airberg.columns.types import ColumnType
from airberg.plan.flow_request import FlowRequest
from airberg.protocol.state import StateKey
from airberg.sources.entry import ConnectorEntry

Mode: TypeAlias = Literal["append", "overwrite", "merge"]
SyncMode: TypeAlias = Literal["full_refresh", "incremental"]
TransformationType: TypeAlias = Literal["cast", "rename", "encrypt", "hash", "mask", "drop"]
PROTECTIONS: Final = frozenset({"encrypt", "hash", "mask"})
"""The types of transformations that keep plaintext from the table; a column has one of them."""
KEYED: Final = frozenset({"encrypt", "hash"})
"""Those of them that need a key."""

EncryptionMode: TypeAlias = Literal["random", "deterministic"]
DeleteFormat: TypeAlias = Literal["position", "vector", "copy-on-write"]
DeletedRows: TypeAlias = Literal["hard", "soft"]
TransformName: TypeAlias = Literal["identity", "bucket", "truncate", "year", "month", "day", "hour", "void"]
Path: TypeAlias = tuple[str, ...]


class Transformation(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `column_transformations`, as sent."""

    column: str
    transformation_type: TransformationType
    stream: str | None = None
    target_type: str | None = None
    new_name: str | None = None
    encryption_key_name: str | None = None
    encryption_mode: EncryptionMode | None = None
    keep_last: int | None = None
    mask_char: str | None = None


class TableRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One member of `tables`, as sent: how the table of a stream is to be made."""

    stream: str
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()


class IngestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller asked for. `source_config` is not part of it: secrets travel alone.

    Of `delete_format`, `readers`, `deletes` and `skip_unchanged`, None leaves it to the deployment.

    Attributes:
        source_version: Version of the connector; None is the one that new jobs get.
        connector: The connector that the job was made with or was moved to, set when it is stored: what
            becomes of the registry or of the connectors file does not change the job.
        share_with: Groups (of the access token) whose members see the job, and may change it.
        flow: Options of the job's flow.
        governance: What DataHub calls the domain, the tags and the owner that were asked for; None in a job
            of an earlier version of Airberg.
    """

    name: str
    source_name: str
    schema_name: str
    mode: Mode
    streams: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    schedule: str | None = None
    timezone: str = "UTC"
    run_now: bool = True
    domain: str | None = None
    tags: tuple[str, ...] = ()
    owner_id: str = ""
    column_transformations: tuple[Transformation, ...] = ()
    archive_staging: bool = False
    add_ingestion_metadata: bool = True
    tables: tuple[TableRequest, ...] = ()
    delete_format: DeleteFormat | None = None
    readers: tuple[str, ...] | None = None
    deletes: DeletedRows | None = None
    skip_unchanged: bool | None = None
    source_version: str | None = None
    connector: ConnectorEntry | None = None
    share_with: tuple[str, ...] = ()
    flow: FlowRequest | None = None
    governance: GovernancePlan | None = None

    def pinned(self, connector: ConnectorEntry | None) -> IngestRequest:
        """The request of a job that keeps this connector; without one, it is as before."""
        if connector is None:
            return self
        return msgspec.structs.replace(self, source_version=connector.known_version, connector=connector)

    @property
    def protects_columns(self) -> bool:
        """Whether plaintext of a column is to be kept from everybody. Of new types that is assumed."""
        return any(t.transformation_type not in ("cast", "rename") for t in self.column_transformations)


class EncryptRule(msgspec.Struct, frozen=True, kw_only=True):
    """How one column is encrypted. `aad` (associated data) is frozen when the job is created."""

    key_name: str
    mode: EncryptionMode
    aad: str


class HashRule(msgspec.Struct, frozen=True, kw_only=True):
    """How one column is hashed: by HMAC-SHA256 under a key that is derived from the named one.

    Nothing else goes into the hash: equal values of all tables are equal under one key.
    """

    key_name: str


class MaskRule(msgspec.Struct, frozen=True, kw_only=True):
    """How one column is masked: all characters but the last `keep_last` become `mask_char`.

    A value that has no more characters than that is masked as a whole.
    """

    keep_last: int = 4
    mask_char: str = "*"


ProtectionRule: TypeAlias = EncryptRule | HashRule | MaskRule


class ColumnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one property of a record.

    Attributes:
        source: Name of the property in the record (or in its parent object).
        name: Name of the column (or struct field) in the table.
        source_type: Type by the stream's JSON schema.
        type: Type in the table: after the cast; `binary` when encrypted, `string` when hashed or masked.
        cast_to: Target type of a cast, or None.
        encrypt: How to encrypt, or None.
        hash: How to hash, or None.
        mask: How to mask, or None. At most one of these three is there.
        children: For a struct that is neither cast nor protected whole: its fields that stay.
        doc: Description from the schema.
        apart: The name is not that of the source, because it is taken or not fit for a table.
    """

    source: str
    name: str
    source_type: ColumnType
    type: ColumnType
    cast_to: ColumnType | None = None
    encrypt: EncryptRule | None = None
    hash: HashRule | None = None
    mask: MaskRule | None = None
    children: tuple[ColumnPlan, ...] = ()
    doc: str | None = None
    apart: bool = False

    @property
    def protection(self) -> ProtectionRule | None:
        """How its plaintext is kept from the table, and so from everything else that is kept; or None."""
        return self.encrypt or self.hash or self.mask

    @property
    def protects(self) -> bool:
        """Whether its plaintext, or that of something in it, is kept from the table."""
        return self.protection is not None or any(child.protects for child in self.children)


class PartitionTerm(msgspec.Struct, frozen=True, kw_only=True):
    """A column and the Iceberg transform of it.

    Attributes:
        argument: Number of buckets, width of a truncation; None for the others.
        source: Path of the column in the record.
        column: Path of the column in the table.
    """

    transform: TransformName
    argument: int | None = None
    source: Path
    column: Path

    def __str__(self) -> str:
        return term_text(self.transform, self.argument, ".".join(self.column))


class SortTerm(PartitionTerm, frozen=True, kw_only=True):
    """One key of a sort order."""

    descending: bool = False
    nulls_last: bool = False

    def __str__(self) -> str:
        return f"{super().__str__()} {sort_text(self.descending, self.nulls_last)}"


def term_text(transform: str, argument: int | None, column: str) -> str:
    """A term as people write it: `id`, `day(created_at)`, `bucket(16, id)`."""
    if transform == "identity":
        return column
    return f"{transform}({column})" if argument is None else f"{transform}({argument}, {column})"


def sort_text(descending: bool, nulls_last: bool) -> str:
    """Direction and place of nulls as people write them."""
    return f"{'desc' if descending else 'asc'} nulls {'last' if nulls_last else 'first'}"


class StreamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one stream.

    Attributes:
        table: Table name in the job's namespace.
        cursor: Path of the cursor field in the record; empty when there is none.
        primary_key: Paths of the source's own primary key.
        merge_key: Paths of the key to merge by, in source names; empty unless the mode is merge.
        columns: The columns that stay, in order.
        removed: Dotted source names of dropped columns.
        catalog_stream: The `AirbyteStream` as discovered, for the configured catalog.
        protect_state: The state may hold values of a protected or dropped column and is encrypted at rest.
        partition_by: How its table is partitioned, if it is made.
        sort_by: How the rows in the files of its table are sorted, if it is made.
        key_order: The sort order of a new table for which none was asked: by its merge key.
        identifier: Paths in the table of the columns that identify its rows, if it is made.
    """

    name: str
    namespace: str | None = None
    table: str
    sync_mode: SyncMode
    mode: Mode
    cursor: Path = ()
    primary_key: tuple[Path, ...] = ()
    merge_key: tuple[Path, ...] = ()
    columns: tuple[ColumnPlan, ...]
    removed: tuple[str, ...] = ()
    catalog_stream: dict[str, Any]
    protect_state: bool = False
    partition_by: tuple[PartitionTerm, ...] = ()
    sort_by: tuple[SortTerm, ...] = ()
    key_order: tuple[SortTerm, ...] = ()
    identifier: tuple[Path, ...] = ()

    @property
    def state_key(self) -> StateKey:
        """The stream as messages of the protocol name it; an empty namespace is none."""
        return StateKey(self.namespace or None, self.name)


class MergeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How merges of a job work.

    Attributes:
        delete_format: How rows go: by position-delete files, by deletion vectors, or by writing files anew.
        soft_deletes: A row that the source deleted stays, with its deletion mark.
        skip_unchanged: A version that brings no new value is not written.
    """

    delete_format: DeleteFormat = "position"
    soft_deletes: bool = False
    skip_unchanged: bool = False


class GovernancePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Domain, tags and owner of the tables, as DataHub calls them.

    Attributes:
        domain: A urn, or None.
        tags: What comes after `urn:li:tag:`.
        owner: Id of a user, `group:` and that of a group, or the urn of either.
    """

    domain: str | None = None
    tags: tuple[str, ...] = ()
    owner: str = ""


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole plan of a job.

    Attributes:
        discovered_at: Seconds since the epoch; 0 when discovery was skipped.
        shared_state: The source was seen to give its streams a state in common.
    """

    version: int = 1
    source_name: str
    connector_version: str
    namespace: tuple[str, ...]
    mode: Mode
    streams: tuple[StreamPlan, ...]
    governance: GovernancePlan
    merging: MergeOptions = MergeOptions()
    add_ingestion_metadata: bool = True
    archive_staging: bool = False
    discovered_at: float = 0.0
    warnings: tuple[str, ...] = ()
    shared_state: bool = False

    @property
    def table_names(self) -> tuple[str, ...]:
        """The tables that it fills: dotted, in one case, as catalogs may not tell cases apart."""
        return tuple(".".join((*self.namespace, s.table)).casefold() for s in self.streams)


def encode_plan(plan: JobPlan) -> str:
    """The plan as JSON text."""
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str) -> JobPlan:
    """The plan from its JSON text.

    Raises:
        msgspec.ValidationError: The text was not written by `encode_plan` of a known version.
    """
    return msgspec.json.decode(text, type=JobPlan)
