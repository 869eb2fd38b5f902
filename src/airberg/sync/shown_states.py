"""States of connectors as a run reports them: for people who want to see how far a stream has come.

Nothing is reported of jobs that protect columns: a state holds cursor values, and what else its connector
likes. Of the others the secrets of the configuration are taken out, and what is too large is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from airberg.jobs.model import ReportedState
from airberg.protocol.state import StateKey

STATE_BYTES = 16 * 1024
"""Of one state."""
ALL_STATES_BYTES = 256 * 1024
"""Of all states of a run, as long as that leaves each of them `LEAST_BYTES`: the report is stored often."""
LEAST_BYTES = 512
MAX_DEPTH = 64
"""A deeper state is for programs alone."""

_PROTECTED = ReportedState(withheld="protected")
_UNREADABLE = ReportedState(withheld="unreadable")


class ShownStates:
    """Makes states fit to be reported.

    Args:
        protects: Whether the job protects columns.
        streams: How many streams share the report.
        redact: Takes secrets out of a text.
    """

    def __init__(self, *, protects: bool, streams: int, redact: Callable[[str], str]) -> None:
        self._protects = protects
        self._redact = redact
        share = ALL_STATES_BYTES // (2 * max(streams, 1))
        self._limit = max(LEAST_BYTES, min(STATE_BYTES, share))

    def shown(self, key: StateKey, state: str | None) -> ReportedState | None:
        """A state of a stream; None when there is none.

        Args:
            key: The stream. Of a state that it shares with others, only what concerns it is shown.
            state: The text of a stored state (`State.raw`).
        """
        if state is None:
            return None
        if self._protects:
            return _PROTECTED
        try:
            value = _of_stream(msgspec.json.decode(self._redact(state)), key)
            text = msgspec.json.encode(value)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return _UNREADABLE  # a secret stood where JSON has no quotes, or it is no JSON that all can read
        facts: dict[str, Any] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        if len(text) > self._limit or _is_deep(value):
            return ReportedState(withheld="too-large", **facts)
        return ReportedState(text=text.decode(), **facts)


def _of_stream(message: Any, key: StateKey) -> Any:  # noqa: ANN401 - JSON
    """What a state message says of a stream, without the protocol around it."""
    if message["type"] == "STREAM":
        return message["stream"].get("stream_state")
    if message["type"] == "GLOBAL":
        shared = message["global"]
        own = [e for e in shared.get("stream_states") or () if _is_of(e["stream_descriptor"], key)]
        found = {"shared_state": shared.get("shared_state")}
        return found | ({"stream_state": own[-1].get("stream_state")} if own else {})
    return message["data"]


def _is_of(descriptor: dict[str, Any], key: StateKey) -> bool:
    return (descriptor.get("namespace") or None, descriptor["name"]) == (key.namespace, key.name)


def _is_deep(value: Any) -> bool:  # noqa: ANN401 - JSON
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for node in level
            if isinstance(node, dict | list)
            for inner in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True
