"""Differences of states: what is told, applied to the one state, gives the other."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airberg.jobs.state_diff import MAX_CHANGES, Change, state_diff

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b/c", "~d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c", "~"]), inner),
    max_leaves=10,
)


def test_members_are_told_by_pointers() -> None:
    """Names are escaped, places of lists are numbers, and types count."""
    before = {"cursor": 1, "old/one": "x", "same": [1, {"a": True}], "parts": ["p"], "one": 1}
    after = {"cursor": 2, "new~": None, "same": [1, {"a": True}], "parts": ["p", "q"], "one": True}
    found = state_diff(before, after)
    assert found.changed == [Change("/cursor", 1, 2), Change("/one", 1, True)]
    assert sorted(found.added, key=lambda c: c.pointer) == [
        Change("/new~0", after=None),
        Change("/parts/1", after="q"),
    ]
    assert found.removed == [Change("/old~1one", before="x")]
    assert state_diff({"a": []}, {"a": {}}).changed == [Change("/a", [], {})]
    assert state_diff(1, 2).changed == [Change("", 1, 2)]


def test_differences_are_bounded() -> None:
    """Further ones are counted."""
    found = state_diff({}, {str(n): n for n in range(MAX_CHANGES + 5)})
    assert (len(found.added), found.more) == (MAX_CHANGES, 5)


def test_deep_values_are_compared() -> None:
    """However deep."""
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    [change] = state_diff(deep, json.loads(json.dumps(deep).replace("1", "2"))).changed
    assert change.pointer == "/0" * 32


def applied(before: Any, found: Any) -> Any:
    """The state before, with the differences."""
    value = copy.deepcopy(before)
    for change in found.changed:
        if not change.pointer:
            return change.after
        *path, last = _parts(change.pointer)
        _at(value, path)[_key(value, path, last)] = change.after
    for change in sorted(found.removed, key=lambda c: _order(c.pointer), reverse=True):
        *path, last = _parts(change.pointer)
        del _at(value, path)[_key(value, path, last)]
    for change in sorted(found.added, key=lambda c: _order(c.pointer)):
        *path, last = _parts(change.pointer)
        holder = _at(value, path)
        holder.append(change.after) if isinstance(holder, list) else holder.update({last: change.after})
    return value


def _parts(pointer: str) -> list[str]:
    return [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]]


def _order(pointer: str) -> list[tuple[int, str]]:
    return [(len(p), p) for p in _parts(pointer)]


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _key(value: Any, path: list[str], last: str) -> Any:
    return int(last) if isinstance(_at(value, path), list) else last


@given(before=VALUES, after=VALUES)
def test_differences_lead_from_one_to_the_other(before: Any, after: Any) -> None:
    """Nothing is missing, and nothing is told that is the same."""
    found = state_diff(before, after)
    assert json.dumps(applied(before, found), sort_keys=True) == json.dumps(after, sort_keys=True)
    if json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):
        assert [*found.added, *found.changed, *found.removed] == []
