"""What a request does, as the audit log records it."""

from __future__ import annotations

from fastapi import Request

from airberg.identity.principal import Principal
from airberg.jobs.audit import Act


def acting(
    request: Request, caller: Principal, action: str, kind: str, target: object, **detail: object
) -> Act:
    """The act of a caller.

    Args:
        request: Where it comes from, and its id.
        caller: Who.
        action: What, such as `job.create`.
        kind: What it is done to: job, run, table, service-key.
        target: Its id, or its name.
        detail: What else is worth knowing; JSON, and never a secret.
    """
    return Act(
        actor=caller.actor,
        action=action,
        kind=kind,
        target=str(target),
        request_id=getattr(request.state, "request_id", ""),
        address=request.client.host if request.client else "",
        detail=detail,
    )
