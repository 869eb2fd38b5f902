"""Tables over HTTP, for who sees a job that fills them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, is_visible
from airberg.api.states import id_text, job_tables, moment
from airberg.errors import NotFound
from airberg.identity.principal import Principal
from airberg.sync.job_tables import ShownSnapshot, ShownTable

router = APIRouter(tags=["tables"], responses=PROBLEM_RESPONSES)

SchemaName = Annotated[
    str, Path(alias="schema", max_length=500, description="The namespace; dots between its levels.")
]
TableName = Annotated[str, Path(alias="table", max_length=500)]


class ColumnView(BaseModel):
    """A column, or a field of a struct."""

    name: str = Field(description="Dotted path.")
    type: str
    required: bool
    doc: str | None
    protection: str | None = Field(description="encrypted, hashed or masked; null: in clear.")
    key: str | None = Field(description="Name of the encryption key.")
    plain_type: str | None = Field(description="Type before it was protected.")


class SnapshotView(BaseModel):
    """A snapshot of a table."""

    snapshot_id: str
    parent_id: str | None
    at: datetime
    operation: str
    current: bool = Field(description="It is the one that readers see.")
    rows_added: int
    rows_deleted: int
    rows_total: int
    job_id: str | None = Field(description="The job that made it; null: upkeep, or another writer.")
    flow_run_id: str | None
    checkpoint: int | None
    act: str | None = Field(description="rewind or state, where it was no run that committed.")
    upkeep: str | None = Field(description="compact or manifests: what upkeep did.")


class TableView(BaseModel):
    """A table as it is."""

    table: str
    location: str
    format_version: int
    columns: list[ColumnView]
    partition_by: list[str]
    sort_by: list[str]
    identifier: list[str]
    rows: int = Field(description="By the counts of the current snapshot.")
    bytes: int = Field(description="Of data and delete files.")
    data_files: int
    delete_files: int
    owner: str | None
    comment: str | None
    jobs: list[str] = Field(description="Ids of the jobs that have written to it.")
    snapshot_count: int
    snapshots: list[SnapshotView] = Field(description="The newest, newest first.")
    preview: list[dict[str, Any]] | None = Field(
        description="Some rows, in no particular order; long values are cut, encrypted ones are not shown."
    )


@router.get("/api/tables/{schema}/{table}", response_model=TableView)
def get_table(
    request: Request,
    schema: SchemaName,
    table: TableName,
    caller: Reads,
    snapshots: Annotated[int, Query(ge=0, le=500, description="How many snapshots are listed.")] = 20,
    preview: Annotated[int, Query(ge=0, le=100, description="How many rows are shown.")] = 0,
) -> TableView:
    """A table: columns, how they are protected, sizes, snapshots, and some rows."""
    _refuse_strangers(Rooms(request), f"{schema}.{table}", caller)
    with job_tables(request) as tables:
        return _view(tables.table(schema, table, snapshots=snapshots, preview=preview))


def _refuse_strangers(rooms: Rooms, name: str, caller: Principal) -> None:
    """Who sees no job that fills a table does not learn whether there is one.

    Raises:
        NotFound: The caller is one.
    """
    if caller.is_admin or any(is_visible(j, caller) for j in rooms.store.jobs_filling([name.casefold()])):
        return
    raise NotFound("There is no such table that a job of yours fills.", guidance="Check schema and name.")


def _view(shown: ShownTable) -> TableView:
    changed = {
        "columns": [ColumnView(**msgspec.structs.asdict(column)) for column in shown.columns],
        "snapshots": [_snapshot(snapshot) for snapshot in shown.snapshots],
        "preview": None if shown.preview is None else list(shown.preview),
    }
    return TableView(**(msgspec.structs.asdict(shown) | changed))


def _snapshot(shown: ShownSnapshot) -> SnapshotView:
    facts = msgspec.structs.asdict(shown)
    changed = {name: id_text(facts[name]) for name in ("snapshot_id", "parent_id")}
    return SnapshotView(**(facts | changed), at=moment(shown.at_ms))
