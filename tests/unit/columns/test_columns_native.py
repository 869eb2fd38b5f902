"""The compiled reader: whatever a connector writes, the rows are those that Python alone makes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns import _records
from airberg.columns.batch import BatchBuilder
from airberg.columns.compiled import available
from airberg.columns.json_schema import stream_fields
from airberg.columns.native import NativeBuilder, NativeReader
from airberg.errors import TransientFailed
from airberg.plan.model import StreamPlan
from airberg.plan.protection import ProtectionContext
from airberg.plan.transformations import plan_columns
from airberg.protocol.messages import Record, decode, record_changes
from airberg.protocol.state import StateKey
from support.column_batches import dictionaries

SCHEMA: dict[str, Any] = {
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": ["null", "string"]},
        "score": {"type": "number"},
        "on": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "naive": {
            "type": "string",
            "format": "date-time",
            "airbyte_type": "timestamp_without_timezone",
        },
        "big": {"type": "integer", "airbyte_type": "big_integer"},
        "any": {"type": ["string", "integer"]},
        "free": {"type": "object"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}, "j": {"type": "object"}},
            },
        },
        "deep": {
            "type": "object",
            "properties": {
                "a": {"type": "object", "properties": {"b": {"type": "number"}, "é": {"type": "string"}}},
                "day": {"type": "string", "format": "date"},
            },
        },
        "clé": {"type": "integer"},
    }
}
STREAMS = [StateKey(None, "users"), StateKey("sales", "users"), StateKey(None, 'é"q')]


def plan(key: StateKey) -> StreamPlan:
    """The plan of a stream with the columns above."""
    return StreamPlan(
        name=key.name,
        namespace=key.namespace,
        table="t",
        sync_mode="full_refresh",
        mode="append",
        columns=plan_columns(stream_fields(SCHEMA), {}, ProtectionContext("t")),
        catalog_stream={},
    )


OPTIONS: dict[str, Any] = {
    "add_metadata": True,
    "sync_id": 1,
    "generation_id": 1,
    "cipher_for": None,
}
Rows = dict[StateKey, list[dict[str, Any]]]


def rows(builders: dict[StateKey, Any]) -> Rows:
    """What the builders have, without the random ids; JSON text parsed, since it may be written anew."""
    out: Rows = {}
    for key, builder in builders.items():
        batch = builder.flush()
        batch.validate(full=True)
        out[key] = [_comparable(row) for row in dictionaries(batch)]
    return out


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    del row["_airbyte_raw_id"]
    for name in ("any", "free"):
        if row[name] is not None:
            row[name] = json.loads(row[name])
    for pair in row["pairs"] or ():
        if pair and pair["j"] is not None:
            pair["j"] = json.loads(pair["j"])
    return row


def by_python(lines: Sequence[bytes]) -> tuple[Rows, int, str]:
    """Rows, other messages, and the error that ended it, of the reader that is Python alone."""
    builders = {key: BatchBuilder(plan(key), **OPTIONS) for key in STREAMS}
    others = 0
    error = ""
    try:
        for number, line in enumerate(lines, 1):
            others += _add(builders, line, number)
    except TransientFailed as e:
        error = e.code
    return rows(builders), others, error


def _add(builders: dict[StateKey, Any], line: bytes, number: int) -> int:
    message = decode(line, number)
    if isinstance(message, Record) and message.key in builders:
        builders[message.key].add(message.data, message.emitted_at, record_changes(message))
        return 0
    return 1


def by_native(lines: Sequence[bytes]) -> tuple[Rows, int, str]:
    """The same of the compiled reader, with all lines in one block."""
    builders = {key: NativeBuilder(plan(key), **OPTIONS) for key in STREAMS}
    reader = NativeReader(builders)
    block = b"".join(line + b"\n" for line in lines)
    others = number = position = 0
    error = ""
    try:
        while position < len(block):
            fed = reader.feed(block, position)
            number += fed.lines
            position = fed.position
            if position == len(block):
                break
            stop = block.index(b"\n", position)
            number += 1
            others += _add(builders, block[position:stop], number)
            position = stop + 1
    except TransientFailed as e:
        error = e.code
    return rows(builders), others, error


def assert_same(lines: Sequence[bytes]) -> Rows:
    """Both readers agree; the rows."""
    native, python = by_native(lines), by_python(lines)
    assert native == python
    return native[0]


def test_it_is_there() -> None:
    """The package was installed with a compiler at hand."""
    assert available()


# ---- whole messages --------------------------------------------------------------------------------------

json_text = st.text(st.characters(codec="utf-8"), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | json_text
    | st.sampled_from(
        [
            "2024-02-29",
            "2023-02-29",
            "2024-01-01T10:00:00+05:30",
            "2024-01-01 10:00:00.123456789",
            "0001-01-01",
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_text, inner, max_size=3),
    max_leaves=8,
)
data = st.dictionaries(st.sampled_from([*SCHEMA["properties"], "more", "x y"]), json_values, max_size=9)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A line: mostly records, members in any order, written in any way that is JSON, some that is not."""
    key = draw(st.sampled_from([*STREAMS, StateKey(None, "other")]))
    record: dict[str, Any] = {
        "stream": key.name,
        "data": draw(data),
        "emitted_at": draw(st.integers(0, 2**52)),
    }
    if key.namespace or draw(st.booleans()):
        record["namespace"] = key.namespace
    if draw(st.booleans()):
        record["meta"] = draw(
            st.sampled_from(
                [None, {}, {"changes": [{"field": "name", "change": "NULLED", "reason": "X"}]}, 7]
            )
        )
    if draw(st.booleans()):
        record["unknown"] = draw(json_values)
    message = {"type": draw(st.sampled_from(["RECORD"] * 9 + ["LOG"])), "record": _shuffled(draw, record)}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")]))
    ascii_only = draw(st.booleans())
    line = json.dumps(_shuffled(draw, message), separators=separators, ensure_ascii=ascii_only).encode()
    return draw(st.sampled_from([b"", b"  "])) + line + draw(st.sampled_from([b"", b" ", b"\r"]))


