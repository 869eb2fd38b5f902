"""Routes for machines: health, and the feed that Airflow's DAG bundle reads."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from airberg import __version__
from airberg.api.auth import machine
from airberg.errors import MalformedCredentials, NotAuthenticated
from airberg.flows.feed import FlowFeed
from airberg.flows.port import Orchestrator
from airberg.flows.pulls import FeedPulls
from airberg.jobs.port import JobStore
from airberg.settings import Settings

health = APIRouter(tags=["health"])
internal = APIRouter(include_in_schema=False)


class HealthView(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str = Field(description="Airberg's.")


class PingView(HealthView):
    """The process answers; as clients of the sibling API read it."""

    build_number: str = Field(description="`AIRBERG_API__BUILD_NUMBER`, or `0`.")


class ReadyView(HealthView):
    """The database answers, too."""

    orchestrator: bool = Field(description="Whether Airflow is healthy. Without it jobs are still taken.")


@health.get("/api/health/ping", response_model=PingView)
def ping(request: Request) -> PingView:
    """The process answers, and says what it is."""
    settings: Settings = request.app.state.settings
    return PingView(version=__version__, build_number=settings.api.build_number)


@health.get("/api/health/live", response_model=HealthView)
def live() -> HealthView:
    """The process answers."""
    return HealthView(version=__version__)


@health.get("/api/health/ready", response_model=ReadyView)
def ready(request: Request) -> ReadyView:
    """The parts answer that a POST needs; without the orchestrator jobs are still taken."""
    store: JobStore = request.app.state.store
    orchestrator: Orchestrator = request.app.state.orchestrator
    store.flows_version()
    return ReadyView(version=__version__, orchestrator=orchestrator.healthy())


def noted_machine(request: Request) -> None:
    """Let in who has the machine token, and note who asks for flows, with it or without.

    Raises:
        NotAuthenticated: There is no token, or it is another one.
        MalformedCredentials: The header is not well formed.
    """
    pulls: FeedPulls = request.app.state.pulls
    try:
        machine(request)
    except (NotAuthenticated, MalformedCredentials):
        pulls.refuse(request.client.host if request.client else None)
        raise
    pulls.note(request.headers.get("user-agent", ""), request.headers.get("date"))


@internal.get("/internal/airflow/pulls", dependencies=[Depends(machine)])
def pulls(request: Request) -> Response:
    """Who has asked this process for the flows; for `airberg airflow doctor`."""
    seen: FeedPulls = request.app.state.pulls
    return Response(seen.as_json(), media_type="application/json")


@internal.get("/internal/airflow/flows", dependencies=[Depends(noted_machine)])
def flows(request: Request) -> Response:
    """Specs of all flows: ids, names, schedules. Never a configuration."""
    feed: FlowFeed = request.app.state.flow_feed
    version = feed.version()
    if request.headers.get("if-none-match") == version:
        return Response(status_code=304, headers={"ETag": version})
    return Response(feed.body(version), media_type="application/json", headers={"ETag": version})
