"""Bodies that cannot be read: who may not call is told that, and not what is wrong with the body.

FastAPI reads a JSON body before it looks at who calls, and everything else afterwards.
"""

from __future__ import annotations

from fastapi.dependencies.models import Dependant
from fastapi.security import SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from airberg.api.auth import principal


async def refuse_stranger(request: Request) -> None:
    """Ask for the credentials that the route asks for.

    Raises:
        NotAuthenticated: See `principal`, as for all others.
    """
    dependant: Dependant | None = getattr(request.scope.get("route"), "dependant", None)
    for needed in dependant.dependencies if dependant else ():
        if needed.call is principal:
            scopes = SecurityScopes([*(needed.parent_oauth_scopes or ()), *(needed.own_oauth_scopes or ())])
            await run_in_threadpool(principal, scopes, request)
