"""The members of a transformation: their form, and the types that they are for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airberg.api.ingest import parse
from airberg.errors import InvalidRequest, Problem
from airberg.plan.model import Transformation

BODY = {
    "name": "n",
    "source_name": "source-x",
    "source_config": {},
    "schema_name": "shop",
    "mode": "append",
}
MEMBERS: dict[str, tuple[str, Any]] = {
    "encryption_mode": ("encrypt", "deterministic"),
    "keep_last": ("mask", 0),
    "mask_char": ("mask", "é"),
}


def body(**members: Any) -> bytes:
    """A body with one transformation."""
    return json.dumps(BODY | {"column_transformations": [{"column": "c"} | members]}).encode()


def request(**members: Any) -> Transformation:
    """A transformation as the rest of Airberg sees it."""
    [found] = parse(body(**members)).as_request("ann").column_transformations
    return found


def problems(**members: Any) -> list[Problem]:
    """What is wrong with a transformation."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body(**members))
    return list(caught.value.problems)


@pytest.mark.parametrize("member", MEMBERS)
def test_members_reach_the_request(member: str) -> None:
    """As they were sent; null says nothing, whatever the type."""
    kind, value = MEMBERS[member]
    assert getattr(request(transformation_type=kind, **{member: value}), member) == value
    for other in ("encrypt", "hash", "mask", "drop"):
        assert getattr(request(transformation_type=other, **{member: None}), member) is None


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("kind", ["encrypt", "hash", "mask", "rename"])
def test_a_member_of_another_type_is_refused(member: str, kind: str) -> None:
    """What is asked for is never left out in silence: a column could stay in clear."""
    wanted, value = MEMBERS[member]
    if kind == wanted:
        return
    [found] = problems(transformation_type=kind, **{member: value})
    assert (found.pointer, found.code) == (f"/column_transformations/0/{member}", "not-for-this-type")
    assert kind in found.message
    assert wanted in found.guidance


@pytest.mark.parametrize(
    ("kind", "member", "value", "code"),
    [
        ("encrypt", "encryption_mode", "always", "not-one-of"),
        ("mask", "keep_last", -1, "out-of-range"),
        ("mask", "keep_last", 1_001, "out-of-range"),
        ("mask", "keep_last", "4", "wrong-type"),
        ("mask", "keep_last", True, "wrong-type"),
        ("mask", "mask_char", "", "bad-mask-char"),
        ("mask", "mask_char", "**", "bad-mask-char"),
        ("mask", "mask_char", "\n", "bad-mask-char"),
        ("mask", "mask_char", "*" * 11, "out-of-range"),
        ("masks", "keep_last", 4, "not-one-of"),
    ],
)
def test_members_of_another_form(kind: str, member: str, value: object, code: str) -> None:
    """Each is named with its place."""
    [found] = problems(transformation_type=kind, **{member: value})
    assert found.code == code
    assert found.pointer.startswith("/column_transformations/0/")
