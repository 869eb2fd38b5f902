"""Routes for machines: health, and the feed that Airflow's DAG bundle reads."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from airberg import __version__
from airberg.api.auth import machine
from airberg.flows.feed import FlowFeed
from airberg.flows.port import Orchestrator
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


@internal.get("/internal/airflow/flows", dependencies=[Depends(machine)])
def flows(request: Request) -> Response:
    """Specs of all flows: ids, names, schedules. Never a configuration."""
    feed: FlowFeed = request.app.state.flow_feed
    version = feed.version()
    if request.headers.get("if-none-match") == version:
        return Response(status_code=304, headers={"ETag": version})
    return Response(feed.body(version), media_type="application/json", headers={"ETag": version})
