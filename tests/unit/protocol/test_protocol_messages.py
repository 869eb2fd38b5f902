"""Decoding of Airbyte messages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airberg.errors import RunError
from airberg.protocol.messages import (
    Catalog,
    ConnectionStatus,
    Control,
    Estimate,
    FieldChange,
    Log,
    MalformedMessage,
    Other,
    Record,
    Spec,
    StreamStatus,
    TraceError,
    decode,
    record_changes,
)
from airberg.protocol.state import State, StateKey

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
BODY_MEMBERS = [
    "type",
    "stream",
    "data",
    "error",
    "global",
    "connectorConfig",
    "stream_status",
    "estimate",
    "status",
    "streams",
    "sourceStats",
    "message",
]
TYPES = ["RECORD", "STATE", "TRACE", "LOG", "CONTROL", "SPEC", "CONNECTION_STATUS", "CATALOG"]


def line(message: dict[str, Any]) -> bytes:
    """The message as a connector writes it."""
    return json.dumps(message).encode()


def trace(body: dict[str, Any]) -> bytes:
    """A TRACE message with that body."""
    return line({"type": "TRACE", "trace": {"emitted_at": 1.5} | body})


def test_record_keeps_its_data_as_it_came() -> None:
    """The data of a record is byte for byte what arrived, spaces, key order and number forms included."""
    raw = (
        b'{"type":"RECORD","record":{"stream":"users","namespace":"crm",'
        b'"data":{"b": 1.50, "a":"\\u00e9", "big":123456789012345678901234567890},'
        b'"emitted_at":1700000000000,"unknown":[1]},"other":{}}'
    )
    record = decode(raw)
    assert isinstance(record, Record)
    assert bytes(record.data) == b'{"b": 1.50, "a":"\\u00e9", "big":123456789012345678901234567890}'
    assert record.key == StateKey("crm", "users")
    assert record.emitted_at == 1700000000000
    assert record_changes(record) == ()


def test_record_changes_are_read() -> None:
    """Changes that the source sent in `meta` are handed on, without what cannot be read."""
    change = {"field": "f", "change": "NULLED", "reason": "SOURCE_FIELD_SIZE_LIMITATION"}
    body = {"stream": "s", "data": {}, "emitted_at": 1, "meta": {"changes": [change]}}
    record = decode(line({"type": "RECORD", "record": body}))
    assert isinstance(record, Record)
    assert record_changes(record) == (FieldChange("f", "NULLED", "SOURCE_FIELD_SIZE_LIMITATION"),)
    broken = decode(line({"type": "RECORD", "record": body | {"meta": {"changes": 3}}}))
    assert isinstance(broken, Record)
    assert record_changes(broken) == ()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"RECORD","record":{"stream":"users","data":{"email":"secret@exam',
        b'{"type":"RECORD","record":{"stream":"users","data":{"email":"secret@example.org"},"emitted_at":"x"}}',
        b'{"type":"RECORD","record":{"data":{"email":"secret@example.org"},"emitted_at":1}}',
        b'{"type":"RECORD","record":{"stream":"users","data":"secret@example.org","emitted_at":1}}',
        b'{"type":"RECORD","data":{"email":"secret@example.org"}}',
        b'{"type":"STATE","state":{"type":"STREAM","stream":{"cursor":"secret@example.org"}}}',
        b'{"type":"STATE","state":{"type":"secret@example.org"}}',
        b'{"type":"STATE"}',
        b'{"type":"CONTROL","control":{"connectorConfig":{"config":"secret@example.org"}}}',
        b'{"type":"CONTROL","control":{"connectorConfig":null,"x":"secret@example.org"}}',
        b'{"type":"CONTROL","control":{"connectorConfig":["secret@example.org"]}}',
        b'{"type":"CATALOG","catalog":{"streams":[{"secret@example.org":1}]}}',
        b"{'email': 'secret@example.org'}",
        b'{"a":1} {"email":"secret@example.org"}',
        b'{"type":"RECORD","record":' + b'{"data":' * 100_000,
    ],
)
def test_broken_message_fails_the_run_without_its_content(raw: bytes) -> None:
    """A line that starts as a message but is none is an error with the line's number and nothing of it."""
    with pytest.raises(MalformedMessage) as caught:
        decode(raw, 17)
    assert isinstance(caught.value, RunError)
    assert caught.value.line_number == 17
    assert "17" in caught.value.message
    assert "secret" not in f"{caught.value} {caught.value.guidance} {caught.value!r}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Traceback (most recent call last):", "Traceback (most recent call last):"),
        (b"", ""),
        (b"   ", ""),
        (b"[1, 2]", "[1, 2]"),
        (b"\xff\xfe", "��"),
    ],
)
def test_line_that_is_no_message_is_log_text(raw: bytes, text: str) -> None:
    """A line that does not start with a brace is text, whatever its bytes."""
    assert decode(raw) == Log("INFO", text)


