"""The body of `POST /api/airbyte/ingest`: its form, checked field by field so that all problems show.

What needs the connector (streams, columns, keys) is checked later, by the planner.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from airberg.api.flow_body import FlowBody
from airberg.api.permissions import shared_with
from airberg.flows.schedule import check_schedule, check_timezone
from airberg.governance.resolve import clean_tags
from airberg.plan.model import EncryptionMode, IngestRequest, TableRequest, Transformation
from airberg.plan.names import NAMESPACE_PART, namespace_parts
from airberg.plan.readers import cannot_read, reader_problem

SOURCE_NAME = re.compile(r"source-[a-z0-9][a-z0-9-]*")

NAMESPACE_FORM = rf"^{NAMESPACE_PART.pattern}(\.{NAMESPACE_PART.pattern})*$"

MAX_STREAMS = 5_000
"""Of a job: one that names more would not fit into a flow's log, or a page."""
MAX_TRANSFORMATIONS = 5_000
MAX_TAGS = 200

Text = Annotated[str, Field(max_length=2_000)]
Expressions = Annotated[list[Annotated[str, Field(min_length=1, max_length=1_100)]], Field(max_length=20)]


def _reject(code: str, message: str, guidance: str = "") -> PydanticCustomError:
    """An error that keeps its guidance on the way through pydantic."""
    return PydanticCustomError(code, "{message}", {"message": message, "guidance": guidance})


def _reader(value: str) -> str:
    if problem := reader_problem(value):
        raise _reject("unknown-reader", problem)
    return value


Reader = Annotated[str, Field(max_length=100), AfterValidator(_reader)]