def _shuffled(draw: st.DrawFn, members: dict[str, Any]) -> dict[str, Any]:
    return dict(draw(st.permutations(list(members.items()))))


@settings(max_examples=150, deadline=None)
@given(st.lists(messages(), max_size=6))
def test_messages_of_all_forms(lines: list[bytes]) -> None:
    """Members in any order, any values, streams with and without namespace: the same rows and changes."""
    assert_same(lines)


def test_bytes_that_are_no_utf8_inside_a_value_of_another_type() -> None:
    """A list in a text column is kept as JSON with U+FFFD in it, whoever reads it."""
    line = b'{"type":"RECORD","record":{"stream":"users","data":{"name":["\x80"]},"emitted_at":0}}'
    (users,) = [found for found in assert_same([line]).values() if found]
    assert [row["name"] for row in users] == ['["\N{REPLACEMENT CHARACTER}"]']


@settings(max_examples=150, deadline=None)
@given(messages(), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_lines(line: bytes, at: int, put: bytes, cut: int) -> None:
    """A line that was cut or changed anywhere means to both readers the same, an error included."""
    damaged = (line[:at] + put + line[at + cut :]).replace(b"\n", b" ")
    good = b'{"type":"RECORD","record":{"stream":"users","data":{"id":7},"emitted_at":1}}'
    assert_same([good, damaged, good])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(line: bytes) -> None:
    """No bytes whatsoever make a difference, or do harm."""
    assert_same([line.replace(b"\n", b"")])


def record(members: str) -> bytes:
    """A record of `users` with these members, as text."""
    return f'{{"type":"RECORD","record":{{"stream":"users","data":{{{members}}},"emitted_at":5}}}}'.encode()


@pytest.mark.parametrize(
    "members",
    [
        '"id":1,"id":2',
        '"name":"a","deep":{"day":"2024-01-01","day":"2024-01-02"}',
        '"id":1,"id":null',
        '"id":NaN,"score":Infinity,"any":-Infinity',
        '"id":01',
        '"score":1.',
        '"score":.5',
        '"score":+1',
        '"score":1e400,"id":9223372036854775808,"big":-9223372036854775809',
        '"id":9223372036854775807,"score":-0.0',
        '"id":-9223372036854775808,"score":-0',
        '"id":1.0,"score":"12.5","on":1,"name":3.10',
        '"id":"12","on":"true","day":"2024-1-1","at":5',
        '"name":"\\ud800","any":"\\ud800","deep":{"a":{"é":"\\udc00x"}}',
        '"name":"\\ud83d\\ude00","any":"\\ud83d\\ude00"',
        '"name":"\\u0000\\n\\"\\\\\\/\\b\\f\\r\\t"',
        '"na\\u006de":"by escape","cl\\u00e9":3',
        '"name":"\\x"',
        '"name":"tab\there"',
        '"at":"2024-01-01","naive":"2024-01-01T00:00:00Z"',
        '"at":"2024-01-01T24:00:00Z","naive":"2024-01-01T10:00"',
        '"at":"0001-01-01T00:00:00+10:00","naive":"9999-12-31T23:59:59.999999-10:00"',
        '"at":"2024-06-30T23:59:60Z","day":"0000-01-01"',
        '"at":"1969-12-31T23:59:59.999999Z","naive":"0099-01-01 00:00:00.1"',
        '"at":"2024-01-01T00:00:00.1234567891Z","naive":"2024-01-01T00:00:00."',
        '"at":"2024-01-01T00:00:00+0530","naive":"2024-01-01T00:00:00-05"',
        '"tags":["a",null,1,"b"],"pairs":[{"k":"x","v":"1"},null,5,{"v":[]}]',
        '"tags":"a","pairs":{},"deep":[1]',
        '"deep":{"a":5},"free":[1, 2,  {"x" : 1}]',
        '"deep":null,"tags":null,"pairs":[],"free":null,"any":null',
        '"free":{"a":1e5,"b":1E-7,"c":1.10}',
        '"more":{"x":[[[[]]]]},"id":5',
    ],
)
def test_records_on_the_edge(members: str) -> None:
    """Values and members that the compiled reader leaves to Python, or just not."""
    assert_same([record('"id":1'), record(members), record('"id":2')])


def test_bytes_that_are_no_text() -> None:
    """Not UTF-8 where a text is kept, where JSON is kept, where nothing is kept, in names."""
    for members in (
        b'"name":"\xff"',
        b'"any":"\xff"',
        b'"more":"\xff"',
        b'"\xff":1',
        b'"name":"\xed\xa0\x80"',
    ):
        line = b'{"type":"RECORD","record":{"stream":"users","data":{%b},"emitted_at":5}}' % members
        assert_same([record('"id":1'), line])


@pytest.mark.parametrize("depth", [10, 400, 900, 5_000])
def test_deep_nesting(depth: int) -> None:
    """Values that nest deeply, wanted and not: neither the stack nor the meaning suffers."""
    for name in ("free", "more"):
        assert_same([record('"id":1'), record(f'"{name}":' + "[" * depth + "]" * depth), record('"id":2')])
    assert_same([record('"free":' + "[" * depth)])


def test_long_names_and_values() -> None:
    """A name of ten thousand characters and a text of a megabyte."""
    made = assert_same([record(f'"{"k" * 10_000}":1,"name":"{"v" * 1_000_000}"')])
    assert len(made[STREAMS[0]][0]["name"]) == 1_000_000


def test_only_what_differs_leaves_the_fast_path() -> None:
    """One value that does not fit becomes null with its change; the compiled reader takes all lines."""
    builders = {key: NativeBuilder(plan(key), **OPTIONS) for key in STREAMS}
    reader = NativeReader(builders)
    lines = [record(f'"id":{i},"score":0.5') for i in range(50)]
    lines[20] = record('"id":"no number","score":0.5')
    block = b"\n".join([*lines, b""])
    assert tuple(reader.feed(block, 0)) == (len(block), 50, 0)
    builder = builders[STREAMS[0]]
    batch = dictionaries(builder.flush())
    assert [row["id"] for row in batch] == [None if i == 20 else i for i in range(50)]
    assert [len(row["_airbyte_meta"]["changes"]) for row in batch] == [int(i == 20) for i in range(50)]
    assert builder.values_nulled == 1


def test_text_is_kept_when_asked_for() -> None:
    """For the archive: each record as it was written, with its moment."""
    builder = NativeBuilder(plan(STREAMS[0]), keeps_text=True, **OPTIONS)
    reader = NativeReader({STREAMS[0]: builder})
    reader.feed(record('"id": 1, "more":[ 2 ]') + b"\n" + record('"id":3') + b"\n", 0)
    pending = builder.take()
    assert list(pending.texts()) == [(b'{"id": 1, "more":[ 2 ]}', 5), (b'{"id":3}', 5)]
    assert (pending.rows, builder.total, builder.json_bytes, len(builder)) == (2, 2, 31, 0)


def test_wrong_use_is_told() -> None:
    """Errors instead of crashes for shapes and arguments that make no sense."""
    with pytest.raises(ValueError, match="no kind of column: money"):
        _records.Reader((("", "s", (("a", "money", ()),), False),))
    with pytest.raises(ValueError, match="one element"):
        _records.Reader((("", "s", (("a", "list", ()),), False),))
    for shapes in ([], (1,), (("", "s"),), (("", "s", (("a",),), False),), (("", 1, (), False),)):
        with pytest.raises((TypeError, IndexError)):
            _records.Reader(shapes)  # type: ignore[arg-type]  # that is the point
    reader = _records.Reader((("", "s", (), False),))
    with pytest.raises(IndexError):
        reader.take(1)
    with pytest.raises(ValueError, match="position"):
        reader.feed(b"x", 2)
    with pytest.raises(RuntimeError):
        _records.Reader.__new__(_records.Reader).take(0)


def test_other_threads_go_on() -> None:
    """While a block is read the interpreter lock is free, and the reader is not to be had twice."""
    reader = NativeReader({STREAMS[0]: NativeBuilder(plan(STREAMS[0]), **OPTIONS)})
    block = (record('"id":1,"name":"' + "x" * 500 + '"') + b"\n") * 100_000
    thread = threading.Thread(target=reader.feed, args=(block, 0))
    thread.start()
    refused = 0
    while thread.is_alive():
        try:
            reader.feed(b"{}\n", 0)
        except RuntimeError:
            refused += 1
    thread.join()
    assert refused > 0