def test_space_and_byte_order_mark_before_a_message_are_skipped() -> None:
    """A message may be indented or follow a byte order mark."""
    message = line({"type": "LOG", "log": {"level": "WARN", "message": "m"}})
    assert decode(b"  " + message + b"\r\n") == decode(b"\xef\xbb\xbf" + message) == Log("WARN", "m")


def test_literals_that_are_not_json_become_strings() -> None:
    """NaN and Infinity, as Python writes them, cost one value and not the run; texts are left alone."""
    data = {"a": float("nan"), "b": -float("inf"), "c": 'say "NaN" \\'}
    body = {"stream": "s", "emitted_at": 1, "data": data}
    record = decode(line({"type": "RECORD", "record": body}))
    assert isinstance(record, Record)
    assert msgspec.json.decode(record.data) == {"a": "NaN", "b": "-Infinity", "c": 'say "NaN" \\'}


def test_unknown_types_and_wrong_log_bodies_are_tolerated() -> None:
    """A later protocol version does not break the run, and a log line never does."""
    assert decode(line({"type": "TELEGRAM", "telegram": 1})) == Other("TELEGRAM")
    assert decode(line({"hello": 1})) == Other("")
    assert decode(line({"type": "LOG", "log": 3})) == Log("INFO", "")
    assert decode(line({"type": "LOG", "log": {"message": "m", "stack_trace": 7, "x": 1}})) == Log(
        "INFO", "m"
    )
    assert decode(trace({"type": "ANALYTICS", "analytics": {}})) == Other("TRACE")
    assert decode(trace({"type": "STREAM_STATUS", "stream_status": {"status": "COMPLETE"}})) == Other("TRACE")
    assert decode(line({"type": "CONTROL", "control": {"type": "PAUSE"}})) == Other("CONTROL")


def test_trace_messages() -> None:
    """Errors, stream statuses and estimates are told apart; an unknown failure type is a system error."""
    stream = {"name": "users", "namespace": "crm"}
    error = {"message": "revoked", "internal_message": "401", "failure_type": "config_error"}
    assert decode(trace({"type": "ERROR", "error": error | {"stream_descriptor": stream}})) == TraceError(
        "revoked", "401", "config_error", StateKey("crm", "users")
    )
    vague = decode(trace({"type": "ERROR", "error": {"failure_type": "cosmic"}}))
    assert isinstance(vague, TraceError)
    assert (vague.failure_type, bool(vague.message)) == ("system_error", True)
    status = {"stream_descriptor": {"name": "users"}, "status": "COMPLETE"}
    assert decode(trace({"type": "STREAM_STATUS", "stream_status": status})) == StreamStatus(
        StateKey(None, "users"), "COMPLETE"
    )
    estimate = {"name": "users", "type": "STREAM", "row_estimate": 10, "byte_estimate": 2.0}
    assert decode(trace({"type": "ESTIMATE", "estimate": estimate})) == Estimate(
        StateKey(None, "users"), 10, 2
    )


def test_estimates_are_of_a_stream_or_of_the_whole_sync() -> None:
    """An estimate of a stream without a name is none of the sync; what is no count is left out."""
    sync = {"type": "SYNC", "row_estimate": 10, "byte_estimate": "many"}
    assert decode(trace({"type": "ESTIMATE", "estimate": sync})) == Estimate(None, 10, None)
    nameless = {"type": "STREAM", "row_estimate": 10}
    assert decode(trace({"type": "ESTIMATE", "estimate": nameless})) == Other("TRACE")
    odd = sync | {"row_estimate": True, "byte_estimate": -1}
    assert decode(trace({"type": "ESTIMATE", "estimate": odd})) == Estimate(None, None, None)


def test_a_stack_trace_is_part_of_the_log_line() -> None:
    """The reason of an error is often nowhere else."""
    body = {"level": "ERROR", "message": "failed", "stack_trace": "Traceback\n  at x"}
    assert decode(line({"type": "LOG", "log": body})) == Log("ERROR", "failed\nTraceback\n  at x")


