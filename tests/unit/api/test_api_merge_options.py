"""The members of a body that say how to merge: their form, their mode, their readers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airberg.api.ingest import parse
from airberg.errors import InvalidRequest, Problem
from airberg.plan.model import IngestRequest

BODY = {
    "name": "n",
    "source_name": "source-x",
    "source_config": {},
    "schema_name": "shop",
    "mode": "merge",
}
OPTIONS: dict[str, Any] = {
    "delete_format": "position",
    "readers": ["spark", "trino:455"],
    "deletes": "soft",
    "skip_unchanged": False,
}


def request(**members: Any) -> IngestRequest:
    """A body as the rest of Airberg sees it."""
    return parse(json.dumps(BODY | members).encode()).as_request("ann")


def problems(**members: Any) -> list[Problem]:
    """What is wrong with a body."""
    with pytest.raises(InvalidRequest) as caught:
        parse(json.dumps(BODY | members).encode())
    return list(caught.value.problems)


def test_options_reach_the_request() -> None:
    """As they were sent; what was not sent is left to the deployment."""
    found = request(**OPTIONS)
    assert (found.delete_format, found.readers, found.deletes, found.skip_unchanged) == (
        "position",
        ("spark", "trino:455"),
        "soft",
        False,
    )
    for nothing in ({}, dict.fromkeys(OPTIONS), {"readers": []}):
        left = request(**nothing)
        assert (left.delete_format, left.readers, left.deletes, left.skip_unchanged) == (None,) * 4


@pytest.mark.parametrize("member", OPTIONS)
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_options_need_the_mode(member: str, mode: str) -> None:
    """As `merge` does; null says nothing."""
    [found] = problems(mode=mode, **{member: OPTIONS[member]})
    assert (found.pointer, found.code) == (f"/{member}", "merge-without-merge-mode")
    assert f"the mode is {mode}" in found.message
    assert request(mode=mode, **{member: None}).mode == mode


def test_all_options_are_looked_at() -> None:
    """One problem each."""
    found = problems(mode="append", **OPTIONS)
    assert [p.pointer for p in found] == [f"/{member}" for member in OPTIONS]


@pytest.mark.parametrize(
    ("reader", "guidance"),
    [("sparc", 'Did you mean "spark"'), ("trino:new", "an engine and its version"), ("snowflake:8", "leave")],
)
def test_an_unknown_reader_is_named_by_its_place(reader: str, guidance: str) -> None:
    """With the nearest engine, and without repeating what was sent."""
    [found] = problems(readers=["spark", reader])
    assert (found.pointer, found.code) == ("/readers/1", "unknown-reader")
    assert guidance in f"{found.message} {found.guidance}"
    assert reader not in f"{found.message} {found.guidance}"


@pytest.mark.parametrize(
    ("delete_format", "readers", "named"),
    [
        ("vector", ["spark", "starrocks", "trino:400"], "starrocks, trino:400"),
        ("position", ["databricks"], "databricks"),
    ],
)
def test_a_format_that_a_reader_does_not_read(delete_format: str, readers: list[str], named: str) -> None:
    """Names who cannot read it."""
    [found] = problems(delete_format=delete_format, readers=readers)
    assert (found.pointer, found.code) == ("/readers", "reader-cannot-read")
    assert found.message.startswith(f"{named} is not known to read")


def test_files_written_anew_are_read_by_all() -> None:
    """There is nothing to contradict."""
    assert request(delete_format="copy-on-write", readers=["daft"]).delete_format == "copy-on-write"


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("delete_format", "equality", "not-one-of"),
        ("delete_format", 2, "not-one-of"),
        ("readers", "spark", "wrong-type"),
        ("readers", ["spark"] * 31, "out-of-range"),
        ("deletes", "none", "not-one-of"),
        ("skip_unchanged", "yes", "wrong-type"),
        ("reader", ["spark"], "unknown-field"),
    ],
)
def test_forms(member: str, value: Any, code: str) -> None:
    """Each field has its type and its values; a misspelt one is refused."""
    [found] = problems(**{member: value})
    assert (found.pointer, found.code) == (f"/{member}", code)
