"""Pages of lists: the list itself is the body, and the header Link (RFC 8288) leads to the next page."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request, Response


def link_next(request: Request, response: Response, **changed: str | int) -> None:
    """Say where the next page is: the same address and query, with other values of some parameters.

    The reference is relative to the host, as that in Location is: a proxy may have another name for it.
    """
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
    query = urlencode([*kept, *((name, str(value)) for name, value in changed.items())])
    response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
