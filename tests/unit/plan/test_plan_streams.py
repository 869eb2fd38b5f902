"""Selection of streams and the names of their tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.errors import Problem
from airberg.plan.model import IngestRequest
from airberg.plan.names import collisions, namespace_parts, table_name
from airberg.plan.streams import select_streams


def request(**changes: Any) -> IngestRequest:
    """A valid request, changed."""
    base = {"name": "n", "source_name": "source-x", "schema_name": "s", "mode": "append"}
    return IngestRequest(**(base | changes))


def stream(name: str, **members: Any) -> dict[str, Any]:
    """An AirbyteStream as a connector offers it."""
    return {
        "name": name,
        "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}}},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["updated_at"],
    } | members


def test_all_streams_when_none_are_named() -> None:
    """Null and empty mean all, in the connector's order."""
    problems: list[Problem] = []
    chosen = select_streams(request(), [stream("b"), stream("a")], problems)
    assert [s.name for s in chosen] == ["b", "a"]
    assert problems == []


def test_unknown_stream_names_the_nearest() -> None:
    """A misspelt stream is refused with the connector's real names."""
    problems: list[Problem] = []
    select_streams(request(streams=("user", "users")), [stream("users"), stream("orders")], problems)
    assert [p.pointer for p in problems] == ["/streams/0"]
    assert '"users"' in problems[0].guidance
    assert "orders" in problems[0].guidance


@pytest.mark.parametrize(
    ("mode", "members", "expected"),
    [
        ("append", {}, "incremental"),
        ("merge", {}, "incremental"),
        ("overwrite", {}, "full_refresh"),
        ("append", {"supported_sync_modes": ["full_refresh"]}, "full_refresh"),
        ("append", {"source_defined_cursor": False, "default_cursor_field": []}, "full_refresh"),
        ("append", {"source_defined_cursor": False, "default_cursor_field": ["x"]}, "incremental"),
        ("append", {"source_defined_cursor": True, "default_cursor_field": []}, "incremental"),
        ("overwrite", {"supported_sync_modes": ["incremental"]}, "incremental"),
        ("append", {"supported_sync_modes": None}, "full_refresh"),
    ],
)
def test_sync_mode(mode: str, members: dict[str, Any], expected: str) -> None:
    """Incremental wherever the stream can; overwrite always in full."""
    [chosen] = select_streams(request(mode=mode), [stream("s", **members)], [])
    assert chosen.sync_mode == expected


def test_streams_that_share_a_name_get_their_namespace() -> None:
    """Two streams of one name fill two tables."""
    offered = [stream("users", namespace="eu"), stream("users", namespace="us"), stream("x", namespace="eu")]
    chosen = select_streams(request(), offered, [])
    assert [s.table for s in chosen] == ["eu_users", "us_users", "x"]


def test_one_of_two_streams_that_share_a_name() -> None:
    """`namespace.name` selects just that one, which then needs no prefix."""
    offered = [stream("users", namespace="eu"), stream("users", namespace="us")]
    chosen = select_streams(request(streams=("us.users",)), offered, [])
    assert [(s.namespace, s.table) for s in chosen] == [("us", "users")]


def test_tables_that_collide_are_refused() -> None:
    """Two streams must not write one table because of how names are cleaned."""
    problems: list[Problem] = []
    select_streams(request(), [stream("my-users"), stream("My_Users")], problems)
    assert [p.code for p in problems] == ["table-name-collision"]


def test_a_source_without_streams_is_said() -> None:
    """An empty catalog is an error that points at the configuration."""
    problems: list[Problem] = []
    select_streams(request(), [], problems)
    assert [p.code for p in problems] == ["no-streams"]


@given(st.text(max_size=40))
def test_table_names_are_identifiers(text: str) -> None:
    """Whatever a stream is called, its table can be named in SQL without quotes."""
    name = table_name(text)
    assert name.isidentifier()
    assert name.isascii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a.b_c-d", ("a", "b_c-d")),
        ("1a", None),
        ("a..b", None),
        ("", None),
        ("a b", None),
        ("ä", None),
    ],
)
def test_namespace_parts(text: str, expected: tuple[str, ...] | None) -> None:
    """Parts match what the contract says."""
    assert namespace_parts(text) == expected


def test_collisions_ignore_case() -> None:
    """Engines that fold case would see one column twice."""
    assert collisions({"a": "Id", "b": "id", "c": "x"}) == [("Id", ["a", "b"])]