@pytest.mark.parametrize("emitted_at", [b"1.7e12", b"1700000000000.0", b'"1700000000000"'])
def test_a_time_in_another_form_is_read(emitted_at: bytes) -> None:
    """Some languages write every number as a fraction; the row counts."""
    record = decode(
        b'{"type":"RECORD","record":{"stream":"s","data":{"a":1.50},"emitted_at":%b}}' % emitted_at
    )
    assert isinstance(record, Record)
    assert (record.emitted_at, bytes(record.data)) == (1_700_000_000_000, b'{"a":1.50}')


def test_half_a_surrogate_pair_in_a_name_is_the_same_in_schema_and_record() -> None:
    """The column is found under the name that the catalog was read with."""
    catalog = decode(b'{"type":"CATALOG","catalog":{"streams":[{"name":"s","p":{"a\\ud800":{}}}]}}')
    assert isinstance(catalog, Catalog)
    assert list(catalog.streams[0]["p"]) == ["a\ufffd"]
    record = decode(b'{"type":"RECORD","record":{"stream":"s","data":{"a\\ud800":1},"emitted_at":1}}')
    assert isinstance(record, Record)
    assert json.loads(bytes(record.data)) == {"a\ufffd": 1}


def test_control_carries_the_new_configuration_and_hides_it() -> None:
    """The configuration is there for who asks, but not in what is logged by accident."""
    message = decode(
        line(
            {
                "type": "CONTROL",
                "control": {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {"t": "s3cr3t"}}},
            }
        )
    )
    assert isinstance(message, Control)
    assert message.config == {"t": "s3cr3t"}
    assert "s3cr3t" not in repr(message)


def test_answers_of_spec_check_and_discover() -> None:
    """The three verbs that answer with one message."""
    spec = decode(line({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}}))
    assert isinstance(spec, Spec)
    assert spec.connection_specification == {"type": "object"}
    assert decode(
        line({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED", "message": "no"}})
    ) == ConnectionStatus(False, "no")
    assert decode(line({"type": "CATALOG", "catalog": {"streams": [{"name": "a"}]}})) == Catalog(
        [{"name": "a"}]
    )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"type":"RECORD","record":{"stream":"\xff","data":{},"emitted_at":1}}')
@example(b'{"type":"\xff"}')
@example(b'{"type":"LOG","log":{"message":"\xff"}}')
def test_any_bytes_are_a_message_or_malformed(raw: bytes) -> None:
    """No line of bytes raises anything but `MalformedMessage`."""
    for candidate in (raw, b"{" + raw):
        try:
            decode(candidate, 1)
        except MalformedMessage:
            continue


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(BODY_MEMBERS), JSON_VALUES))
def test_any_body_is_a_message_or_malformed(kind: str, body: dict[str, Any]) -> None:
    """No body of a known message type raises anything but `MalformedMessage`."""
    member = {"CONNECTION_STATUS": "connectionStatus"}.get(kind, kind.lower())
    try:
        message = decode(line({"type": kind, member: body}), 1)
    except MalformedMessage:
        return
    assert not isinstance(message, State) or message.raw


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.integers(0, 2**53), st.text(min_size=1))
def test_record_round_trip(data: dict[str, Any], emitted_at: int, stream: str) -> None:
    """What Python's own encoder writes is read back as the same value."""
    record = decode(
        line({"type": "RECORD", "record": {"stream": stream, "data": data, "emitted_at": emitted_at}})
    )
    assert isinstance(record, Record)
    assert json.loads(bytes(record.data)) == data
    assert (record.stream, record.emitted_at) == (stream, emitted_at)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"a\udc00b", "a\ufffdb"),
        (rb"\ud83d\ude00", "\U0001f600"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud800", "\\ud800"),
        (rb"\\\ud800", "\\\ufffd"),
    ],
)
def test_half_a_surrogate_pair_costs_one_character(sent: bytes, kept: str) -> None:
    """Python connectors can emit them (`json.dumps`); the row and the rest of the text stay."""
    line = b'{"type":"RECORD","record":{"stream":"s","emitted_at":1,"data":{"t":"%b"}}}' % sent
    record = decode(line)
    assert isinstance(record, Record)
    assert msgspec.json.decode(record.data) == {"t": kept}
