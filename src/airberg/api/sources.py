"""Sources over HTTP: which there are, what they need, whether a configuration works, what can be read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airberg.api.auth import INGEST_WRITE, principal
from airberg.api.ingest import raw_body
from airberg.api.problems import PROBLEM_RESPONSES, body_problems, read_json_object
from airberg.api.slots import Slots
from airberg.api.source_views import (
    CheckView,
    DiscoverView,
    SourceDetails,
    SourceSummary,
    found_stream,
    source_details,
    source_summary,
)
from airberg.errors import InvalidRequest, NotFound, Unavailable
from airberg.identity.principal import Principal
from airberg.settings import Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.launch import LaunchDescription, installed, resolve
from airberg.sources.questions import SourceQuestions
from airberg.sources.registry import ConnectorRegistry, load_registry

router = APIRouter(tags=["sources"], responses=PROBLEM_RESPONSES)

Reads = Annotated[Principal, Security(principal, scopes=["ingest:read"])]
Writes = Annotated[Principal, Security(principal, scopes=["ingest:write"])]

INSTALLING = "connector-installing"


class SourceBody(BaseModel):
    """A source with its configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    source_name: str = Field(max_length=100, description="PyAirbyte source identifier, `source-github`.")
    source_version: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Version of the connector, of those known; default the one for new jobs."
    )
    source_config: dict[str, Any] = Field(description="The connector's configuration, secrets included.")


OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": SourceBody.model_json_schema()}},
    }
}


def parse(raw: bytes) -> SourceBody:
    """The checked body.

    Raises:
        InvalidRequest: With everything that is wrong with the form.
    """
    try:
        return SourceBody.model_validate(read_json_object(raw))
    except ValidationError as e:
        raise InvalidRequest(body_problems(e, SourceBody)) from None


@router.get("/api/airbyte/sources", response_model=list[SourceSummary])
def list_sources(
    request: Request,
    _: Reads,
    search: Annotated[str | None, Query(max_length=200, description="Words of name or description.")] = None,
    category: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> list[SourceSummary]:
    """Known connectors by name: Airbyte's on the package index, and those of this deployment."""
    settings: Settings = request.app.state.settings
    words = (search or "").lower().split()
    registry = load_registry(settings)
    found = [
        entry
        for entry in registry.entries()
        if (category is None or entry.category.lower() == category.lower())
        and all(word in f"{entry.name} {entry.title} {entry.description}".lower() for word in words)
    ]
    return [source_summary(entry, _launch(registry, entry, settings)) for entry in found[:limit]]


@router.get(
    "/api/airbyte/sources/{source_name}",
    response_model=SourceDetails,
    responses={202: {"model": SourceDetails, "description": "It is being installed; see Retry-After."}},
)
def get_source(
    request: Request,
    response: Response,
    source_name: str,
    caller: Reads,
    version: Annotated[str | None, Query(max_length=100, description="Default: that of new jobs.")] = None,
) -> SourceDetails:
    """A connector with the fields of its configuration.

    They come from the connector itself. One that is not installed is installed for callers with the scope
    `ingest:write`; until that has happened the answer is 202 and has no fields. Others get what is known.
    """
    settings: Settings = request.app.state.settings
    registry = load_registry(settings)
    try:
        entry = registry.find(source_name, version)
    except InvalidRequest as error:
        problem = error.problems[0]
        raise NotFound(problem.message, guidance=problem.guidance, code=problem.code) from None
    launch = installed(entry, settings)
    if launch is None and INGEST_WRITE in caller.scopes:
        slots: Slots = request.app.state.slots
        deadline = time.monotonic() + settings.sources.preflight_timeout_s
        try:
            with slots.one():
                launch = resolve(entry, settings, deadline=deadline)
        except Unavailable as error:
            if error.code != INSTALLING:
                raise
            response.status_code = 202
            response.headers["Retry-After"] = str(error.retry_after)
    versions = [known.known_version for known in registry.versions(source_name)]
    return source_details(entry, versions, launch)


@router.post("/api/airbyte/check", response_model=CheckView, openapi_extra=OPENAPI_BODY)
def check_source(request: Request, caller: Writes, raw: Annotated[bytes, Depends(raw_body)]) -> CheckView:
    """Let the connector try a configuration. A configuration that does not work is no error of this call."""
    body = parse(raw)
    questions: SourceQuestions = request.app.state.questions
    slots: Slots = request.app.state.slots
    with slots.one():
        found = questions.check(
            _entry(body, request), body.source_config, owner=caller.owner_id, roles=caller.roles
        )
    return CheckView(
        succeeded=found.outcome.ok,
        message=found.outcome.message or None,
        source_name=body.source_name,
        version=found.version,
        config_renewed=found.config_renewed,
    )


@router.post("/api/airbyte/discover", response_model=DiscoverView, openapi_extra=OPENAPI_BODY)
def discover_streams(
    request: Request,
    caller: Writes,
    raw: Annotated[bytes, Depends(raw_body)],
    again: Annotated[bool, Query(description="Ask the source even if it was asked just before.")] = False,
) -> DiscoverView:
    """Check a configuration and find what can be read with it.

    The answer holds for a few minutes: an ingest with the same configuration then need not ask the source.
    """
    body = parse(raw)
    questions: SourceQuestions = request.app.state.questions
    slots: Slots = request.app.state.slots
    with slots.one():
        found = questions.discover(
            _entry(body, request), body.source_config, owner=caller.owner_id, roles=caller.roles, again=again
        )
    return DiscoverView(
        source_name=body.source_name,
        version=found.version,
        discovered_at=datetime.fromtimestamp(found.at, UTC),
        config_renewed=found.config_renewed,
        streams=[found_stream(stream) for stream in found.streams],
    )


def _launch(
    registry: ConnectorRegistry, entry: ConnectorEntry, settings: Settings
) -> LaunchDescription | None:
    try:
        return installed(registry.find(entry.name), settings)
    except Unavailable:  # its manifest is not there
        return None


def _entry(body: SourceBody, request: Request) -> ConnectorEntry:
    settings: Settings = request.app.state.settings
    return load_registry(settings).find(body.source_name, body.source_version)
