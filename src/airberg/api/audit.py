"""The audit log over HTTP, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from airberg.api.paging import link_next
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads
from airberg.errors import NotAllowed
from airberg.jobs.audit import AuditEntry, AuditLog

router = APIRouter(tags=["audit"], responses=PROBLEM_RESPONSES)

Target = Annotated[
    str | None, Query(max_length=1_000, description="Only what was done to it: the id of a job, for example.")
]
Actor = Annotated[
    str | None, Query(max_length=1_000, description="Only what it did, as `actor` of an entry has it.")
]
Before = Annotated[int | None, Query(ge=1, le=2**62, description="Only entries with a lower id.")]


class ActView(BaseModel):
    """Something that somebody did."""

    id: int
    at: datetime
    actor: str = Field(description="Name as an owner, and in parentheses the identity `issuer|subject`.")
    action: str = Field(description="What was done, such as job.create.", examples=["job.create"])
    kind: str = Field(description="What it was done to: job, run, table, service-key.")
    target: str = Field(description="Its id, or its name.")
    request_id: str = Field(description="Id of the HTTP request; empty for what the command line did.")
    address: str = Field(description="Network address of the caller.")
    detail: dict[str, Any] = Field(description="What else is known of it, by the kind of the act.")


@router.get("/api/audit", response_model=list[ActView])
def list_acts(
    request: Request,
    response: Response,
    caller: Reads,
    target: Target = None,
    actor: Actor = None,
    before: Before = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[ActView]:
    """Who did what, when, and from where, newest first; for the role ingest-admin."""
    if not caller.is_admin:
        raise NotAllowed(
            "Only the role ingest-admin may see the audit log.", guidance="Ask an administrator."
        )
    log: AuditLog = request.app.state.audit
    found = log.entries(target=target, actor=actor, before=before, limit=limit + 1)
    page = found[:limit]
    if len(found) > limit:
        link_next(request, response, before=page[-1].id)
    return [_view(entry) for entry in page]


def _view(entry: AuditEntry) -> ActView:
    return ActView(
        id=entry.id,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        kind=entry.kind,
        target=entry.target,
        request_id=entry.request_id,
        address=entry.address,
        detail=dict(entry.detail),
    )
