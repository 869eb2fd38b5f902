"""Which methods an address knows: for the header Allow of a 405 (RFC 9110 section 15.5.6).

Routing stops at the first route of an address, and each of our routes has one method.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import BaseRoute, Match

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(request: Request) -> str:
    """All methods that some route of the application takes at the address of the request."""
    routes: Iterable[BaseRoute] = request.app.routes
    place = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}

    def known(method: str) -> bool:
        return any(route.matches(place | {"method": method})[0] is Match.FULL for route in routes)

    return ", ".join(method for method in METHODS if known(method))
