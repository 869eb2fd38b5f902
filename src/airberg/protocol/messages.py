"""Airbyte messages, decoded from the lines that a connector writes to its standard output.

One line is one message. Only the envelope is decoded: the `data` of a record stays as the bytes that
arrived, so that the column reader parses it once, in its own way, and a state stays as it was sent, so that
it can be handed back unchanged. Unknown message types and unknown properties are tolerated; a line that
starts like a message but is not one fails the run, because a record may have been lost with it.

Source of the rules: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol (messages) and
`airbyte_protocol.yaml` (their schema).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from airberg.errors import TransientFailed
from airberg.protocol.state import State, StateKey, state_from_json

FailureType: TypeAlias = Literal["config_error", "transient_error", "system_error"]
StreamPhase: TypeAlias = Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]

_ABSENT = msgspec.Raw(b"null")


class MalformedMessage(TransientFailed):
    """A line of the connector's output starts as a message but cannot be read.

    Carries the line's number only: its content may be a row of the source.

    Attributes:
        line_number: Number of the line in the connector's output, from 1; 0 when unknown.
    """

    default_code = "malformed-message"

    def __init__(
        self,
        message: str | None = None,
        *,
        guidance: str = "The connector was cut off or does not follow the Airbyte protocol; "
        "nothing after the last checkpoint was kept.",
        code: str | None = None,
        line_number: int = 0,
    ) -> None:
        self.line_number = line_number
        super().__init__(message, guidance=guidance, code=code)

    @classmethod
    def at(cls, line_number: int, what: str = "is not a complete JSON message") -> MalformedMessage:
        """The error of one line."""
        return cls(f"Line {line_number} of the connector's output {what}.", line_number=line_number)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One row of a stream.

    Attributes:
        stream: Name of the stream.
        data: The row, a JSON object, undecoded.
        emitted_at: When the connector emitted it, milliseconds since the epoch.
        namespace: Namespace of the stream in the source, if it has one.
        meta: Undecoded `meta` of the record; `record_changes` reads it.
    """

    stream: str
    data: msgspec.Raw
    emitted_at: int
    namespace: str | None = None
    meta: msgspec.Raw = _ABSENT

    @property
    def key(self) -> StateKey:
        """Which stream the record belongs to."""
        return StateKey(self.namespace or None, self.stream)


class FieldChange(msgspec.Struct, frozen=True):
    """One entry of a record's `meta.changes`: what the source did to a field it could not send as it is."""

    field: str = ""
    change: str = ""
    reason: str = ""


class TraceError(msgspec.Struct, frozen=True):
    """The connector reports an error; the run has failed, whatever the exit code will be.

    Attributes:
        message: Text for people, by the connector.
        internal_message: Text for developers; may hold details of the source.
        failure_type: Who has to act; unknown ones count as `system_error`.
        stream: The stream that failed, if the connector says so.
    """

    message: str
    internal_message: str | None = None
    failure_type: FailureType = "system_error"
    stream: StateKey | None = None


class StreamStatus(msgspec.Struct, frozen=True):
    """The connector says how far it is with one stream."""

    stream: StateKey
    phase: StreamPhase


class Estimate(msgspec.Struct, frozen=True):
    """How much is to come: for one stream, or for the whole sync when `stream` is None."""

    stream: StateKey | None = None
    rows: int | None = None
    bytes: int | None = None


class Log(msgspec.Struct, frozen=True):
    """A log line: a LOG message, or any line that is no message. The text may hold anything."""

    level: str
    message: str


class Control(msgspec.Struct, frozen=True):
    """The connector has changed its own configuration (a rotated token): store it before going on."""

    config: dict[str, Any]

    def __repr__(self) -> str:
        return "Control(config=...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Spec(msgspec.Struct, frozen=True):
    """What configuration the connector takes: the whole `ConnectorSpecification`."""

    spec: dict[str, Any]

    @property
    def connection_specification(self) -> dict[str, Any]:
        """JSON schema (draft 7) of the configuration."""
        schema = self.spec.get("connectionSpecification")
        return schema if isinstance(schema, dict) else {}


