"""A paginated HTTP API with orders that change, which notes what it was asked."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TOKEN = "s3cret-token-of-the-api"


class OrdersApi:
    """`GET /orders?page=1&per_page=50&updated_since=…`, by the time of the change.

    Attributes:
        orders: What there is.
        asked: The query of each call, in order.
    """

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.app = Starlette(routes=[Route("/orders", self._list)])

    def _list(self, request: Request) -> JSONResponse:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "who are you?"}, status_code=401)
        query = dict(request.query_params)
        self.asked.append(query)
        since = query.get("updated_since", "")
        found = sorted((o for o in self.orders if o["updated_at"] >= since), key=lambda o: o["updated_at"])
        size = int(query["per_page"])
        first = (int(query["page"]) - 1) * size
        return JSONResponse({"data": found[first : first + size]})


def an_order(number: int, day: int, city: str | None = "Kyiv") -> dict[str, Any]:
    """An order that was changed on that day of January 2026."""
    return {
        "id": number,
        "updated_at": f"2026-01-{day:02}T12:00:00Z",
        "customer": {"name": f"Customer {number}", "city": city},
    }
