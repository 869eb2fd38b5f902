"""Pages of lists: the list itself is the body, and the header Link (RFC 8288) leads to the next page."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request, Response

from airberg.errors import InvalidRequest
from airberg.jobs.finding import Place

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = re.compile(rb"(\d{1,18})\.([0-9a-f]{32})")

Cursor = Annotated[
    str | None, Query(max_length=100, description="Where the page begins, as the header `Link` has it.")
]


def cursor_of(place: Place) -> str:
    """A place in a list, as text for a query. What is in it is nobody's business but ours."""
    micros = (place.created_at - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}.{place.id.hex}".encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> Place | None:
    """The place that a cursor stands for.

    Raises:
        InvalidRequest: It is none that this service gave out.
    """
    if cursor is None:
        return None
    try:
        match = _FORM.fullmatch(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if match is not None:
            return Place(EPOCH + timedelta(microseconds=int(match[1])), UUID(match[2].decode()))
    except (ValueError, OverflowError):
        pass  # not base64, or beyond the year 9999
    raise InvalidRequest.one(
        "",
        "bad-cursor",
        "In the query: `cursor` is none that this service gave out.",
        "Take it from the header Link of the page before, or leave it out for the first page.",
    )


def link_next(request: Request, response: Response, **changed: str | int) -> None:
    """Say where the next page is: the same address and query, with other values of some parameters.

    The reference is relative to the host, as that in Location is: a proxy may have another name for it.
    """
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
    query = urlencode([*kept, *((name, str(value)) for name, value in changed.items())])
    response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