class ConnectionStatus(msgspec.Struct, frozen=True):
    """Verdict of a check."""

    succeeded: bool
    message: str = ""


class Catalog(msgspec.Struct, frozen=True):
    """Outcome of a discover: `AirbyteStream` objects."""

    streams: list[dict[str, Any]]


class Other(msgspec.Struct, frozen=True):
    """A message of a type that this version does not know."""

    type: str


Message: TypeAlias = (
    Record
    | State
    | TraceError
    | StreamStatus
    | Estimate
    | Log
    | Control
    | Spec
    | ConnectionStatus
    | Catalog
    | Other
)


class _Envelope(msgspec.Struct, gc=False):
    type: str = ""
    record: Record | None = None
    state: msgspec.Raw = _ABSENT
    log: msgspec.Raw = _ABSENT
    trace: msgspec.Raw = _ABSENT
    control: msgspec.Raw = _ABSENT
    spec: msgspec.Raw = _ABSENT
    connectionStatus: msgspec.Raw = _ABSENT
    catalog: msgspec.Raw = _ABSENT


class _Meta(msgspec.Struct):
    changes: list[FieldChange] = []


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
# Takes numbers in another form too: some languages write every number as a fraction (`1.7e12`).
_decode_envelope_lax = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode
# `json.dumps` of Python connectors writes these three, although JSON has no such literals.
_NOT_A_NUMBER = re.compile(rb'"(?:\\.|[^"\\])*+"|-?Infinity|NaN')
# One escape of a JSON text: a surrogate pair, any other \uXXXX, or a short one. Pairs are matched whole, so
# that a surrogate that stands alone can be told.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])")
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError)


def decode(line: bytes, line_number: int = 0) -> Message:
    """Decode one line.

    The literals `NaN`, `Infinity` and `-Infinity`, which are not JSON but which Python connectors write,
    become strings of that text, so that a number column rejects that one value and the row stays. Half of a
    surrogate pair, which is no Unicode text, becomes U+FFFD.

    Args:
        line: The line, with or without its line end.
        line_number: Its number, for the error.

    Raises:
        MalformedMessage: The line starts with `{` but is not a message.
    """
    if not line.startswith(b"{"):
        line = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not line.startswith(b"{"):
            return Log("INFO", line.decode(errors="replace"))
    try:
        envelope = _decode_envelope(line)
    except _FAULTS:
        envelope = _decode_lenient(line, line_number)
    if envelope.type == "RECORD":
        record = envelope.record
        if record is None or not bytes(memoryview(record.data)[:1]) == b"{":
            raise MalformedMessage.at(line_number, "is a RECORD without data")
        return record
    reader = _READERS.get(envelope.type)
    if reader is None:
        return Other(envelope.type)
    try:
        return reader(envelope)
    except _FAULTS:
        raise MalformedMessage.at(line_number, f"is not a well-formed {envelope.type} message") from None


def _decode_lenient(line: bytes, line_number: int) -> _Envelope:
    try:
        return _decode_envelope_lax(_ESCAPE.sub(_paired, _NOT_A_NUMBER.sub(_as_string, line)))
    except _FAULTS:
        # Never chained: a parser's text may name what it met in the row.
        raise MalformedMessage.at(line_number) from None


def _as_string(match: re.Match[bytes]) -> bytes:
    token = match.group()
    return token if token.startswith(b'"') else b'"' + token + b'"'


def _paired(match: re.Match[bytes]) -> bytes:
    escape = match.group()
    alone = len(escape) == 6 and escape[2:3] in b"dD" and escape[3:4] in b"89abcdefABCDEF"
    return rb"\ufffd" if alone else escape


