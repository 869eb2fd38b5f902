"""The page of casts says what the code does; `make test-spark` checks its last column."""

from __future__ import annotations

import pytest

from airberg.columns.targets import TARGET_TYPES, cast_problem, parse_target_type
from support.cast_examples import CASTS, Example, cast_outcome, examples, parsed_type, shown

KINDS = {
    "numbers": ["byte", "short", "int", "long", "float", "double", "decimal"],
    "boolean": ["boolean"],
    "timestamps": ["timestamp", "timestamp_ntz"],
    "date": ["date"],
    "time": ["time"],
    "binary": ["binary"],
}


def test_possible_casts() -> None:
    """The table is complete: what it does not have is refused, except text, JSON and the same type."""
    allowed = {(row[0], kind) for row in CASTS.table("What can be cast") for kind in row[1].split(", ")}
    for source_kind, sources in KINDS.items():
        for target_kind, targets in KINDS.items():
            for source in map(parse_target_type, sources):
                for target in map(parse_target_type, targets):
                    possible = cast_problem(source, target) is None
                    wanted = source == target or (source_kind, target_kind) in allowed
                    assert possible == wanted, f"{source} to {target}"
        for source in map(parse_target_type, sources):
            assert cast_problem(source, parse_target_type("string")) is None
            assert cast_problem(source, parse_target_type("json")) is None


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_values_of_casts(example: Example) -> None:
    """Each value of the page becomes what it says. Spark's column is checked by `make test-spark`."""
    assert shown(*cast_outcome(example.source, example.target, example.value)) == example.becomes


def test_every_possible_cast_has_an_example() -> None:
    """Of each type that a column can have, to each type that it can be cast to."""
    declared = ["string", "json", "boolean", "long", "double", "decimal(5,2)", "date", "time", "timestamp"]
    sources = [*map(parsed_type, [*declared, "timestamptz", "binary", "struct<a: long>", "list<long>"])]
    shown_pairs = {(e.source, parse_target_type(e.target.partition("(")[0])) for e in examples()}
    possible = {(s, t) for s in sources for t in TARGET_TYPES.values() if cast_problem(s, t) is None}
    assert possible <= shown_pairs
