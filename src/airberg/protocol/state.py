"""The state of a sync: which message says what was read, and how it is handed back to the connector.

A state is opaque: its bytes are kept and handed back as they came, without the statistics around them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

StateKind: TypeAlias = Literal["stream", "global", "legacy"]


class StateKey(NamedTuple):
    """Which stream a message speaks of: its namespace (None when it has none) and its name."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


class State(msgspec.Struct, frozen=True):
    """One STATE message.

    Attributes:
        kind: Per stream, global (all streams at one point, CDC), or legacy (one blob).
        raw: What the connector gets back: the message's own `{"type", "stream" | "global" | "data"}`,
            each member byte for byte as it came.
        key: The stream of a per-stream state.
        streams: The streams that a global state names.
        record_count: Records that the source says it sent since the state before, of this scope
            (`sourceStats.recordCount`); None when it does not say.
    """

    kind: StateKind
    raw: bytes
    key: StateKey | None = None
    streams: tuple[StateKey, ...] = ()
    record_count: int | None = None

    def __repr__(self) -> str:
        # Cursor values may be data of a column that has to stay encrypted.
        return f"State(kind={self.kind!r}, key={self.key!r}, raw=<{len(self.raw)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


_ABSENT = msgspec.Raw(b"null")


class _Descriptor(msgspec.Struct):
    name: str
    namespace: str | None = None


class _StreamState(msgspec.Struct):
    stream_descriptor: _Descriptor


class _GlobalState(msgspec.Struct):
    stream_states: list[_StreamState] | None = None


class _Message(msgspec.Struct):
    type: str | None = None
    stream: msgspec.Raw = _ABSENT
    global_: msgspec.Raw = msgspec.field(name="global", default=_ABSENT)
    data: msgspec.Raw = _ABSENT
    sourceStats: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Message).decode


def state_from_json(raw: bytes) -> State:
    """Read the JSON of an `AirbyteStateMessage`, or a `State.raw` that was stored.

    Raises:
        ValueError: It is not one (`msgspec.DecodeError` and `msgspec.ValidationError` are such).
    """
    message = _decode(raw)
    count = _record_count(message.sourceStats)
    if message.type == "STREAM":
        descriptor = msgspec.json.decode(message.stream, type=_StreamState).stream_descriptor
        return State(
            "stream", _member(b"STREAM", b"stream", message.stream), _key(descriptor), record_count=count
        )
    if message.type == "GLOBAL":
        states = msgspec.json.decode(message.global_, type=_GlobalState).stream_states
        streams = tuple(_key(s.stream_descriptor) for s in states or ())
        return State(
            "global", _member(b"GLOBAL", b"global", message.global_), streams=streams, record_count=count
        )
    if message.type in (None, "LEGACY") and bytes(message.data).startswith(b"{"):
        return State("legacy", _member(b"LEGACY", b"data", message.data), record_count=count)
    raise ValueError("the state has no body that fits its type")


def _member(kind: bytes, name: bytes, body: msgspec.Raw) -> bytes:
    return b'{"type":"%b","%b":%b}' % (kind, name, bytes(body))


def _key(descriptor: _Descriptor) -> StateKey:
    return StateKey(descriptor.namespace or None, descriptor.name)


def _record_count(stats: dict[str, Any] | None) -> int | None:
    count = (stats or {}).get("recordCount")  # the protocol says number: the CDK sends 3.0
    return int(count) if isinstance(count, int | float) and count == count // 1 else None


def states_for_connector(states: Iterable[State]) -> bytes:
    """The content of the file that `read --state` gets.

    Of per-stream states the latest of each stream, as a list; of global states the latest, as a list of
    one. A legacy state is the blob itself, not a list: the connectors that emit it read nothing else
    (protocol page, "State & Legacy"). When kinds are mixed the latest kind counts.

    Args:
        states: In the order in which they came.
    """
    latest: dict[StateKey | None, State] = {}
    kind: StateKind | None = None
    for state in states:
        if state.kind != kind:
            latest.clear()
            kind = state.kind
        latest[state.key] = state
    if kind == "legacy":
        return bytes(_decode(latest[None].raw).data)
    return b"[" + b",".join(state.raw for state in latest.values()) + b"]"
