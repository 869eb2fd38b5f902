"""Whether the options of a flow fit this deployment: its pools, and the connections that jobs may name."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator

from airberg.errors import InvalidRequest, Problem, Unavailable
from airberg.flows.pools import DEFAULT_POOL
from airberg.flows.port import Orchestrator
from airberg.plan.flow_request import FlowRequest
from airberg.plan.names import did_you_mean
from airberg.quoted import quoted
from airberg.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_MAILER = "smtp_default"


def check_flow(flow: FlowRequest | None, settings: Settings, orchestrator: Orchestrator) -> None:
    """Refuse what Airflow could not do, or may not. While Airflow is away its pools are not looked at.

    Raises:
        InvalidRequest: There is no such pool, or jobs may not name that connection.
    """
    if flow is None:
        return
    problems = [*_pool_problems(flow, settings, orchestrator), *_connection_problems(flow, settings)]
    if problems:
        raise InvalidRequest(problems)


def _pool_problems(flow: FlowRequest, settings: Settings, orchestrator: Orchestrator) -> Iterator[Problem]:
    declared = {DEFAULT_POOL, *settings.airflow.pool_slots}
    if flow.pool is None or flow.pool in declared:
        return
    try:
        known = declared | set(orchestrator.pools())
    except Unavailable as e:
        log.warning("whether there is the pool %s is not known: %s", quoted(flow.pool), e.message)
        return
    if flow.pool not in known:
        yield Problem(
            "/flow/pool",
            "unknown-pool",
            f"Airflow has no pool {quoted(flow.pool)}, and would never start a task of it.",
            did_you_mean(flow.pool, known),
        )


def _connection_problems(flow: FlowRequest, settings: Settings) -> Iterator[Problem]:
    patterns = settings.airflow.connections
    for number, one in enumerate(flow.on_failure or ()):
        connection = one.connection or DEFAULT_MAILER
        if not any(fnmatch.fnmatchcase(connection, pattern) for pattern in patterns):
            yield Problem(
                f"/flow/on_failure/{number}/connection",
                "connection-not-allowed",
                f"Jobs may not use the connection {quoted(connection)} for notifications.",
                f"Those that they may use match: {', '.join(patterns) or 'none'}.",
            )
