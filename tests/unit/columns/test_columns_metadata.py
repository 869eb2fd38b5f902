"""Metadata columns: their ids."""

from __future__ import annotations

import os
import time
from uuid import UUID

from airberg.columns.compiled import compiled
from airberg.columns.metadata import METADATA_FIELDS, UUID_LENGTH, uuid7_block, uuid7_in_python
from airberg.plan.names import METADATA_COLUMNS


def test_names_are_those_that_the_planner_reserves() -> None:
    """What the planner keeps columns from being named is what is added."""
    assert tuple(f.name for f in METADATA_FIELDS) == METADATA_COLUMNS


def test_ids_are_uuids_of_version_7() -> None:
    """Version, variant and time are right, and no two are equal."""
    before = time.time_ns() // 1_000_000
    block = uuid7_block(2_000).decode()
    after = time.time_ns() // 1_000_000
    texts = [block[i : i + UUID_LENGTH] for i in range(0, len(block), UUID_LENGTH)]
    ids = [UUID(t) for t in texts]
    assert [str(i) for i in ids] == texts
    assert {i.version for i in ids} == {7}
    assert {i.variant for i in ids} == {"specified in RFC 4122"}
    assert all(before <= i.int >> 80 <= after for i in ids)
    assert len(set(ids)) == 2_000


def test_both_ways_make_the_same() -> None:
    """Compiled or not, the same bits make the same ids."""
    random = os.urandom(10 * 500)
    assert compiled is not None
    assert compiled.uuid7(2**48 - 1, random) == uuid7_in_python(2**48 - 1, random)
    assert compiled.uuid7(0, b"\xff" * 10) == uuid7_in_python(0, b"\xff" * 10)


def test_every_free_digit_is_random() -> None:
    """No position beside time, version and hyphens stays the same."""
    block = uuid7_block(2_000)
    places = [set(block[p::UUID_LENGTH]) for p in range(UUID_LENGTH)]
    assert all(len(places[p]) == 16 for p in (15, 16, 17, 20, 21, 22, *range(24, 36)))
    assert places[19] == set(b"89ab")
    assert places[14] == set(b"7")


def test_no_ids() -> None:
    """An empty batch has none."""
    assert uuid7_block(0) == b""
