"""The checkpoint note: what is stored is read again, sealed or not, and damage is told."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.keys.seal import Sealer
from airberg.lake.catalog import memory_catalog
from airberg.lake.note import Note, decode_note, identity_of, note_update, property_name, read_note
from airberg.lake.promise import Promise, PromisedFile, keep_aside, promised_files
from support.lake_tables import FIELDS, JOB, users

JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(exclude_categories=("Cs",))),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("abc"), inner, max_size=3)),
    max_leaves=10,
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    """An empty table."""
    catalog = memory_catalog(tmp_path)
    yield users(catalog, FIELDS)
    catalog.close()


def test_a_note_of_an_older_version_is_read() -> None:
    """It knows nothing of shared checkpoints."""
    stored = {"v": 1, "run_id": "r", "attempt": 1, "number": 4, "state": {"a": 1}, "rows": 3}
    text = base64.b64encode(zlib.compress(json.dumps(stored).encode())).decode()
    assert decode_note(text, JOB) == Note(run_id="r", attempt=1, number=4, state={"a": 1}, rows=3)


def test_a_note_with_promises_is_read_as_it_was_written() -> None:
    """Also when the state is sealed: promises hold no values."""
    promise = Promise(
        table=("shop", "b"),
        table_uuid="u",
        before=("r", 1, 3),
        number=4,
        rows=2,
        destination_records=2,
        files=(PromisedFile("b/data/1.parquet", 2, 700),),
    )
    note = Note(run_id="r", attempt=1, number=9, state={"a": 1}, shared=5, leads=True, destination_records=1)
    note = msgspec.structs.replace(note, promises=(promise, msgspec.structs.replace(promise, before=None)))
    for sealer in (None, Sealer([b"k" * 32])):
        [text] = note_update(JOB, note, sealer).values()
        assert decode_note(text, JOB, sealer) == note


def test_a_long_list_of_files_lies_next_to_the_table(table: Table) -> None:
    """The note names it; what is not what it was is an error."""
    files = tuple(PromisedFile(f"{random.Random(i).random()}", i, i) for i in range(2000))
    promise = Promise(table=table.name(), table_uuid="u", before=None, number=1, files=files)
    kept = keep_aside(table, promise)
    assert kept.files == ()
    assert kept.files_in is not None
    assert promised_files(table, kept) == files
    Path(kept.files_in.path.removeprefix("file://")).write_bytes(b"other")
    with pytest.raises(ConfigurationFailed, match="damaged"):
        promised_files(table, kept)
    few = msgspec.structs.replace(promise, files=files[:3])
    assert promised_files(table, keep_aside(table, few)) == files[:3]


@settings(max_examples=60, deadline=None)
@given(
    state=JSON_VALUES, run_id=st.text("abc-", min_size=1), number=st.integers(1, 2**40), sealed=st.booleans()
)
def test_a_note_is_read_as_it_was_written(state: object, run_id: str, number: int, sealed: bool) -> None:
    """Any state that JSON can hold, in the clear or sealed."""
    sealer = Sealer([b"k" * 32]) if sealed else None
    note = Note(
        run_id=run_id,
        attempt=2,
        number=number,
        generation_id=3,
        sync_id=9,
        state=state,
        complete=True,
        rows=7,
    )
    (name, text), *more = note_update(JOB, note, sealer).items()
    assert more == []
    assert name == property_name(JOB)
    assert decode_note(text, JOB, sealer) == note
    assert identity_of(text) == note.identity


def test_each_job_has_its_own_note(table: Table) -> None:
    """Several jobs write one table; a job's id may be a UUID or its text."""
    assert read_note(table, JOB) is None
    for job, number in ((JOB, 1), ("other", 2)):
        with table.transaction() as transaction:
            transaction.set_properties(note_update(job, Note(run_id="r", attempt=1, number=number)))
    assert read_note(table, UUID(JOB)) == Note(run_id="r", attempt=1, number=1)
    assert read_note(table, "other") == Note(run_id="r", attempt=1, number=2)


def test_a_sealed_state_is_not_in_the_property(table: Table) -> None:
    """Neither its text nor its compressed form; the rest of the note stays readable."""
    sealer = Sealer([b"k" * 32])
    note = Note(run_id="r", attempt=1, number=1, state={"cursor": "4711-secret"})
    text = note_update(JOB, note, sealer)[property_name(JOB)]
    assert b"4711" not in zlib.decompress(base64.b64decode(text))
    with pytest.raises(ConfigurationFailed, match="no key"):
        decode_note(text, JOB)


def test_a_sealed_state_does_not_open_elsewhere() -> None:
    """With another key, or copied to another job."""
    text = note_update(JOB, Note(run_id="r", attempt=1, number=1, state=1), Sealer([b"k" * 32]))[
        property_name(JOB)
    ]
    for job, key in ((JOB, b"x" * 32), ("other", b"k" * 32)):
        with pytest.raises(ConfigurationFailed):
            decode_note(text, job, Sealer([key]))


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not zlib").decode(),
        base64.b64encode(zlib.compress(b"not json")).decode(),
        base64.b64encode(zlib.compress(b'{"v":1}')).decode(),
        base64.b64encode(
            zlib.compress(json.dumps({"v": 2, "run_id": "r", "attempt": 1, "number": 1}).encode())
        ).decode(),
    ],
)
def test_a_note_that_cannot_be_read_stops_the_run(text: str) -> None:
    """Starting from the beginning without being asked would double rows."""
    with pytest.raises(ConfigurationFailed) as caught:
        decode_note(text, JOB)
    assert caught.value.code == "checkpoint-unreadable"
