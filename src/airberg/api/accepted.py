"""Which form of an answer a client wants (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type that the client likes best; the first one where it likes several as much, or none.

    Args:
        accept: The value of the header `Accept`, empty when it was not sent.
        offered: What there is, such as `application/json`.
    """
    ranges = [_range(part) for part in accept.split(",")[:50] if part.strip()]
    best, best_quality = offered[0], 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the most specific range which the type is in."""
    group = media_type.partition("/")[0]
    for wanted in (media_type, f"{group}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