def record_changes(record: Record) -> tuple[FieldChange, ...]:
    """The `meta.changes` that the source sent with a record; entries that cannot be read are left out."""
    return () if record.meta is _ABSENT else record_changes_in(record.meta)


def record_changes_in(meta: bytes | msgspec.Raw) -> tuple[FieldChange, ...]:
    """The `changes` in the JSON text of a record's `meta`; see `record_changes`."""
    try:
        return tuple(_decode_meta(meta).changes)
    except _FAULTS:
        return ()


# ---- messages other than records ---------------------------------------------------------------------------


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    return _decode_object(raw)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _stream_key(descriptor: object) -> StateKey | None:
    if not isinstance(descriptor, dict) or not isinstance(descriptor.get("name"), str):
        return None
    return StateKey(_text(descriptor.get("namespace")) or None, descriptor["name"])


def _read_state(envelope: _Envelope) -> Message:
    return state_from_json(bytes(envelope.state))


def _read_log(envelope: _Envelope) -> Message:
    try:
        body = _object(envelope.log)
    except _FAULTS:  # a log line never fails a run
        return Log("INFO", "")
    message, stack = _text(body.get("message")), _text(body.get("stack_trace"))
    return Log(_text(body.get("level")) or "INFO", f"{message}\n{stack}" if stack else message)


def _read_trace(envelope: _Envelope) -> Message:
    body = _object(envelope.trace)
    match body:
        case {"type": "ERROR", "error": dict(error)}:
            return _trace_error(error)
        case {"type": "STREAM_STATUS", "stream_status": dict(status)}:
            key = _stream_key(status.get("stream_descriptor"))
            phase = status.get("status")
            if key is not None and phase in ("STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"):
                return StreamStatus(key, phase)
        case {"type": "ESTIMATE", "estimate": dict(estimate)}:
            key = _stream_key(estimate) if estimate.get("type") == "STREAM" else None
            if key is not None or estimate.get("type") == "SYNC":
                rows, size = estimate.get("row_estimate"), estimate.get("byte_estimate")
                return Estimate(key, _count(rows), _count(size))
        case {"type": "ERROR"}:
            return _trace_error({})
    return Other("TRACE")


def _trace_error(error: dict[str, Any]) -> TraceError:
    failure = error.get("failure_type")
    return TraceError(
        _text(error.get("message")) or "The connector reported an error without a text.",
        _text(error.get("internal_message")) or None,
        failure if failure in ("config_error", "transient_error") else "system_error",
        _stream_key(error.get("stream_descriptor")),
    )


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**63 else None


def _read_control(envelope: _Envelope) -> Message:
    body = _object(envelope.control)
    if body.get("type") not in (None, "CONNECTOR_CONFIG"):
        return Other("CONTROL")
    carrier = body.get("connectorConfig")
    config = carrier.get("config") if isinstance(carrier, dict) else None
    if not isinstance(config, dict):
        raise TypeError("no configuration")
    return Control(config)


def _read_spec(envelope: _Envelope) -> Message:
    return Spec(_object(envelope.spec))


def _read_status(envelope: _Envelope) -> Message:
    body = _object(envelope.connectionStatus)
    if body.get("status") not in ("SUCCEEDED", "FAILED"):
        raise ValueError("no verdict")
    return ConnectionStatus(body["status"] == "SUCCEEDED", _text(body.get("message")))


def _read_catalog(envelope: _Envelope) -> Message:
    streams = _object(envelope.catalog).get("streams")
    if not isinstance(streams, list) or not all(
        isinstance(s, dict) and isinstance(s.get("name"), str) for s in streams
    ):
        raise TypeError("no streams")
    return Catalog(streams)


_READERS: dict[str, Callable[[_Envelope], Message]] = {
    "STATE": _read_state,
    "LOG": _read_log,
    "TRACE": _read_trace,
    "CONTROL": _read_control,
    "SPEC": _read_spec,
    "CONNECTION_STATUS": _read_status,
    "CATALOG": _read_catalog,
}
