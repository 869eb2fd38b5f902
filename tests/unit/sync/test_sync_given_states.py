"""States that somebody gives: what is taken, and what is said of the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.errors import InvalidRequest
from airberg.plan.model import JobPlan
from airberg.protocol.state import StateKey
from airberg.sync.given_states import MAX_STATE_BYTES, check_states, find_streams
from support.jobs import a_plan

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def plan() -> JobPlan:
    """Streams `users`, `sales.users`, `orders`, and `full`, which is read in full."""
    [users] = a_plan().streams
    replace = msgspec.structs.replace
    streams = (
        users,
        replace(users, namespace="sales", table="sales_users"),
        replace(users, name="orders", table="orders"),
        replace(users, name="full", table="full", sync_mode="full_refresh"),
    )
    return replace(a_plan(), streams=streams)


def own(name: str, state: Any = None, **descriptor: Any) -> dict[str, Any]:
    """A state of one stream."""
    body = {"stream_descriptor": {"name": name, **descriptor}, "stream_state": state}
    return {"type": "STREAM", "stream": body}


def common(*names: str, shared: Any = None) -> dict[str, Any]:
    """A state of several streams."""
    states = [{"stream_descriptor": {"name": n}, "stream_state": {"n": 1}} for n in names]
    return {"type": "GLOBAL", "global": {"shared_state": shared, "stream_states": states}}


def problems(*messages: Any) -> list[tuple[str, str]]:
    """Place and code of each thing that is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        check_states(messages, plan())
    return [(p.pointer, p.code) for p in refused.value.problems]


def test_states_are_taken_with_their_places() -> None:
    """Streams of one name in two namespaces are two; what is around a state is left out."""
    given_ = check_states([common("users"), own("users", {"a": 1}, namespace="sales") | {"x": 1}], plan())
    assert given_.common is not None
    assert (given_.common[0], given_.common[1].streams) == (0, (StateKey(None, "users"),))
    place, state = given_.own[StateKey("sales", "users")]
    assert (place, b'"x"' in state.raw, b'{"a":1}' in state.raw) == (1, False, True)
    legacy = check_states([{"type": "LEGACY", "data": {"cursor": 1}}], plan())
    assert legacy.common is not None
    assert legacy.common[1].kind == "legacy"


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([], [("/states", "out-of-range")]),
        ([own("nobody")], [("/states/0", "unknown-stream")]),
        ([own("users"), own("full")], [("/states/1", "stream-without-state")]),
        ([own("users"), own("users")], [("/states/1", "state-given-twice")]),
        ([common("users"), common("orders")], [("/states/1", "state-given-twice")]),
        (
            [common("users", "nobody", "full")],
            [("/states/0", "unknown-stream"), ("/states/0", "stream-without-state")],
        ),
        ([own("users", "text")], [("/states/0", "bad-state")]),
        ([common("users", shared=[1])], [("/states/0", "bad-state")]),
        ([{"type": "STREAM"}, {"type": "OTHER"}, {}, 7], [(f"/states/{i}", "bad-state") for i in range(4)]),
        ([own("users", {"t": "\ud800"})], [("/states/0", "bad-state")]),
        ([own("users", {"t": "x" * MAX_STATE_BYTES})], [("/states/0", "state-too-large")]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(messages: list[Any], found: list[tuple[str, str]]) -> None:
    """All of it at once."""
    assert problems(*messages) == found


def test_no_message_repeats_a_state() -> None:
    """It may hold values of rows."""
    with pytest.raises(InvalidRequest) as refused:
        check_states([own("users", "s3cret-value"), {"type": "s3cret-value"}], plan())
    assert "s3cret-value" not in str([p.as_dict() for p in refused.value.problems])


@given(st.lists(ANYTHING, max_size=4))
def test_anything_is_taken_or_refused(messages: list[Any]) -> None:
    """Never with another error."""
    with contextlib.suppress(InvalidRequest):
        assert check_states(messages, plan())


def test_streams_by_name() -> None:
    """By `namespace.name`, or by a name that only one has."""
    assert [s.table for s in find_streams(plan(), ["users", "sales.users", "orders"])] == [
        "users",
        "sales_users",
        "orders",
    ]
    with pytest.raises(InvalidRequest) as refused:
        find_streams(plan(), ["nobody", "full"])
    assert [p.code for p in refused.value.problems] == ["unknown-stream", "stream-without-state"]