def _group(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise _reject("bad-group", "A group is blank, or not printable.", "Name it as your access tokens do.")
    return value


Group = Annotated[str, Field(max_length=255), AfterValidator(_group)]


class ColumnTransformation(BaseModel):
    """One transformation of a column. They act as drop, rename, cast, then one of encrypt, hash, mask."""

    model_config = ConfigDict(extra="forbid", strict=True)

    column: Annotated[str, Field(min_length=1, max_length=1_000)] = Field(
        description="Column by its name in the source stream; nested with dots."
    )
    transformation_type: Literal["cast", "rename", "encrypt", "hash", "mask", "drop"]
    stream: Text | None = Field(None, description="Stream it applies to; omitted: every one with the column.")
    target_type: Text | None = Field(None, description="For cast: the type to cast to.", examples=["long"])
    new_name: Annotated[str, Field(max_length=255)] | None = Field(None, description="For rename.")
    encryption_key_name: Text | None = Field(
        None, description="For encrypt and hash; default: the deployment's key."
    )
    encryption_mode: EncryptionMode | None = Field(
        None,
        description="For encrypt; default: deterministic for merge keys and what the table is partitioned or "
        "sorted by, else random.",
    )
    keep_last: Annotated[StrictInt, Field(ge=0, le=1_000)] | None = Field(
        None, description="For mask: how many characters stay; default 4. Shorter values are masked whole."
    )
    mask_char: Annotated[str, Field(max_length=10)] | None = Field(
        None, description="For mask: the character in place of the others; default `*`."
    )

    @field_validator("encryption_mode", "keep_last", "mask_char")
    @classmethod
    def _of_its_type(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - of several types
        """What would be ignored is refused: a value that was to be masked must not get through in clear."""
        wanted = "encrypt" if info.field_name == "encryption_mode" else "mask"
        if value is not None and info.data.get("transformation_type", wanted) != wanted:
            raise _reject(
                "not-for-this-type",
                f"`{info.field_name}` is for {wanted}, not for {info.data['transformation_type']}.",
                f"Leave it out, or make this a transformation of type {wanted}.",
            )
        return value

    @field_validator("mask_char")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isprintable()):
            raise _reject("bad-mask-char", "`mask_char` must be one printable character.", "Use `*` or `#`.")
        return value


class TableBody(BaseModel):
    """How the table of a stream is made. A table that exists keeps its own partitions and order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    partition_by: Expressions | None = Field(
        None,
        description="Partition fields: a column, or an Iceberg transform of one. Columns by their names in "
        "the source stream, nested with dots, or metadata columns.",
        examples=[["day(created_at)", "bucket(16, id)"]],
    )
    sort_by: Expressions | None = Field(
        None,
        description="Sort order within each file: the same, then `asc` or `desc`, then `nulls first` or "
        "`nulls last`.",
        examples=[["created_at desc nulls last"]],
    )


Streams = Annotated[list[Text], Field(max_length=MAX_STREAMS)]
Transformations = Annotated[list[ColumnTransformation], Field(max_length=MAX_TRANSFORMATIONS)]


class IngestBody(BaseModel):
    """What to ingest, from where, into which tables, how and when."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: str = Field(
        description="Name of the job, unique per owner; 1 to 200 printable characters.",
        json_schema_extra={"minLength": 1, "maxLength": 200},
    )
    source_name: str = Field(
        description="PyAirbyte source identifier, such as `source-github`.",
        json_schema_extra={"pattern": f"^{SOURCE_NAME.pattern}$", "maxLength": 100},
    )
    source_version: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Version of the connector, of those known; default the one for new jobs."
    )
    source_config: dict[str, Any] = Field(description="The connector's configuration, secrets included.")
    schema_name: str = Field(
        description="Iceberg namespace of the tables, dotted when nested; made if absent.",
        json_schema_extra={"pattern": NAMESPACE_FORM, "maxLength": 255},
    )
    mode: Literal["append", "overwrite", "merge"] = Field(description="How rows are written.")
    streams: Streams | None = Field(None, description="Streams to sync; null or empty: all.")
    merge: Text | None = Field(None, description="Merge key columns, comma-separated; else the primary keys.")
    timezone: Text | None = Field(None, description="IANA time zone of the schedule; default UTC.")
    schedule: Text | None = Field(None, description="Five-field cron or a preset such as @daily; else once.")
    run_now: StrictBool | None = Field(None, description="Also start now; default true.")
    domain: Text | None = Field(
        None,
        description="DataHub domain: urn, id or name.",
    )
    tags: Annotated[list[Text], Field(max_length=MAX_TAGS)] | None = Field(
        None, description="DataHub tags; made, or refused, when missing."
    )
    owner_id: Text | None = Field(
        None, description="Owner user id, or `group:` and a group of the caller's; default the caller."
    )
    share_with: Annotated[list[Group], Field(max_length=50)] | None = Field(
        None,
        description="Groups of the caller's whose members see the job and may change it; an administrator's "
        "may be any, and `user:` with the subject of a person.",
        examples=[["sales"]],
    )
    column_transformations: Transformations | None = None
    delete_format: Literal["position", "vector", "copy-on-write"] | None = Field(
        None, description="In merge mode, how rows go; default: what `readers` read, else the deployment's."
    )
    readers: Annotated[list[Reader], Field(max_length=30)] | None = Field(
        None,
        description="In merge mode, the engines that read the tables, with or without a version.",
        examples=[["spark", "trino:455"]],
    )
    deletes: Literal["hard", "soft"] | None = Field(
        None, description="In merge mode, what becomes of rows that the source deleted: soft keeps them."
    )
    skip_unchanged: StrictBool | None = Field(
        None, description="In merge mode: rows that came again without a change are not written."
    )
    tables: Annotated[dict[Text, TableBody], Field(max_length=MAX_STREAMS)] | None = Field(
        None, description="By stream: partitions and sort order of a table that is made for it."
    )
    archive_staging: StrictBool | None = Field(None, description="Keep the raw records of each run.")
    add_ingestion_metadata: StrictBool | None = Field(None, description="Metadata columns; default true.")
    flow: FlowBody | None = Field(None, description="How the job's flow is run, and who is told of failures.")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not 1 <= len(value.strip()) <= 200 or not value.isprintable():
            raise _reject(
                "bad-name",
                "The name must have 1 to 200 printable characters.",
                "Choose a shorter, plain name.",
            )
        return value.strip()

    @field_validator("source_name")
    @classmethod
    def _source_name(cls, value: str) -> str:
        if not SOURCE_NAME.fullmatch(value) or len(value) > 100:
            raise _reject(
                "bad-source-name",
                "The source name is not the name of an Airbyte source.",
                "Use the connector's identifier, for example source-github.",
            )
        return value

    @field_validator("schema_name")
    @classmethod
    def _schema_name(cls, value: str) -> str:
        if namespace_parts(value) is None or len(value) > 255:
            raise _reject(
                "bad-schema-name",
                "Each part of schema_name must match [A-Za-z_][A-Za-z0-9_-]*.",
                "Use letters, digits, _ and -, and dots between nested namespaces.",
            )
        return value

    @field_validator("merge")
    @classmethod
    def _merge(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("mode", "merge") != "merge":
            raise _reject(
                "merge-without-merge-mode",
                f"`merge` names key columns, but the mode is {info.data['mode']}.",
                "Set mode to merge, or leave `merge` out.",
            )
        columns = [c.strip() for c in value.split(",")]
        if not all(columns):
            raise _reject(
                "bad-merge", "`merge` has an empty column name.", "Separate columns by single commas."
            )
        if len(set(columns)) != len(columns):
            raise _reject("bad-merge", "`merge` names a column twice.", "Name each key column once.")
        return ",".join(columns)

    @field_validator("delete_format", "readers", "deletes", "skip_unchanged")
    @classmethod
    def _merge_option(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - of several types
        if value is not None and info.data.get("mode", "merge") != "merge":
            raise _reject(
                "merge-without-merge-mode",
                f"`{info.field_name}` says how to merge, but the mode is {info.data['mode']}.",
                f"Set mode to merge, or leave `{info.field_name}` out.",
            )
        return value

    @field_validator("readers")
    @classmethod
    def _readers(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        wanted = info.data.get("delete_format")
        if value and wanted and (unread := cannot_read(wanted, value)):
            raise _reject(
                "reader-cannot-read",
                f"{', '.join(unread)} is not known to read the delete format {wanted}.",
                "Leave `delete_format` out to get one that all readers read, or give a newer version.",
            )
        return value

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str | None) -> str | None:
        if value is not None and (problem := check_timezone(value)):
            raise _reject("bad-timezone", problem, "Use a name such as Europe/Berlin or UTC.")
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        if value is not None and (problem := check_schedule(value)):
            raise _reject(
                "bad-schedule",
                problem,
                "Use five cron fields, for example `0 6 * * *`, or @hourly, @daily, ...",
            )
        return value

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
        try:
            return list(clean_tags(value))
        except ValueError as e:
            raise _reject("bad-tag", str(e), "Give tag names, or urns that start with urn:li:tag:.") from None

    @field_validator("owner_id")
    @classmethod
    def _owner(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or not value.isprintable()):
            raise _reject("bad-owner", "owner_id is blank.", "Give a user id, or leave it out.")
        return value

    def as_request(self, owner_id: str) -> IngestRequest:
        """The value that the rest of Airberg works from; the configuration is left behind."""
        return IngestRequest(
            name=self.name,
            source_name=self.source_name,
            source_version=self.source_version,
            schema_name=self.schema_name,
            mode=self.mode,
            streams=tuple(dict.fromkeys(self.streams or ())),
            merge=tuple(self.merge.split(",")) if self.merge else (),
            schedule=self.schedule,
            timezone=self.timezone or "UTC",
            run_now=self.run_now is not False,
            domain=self.domain or None,
            tags=tuple(self.tags or ()),
            owner_id=owner_id,
            share_with=shared_with(owner_id, self.share_with or ()),
            column_transformations=tuple(
                Transformation(**t.model_dump()) for t in self.column_transformations or ()
            ),
            delete_format=self.delete_format,
            readers=tuple(dict.fromkeys(self.readers)) if self.readers else None,
            deletes=self.deletes,
            skip_unchanged=self.skip_unchanged,
            tables=tuple(
                TableRequest(
                    stream=stream,
                    partition_by=tuple(table.partition_by or ()),
                    sort_by=tuple(table.sort_by or ()),
                )
                for stream, table in (self.tables or {}).items()
            ),
            archive_staging=bool(self.archive_staging),
            add_ingestion_metadata=self.add_ingestion_metadata is not False,
            flow=None if self.flow is None else self.flow.as_flow_request(),
        )
