"""What changes between two plans of a job."""

from __future__ import annotations

from typing import Any

import msgspec

from airberg.plan.model import IngestRequest, JobPlan
from airberg.plan.planner import Connector, build_plan
from airberg.plan.stream_changes import breaking_changes, stream_changes
from support.key_directory import keys_named

NUMBER, TEXT = {"type": "integer"}, {"type": "string"}


def a_stream(name: str, key: str = "id", cursor: str | None = "id", **columns: Any) -> dict[str, Any]:
    """A stream as discovered."""
    return {
        "name": name,
        "json_schema": {"type": "object", "properties": {"id": NUMBER, "code": TEXT} | columns},
        "supported_sync_modes": ["full_refresh", "incremental"] if cursor else ["full_refresh"],
        "source_defined_cursor": cursor is not None,
        "default_cursor_field": [cursor] if cursor else [],
        "source_defined_primary_key": [[key]],
    }


def a_plan(*streams: dict[str, Any]) -> JobPlan:
    """A plan that merges all of them."""
    request = IngestRequest(name="n", source_name="source-x", schema_name="s", mode="merge")
    return build_plan(request, Connector("source-x", "1", streams, 0.0), keys_named("default"))


def test_columns_streams_and_cursor() -> None:
    """Nested columns by their path; a stream that is new says where it goes."""
    lines = {"type": "array", "items": {"type": "object", "properties": {"sku": TEXT}}}
    old = a_plan(a_stream("orders", amount=NUMBER, gone=TEXT), a_stream("old"))
    more = {"type": "array", "items": {"type": "object", "properties": {"sku": TEXT, "n": NUMBER}}}
    before = a_plan(a_stream("orders", lines=lines))
    assert stream_changes(before, a_plan(a_stream("orders", lines=more))) == ["orders: + lines[].n long"]
    new = a_plan(a_stream("orders", cursor=None, amount={"type": "number"}, note=TEXT), a_stream("fresh"))
    assert stream_changes(old, new) == [
        "+ fresh, into a new table fresh",
        "- old",
        "orders: ~ amount long becomes double",
        "orders: + note string",
        "orders: - gone string",
        "orders: ~ cursor: id becomes none",
        "orders: ~ read: incremental becomes full_refresh",
    ]
    assert breaking_changes(old, new) == ["The stream old is gone: its table old would get no new rows."]


def test_equal_plans() -> None:
    """Nothing to say, nothing in the way."""
    plan = a_plan(a_stream("orders"))
    assert (stream_changes(plan, plan), breaking_changes(plan, plan)) == ([], [])


def test_another_merge_key_or_table_is_in_the_way() -> None:
    """Rows would come twice, or would go elsewhere."""
    old, new = a_plan(a_stream("orders")), a_plan(a_stream("orders", key="code"))
    assert stream_changes(old, new) == ["orders: ~ primary key: id becomes code"]
    (sentence,) = breaking_changes(old, new)
    assert sentence.startswith("The stream orders would be merged by code, not id")
    elsewhere = msgspec.structs.replace(
        old, streams=(msgspec.structs.replace(old.streams[0], table="orders_2"),)
    )
    assert breaking_changes(old, elsewhere) == [
        "The stream orders would go into the table orders_2, not orders."
    ]
