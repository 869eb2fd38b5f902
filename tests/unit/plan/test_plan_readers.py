"""Readers: which engines read which delete format, and what that makes of a list of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.plan.readers import (
    ENGINES,
    READS,
    Reads,
    cannot_read,
    delete_format_for,
    reader_problem,
    reads,
)
from support.pages import Page

PAGE = Page("docs/how-to/merge.md")
WORDS = {True: "yes", False: "no", None: "not known"}
versions = st.lists(st.integers(0, 999), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
readers = st.sampled_from(READS).map(lambda row: f"{row.engine}:{row.since}" if row.since else row.engine)


def test_the_page_and_the_code_say_the_same() -> None:
    """Engine, version and both answers; what is known has a source, what has none is not known."""
    table = PAGE.table("What reads what")
    assert [row[:4] for row in table] == [
        [f"`{r.engine}`", r.since, WORDS[r.position], WORDS[r.vector]] for r in READS
    ]
    for engine, _, position, vector, source in table:
        known = {position, vector} != {"not known"}
        assert ("](https://" in source) == known, engine
        assert (source == "none found") != known, engine


def test_rows_of_an_engine_are_together_and_in_order() -> None:
    """The last row of an engine is its newest; an engine has versions in all rows or in the only one none."""
    seen = [row.engine for row in READS]
    assert seen == sorted(seen)
    for engine in ENGINES:
        rows = [row for row in READS if row.engine == engine]
        numbers = [tuple(map(int, row.since.split("."))) for row in rows if row.since]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == len(rows) or len(rows) == 1


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        ("trino", (True, True)),
        ("Trino:480", (True, True)),
        ("trino:v479", (True, None)),
        ("trino:376", (True, None)),
        ("trino:375", (None, None)),
        ("trino:1000.1", (True, True)),
        ("spark:1.8", (True, True)),
        ("spark:1.7.9", (True, None)),
        ("starrocks:4", (True, False)),
        ("snowflake", (True, True)),
        ("databricks", (None, True)),
        ("daft", (None, None)),
    ],
)
def test_a_version_counts_from_its_row_on(reader: str, expected: tuple[bool | None, bool | None]) -> None:
    """Versions compare by number; before the first row nothing is known."""
    found = reads(reader)
    assert (found.position, found.vector) == expected


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ("sparc", '"spark"'),
        ("clickhose", '"clickhouse"'),
        ("no such engine at all", "an engine and its version"),
        ("trino:new", "an engine and its version"),
        ("trino:", "an engine and its version"),
        ("snowflake:8", "leave the version out"),
        ("", "an engine and its version"),
    ],
)
def test_what_is_no_reader_is_told_so(reader: str, words: str) -> None:
    """With the nearest name, or with what a reader looks like; and nothing is known of it."""
    problem = reader_problem(reader)
    assert problem is not None
    assert words in problem


@given(reader=st.text(max_size=30) | readers)
def test_any_text_is_a_reader_or_refused(reader: str) -> None:
    """Nothing that passes the check fails later; a name that it refuses is not looked up."""
    problem = reader_problem(reader)
    if problem is None:
        assert isinstance(reads(reader), Reads)
    elif "not told apart" not in problem:
        with pytest.raises(ValueError, match="not a reader"):
            reads(reader)


@given(asked=st.lists(readers, max_size=6))
def test_all_readers_read_what_is_chosen(asked: list[str]) -> None:
    """Position deletes wherever all read them, files written anew only where nothing else is read by all."""
    chosen = delete_format_for(asked)
    assert cannot_read(chosen, asked) == []
    if chosen != "position":
        assert cannot_read("position", asked)
    if chosen == "copy-on-write":
        assert cannot_read("vector", asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((), "position"),
        (("spark", "trino", "duckdb", "snowflake"), "position"),
        (("databricks", "spark"), "vector"),
        (("databricks", "starrocks"), "copy-on-write"),
        (("daft",), "copy-on-write"),
        (("databricks", "trino:376"), "copy-on-write"),
    ],
)
def test_the_format_follows_the_readers(asked: tuple[str, ...], expected: str) -> None:
    """Position first, vectors where these are what all read, else no deletes at all."""
    assert delete_format_for(asked) == expected
    assert cannot_read("copy-on-write", asked) == []


def test_the_reader_that_cannot_read_is_named() -> None:
    """In the order of the request, as it was written."""
    assert cannot_read("vector", ["trino:400", "spark", "StarRocks"]) == ["trino:400", "StarRocks"]


@given(first=versions, second=versions)
def test_a_newer_version_reads_what_an_older_one_reads(first: str, second: str) -> None:
    """Within what the table says of one engine."""

    def number(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    older, newer = sorted((first, second), key=number)
    for engine in ("spark", "trino", "impala"):
        before, after = reads(f"{engine}:{older}"), reads(f"{engine}:{newer}")
        assert not (before.position and not after.position)
        assert not (before.vector and not after.vector)
