"""Routes whose JSON bodies FastAPI reads: as strictly as the ingest call reads its own.

`route_class=JsonRoute` of a router. Otherwise the framework takes what is no interoperable JSON (a name
twice, UTF-16, NaN), and answers for a body that it cannot read before it looks at who calls.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from airberg.api.auth import principal
from airberg.api.body_problems import read_json_object
from airberg.errors import InvalidRequest


class UnreadableBody(HTTPException):
    """What is wrong with a body. While FastAPI reads one, it lets no other kind of exception through."""

    def __init__(self, problem: InvalidRequest) -> None:
        super().__init__(problem.status)
        self.problem = problem


class _StrictRequest(Request):
    """A request whose JSON is an object of interoperable JSON."""

    async def json(self) -> Any:  # noqa: ANN401 - as Starlette has it
        """The body.

        Raises:
            UnreadableBody: It is none.
        """
        try:
            return read_json_object(await self.body())
        except InvalidRequest as e:
            raise UnreadableBody(e) from None


class JsonRoute(APIRoute):
    """A route that reads its JSON body strictly, and tells strangers nothing about it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As the framework's, for a stricter request."""
        handler = super().get_route_handler()
        dependant = self.dependant

        async def handle(request: Request) -> Response:
            try:
                return await handler(_StrictRequest(request.scope, request.receive))
            except UnreadableBody as e:
                await _refuse_stranger(dependant, request)
                raise e.problem from None

        return handle


async def _refuse_stranger(dependant: Dependant, request: Request) -> None:
    """Ask for the credentials that a route asks for."""
    for needed in dependant.dependencies:
        if needed.call is principal:
            scopes = SecurityScopes([*(needed.parent_oauth_scopes or ()), *(needed.own_oauth_scopes or ())])
            await run_in_threadpool(principal, scopes, request)
