"""Which form of an answer a client wants."""

from __future__ import annotations

import pytest

from airberg.api.accepted import preferred

OFFERED = ("application/json", "text/plain", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("TEXT/plain; charset=utf-8", "text/plain"),
        ("text/*", "text/plain"),
        ("text/*;q=0.5, text/event-stream", "text/event-stream"),
        ("application/json;q=0.2, text/plain;q=0.3", "text/plain"),
        ("text/plain;q=0, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", "text/plain"),
        ("text/html, application/xml", "application/json"),
        ("text/plain;q=lots", "application/json"),
        (";;q=,,/", "application/json"),
        ("a/b," * 10_000 + "text/plain", "application/json"),
    ],
)
def test_preferred(accept: str, wanted: str) -> None:
    """By quality, then by the order of what is offered; what cannot be read counts for nothing."""
    assert preferred(accept, OFFERED) == wanted
