"""Before a job is accepted: is the configuration well formed, does it work, what can be read with it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from airberg.errors import InvalidRequest, RunError, Unavailable
from airberg.protocol.messages import Catalog, ConnectionStatus
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.spec import ROOT, config_problems
from airberg.sources.verbs import Inquiry, OnConfig
from airberg.sources.workspace import for_protected_columns

if TYPE_CHECKING:
    from airberg.settings import Settings
    from airberg.sources.registry import ConnectorEntry

_GUIDANCE = "Correct the source configuration and send the request again."


class Preflight(msgspec.Struct, frozen=True):
    """What a preflight found: how to start the connector, and its streams (`AirbyteStream` objects)."""

    launch: LaunchDescription
    streams: list[dict[str, Any]]


def preflight(
    entry: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    deadline: float,
    on_config: OnConfig | None = None,
    *,
    protects: bool = False,
) -> Preflight:
    """Resolve the connector, validate the configuration, check it and discover its streams.

    Check and discover run at the same time, unless the configuration holds a refresh token: the source may
    accept such a token once, so the second question must use what the first one got for it.

    Args:
        entry: Which connector.
        config: The configuration, with secrets.
        settings: For the folders.
        deadline: When it has to be over, on `time.monotonic`'s clock.
        on_config: Gets the configuration whenever the connector changes it (a rotated token): the one to
            store. Called in another thread than the caller's.
        protects: Whether the job protects columns; see `airberg.sources.workspace.for_protected_columns`.

    Raises:
        InvalidRequest: The configuration does not fit the specification, or the connector says that it does
            not work (`check-failed`, `discover-failed`), in the connector's own words without secrets.
        Unavailable: Not ready in time (`connector-installing`, `preflight-timeout`).
    """
    launch = resolve(entry, settings, deadline=deadline)
    if protects:
        launch = for_protected_columns(launch, settings)
    problems = config_problems(launch.spec, config)
    if problems:
        raise InvalidRequest(problems)
    if _has_refresh_token(config):
        return Preflight(launch, _one_after_another(launch, config, deadline, on_config))
    return Preflight(launch, _at_once(launch, config, deadline, on_config))


def _one_after_another(
    launch: LaunchDescription, config: dict[str, Any], deadline: float, on_config: OnConfig | None
) -> list[dict[str, Any]]:
    newest = [config]

    def changed(new: dict[str, Any]) -> None:
        newest.append(new)
        if on_config is not None:
            on_config(new)

    with Inquiry(launch, "check", config, changed) as inquiry:
        _judge(inquiry, deadline)
    with Inquiry(launch, "discover", newest[-1], changed) as inquiry:
        return _streams(inquiry, deadline)


def _at_once(
    launch: LaunchDescription, config: dict[str, Any], deadline: float, on_config: OnConfig | None
) -> list[dict[str, Any]]:
    discover: Future[list[dict[str, Any]]]
    started: Future[Inquiry] = Future()

    def run_discover() -> list[dict[str, Any]]:
        # Started here, in the thread that waits for it: the process dies with the thread that started it.
        try:
            inquiry = Inquiry(launch, "discover", config, on_config)
        except BaseException as error:
            started.set_exception(error)
            raise
        with inquiry:
            started.set_result(inquiry)
            return _streams(inquiry, deadline)

    with ThreadPoolExecutor(1, thread_name_prefix="discover") as pool:
        discover = pool.submit(run_discover)
        try:
            with Inquiry(launch, "check", config, on_config) as inquiry:
                _judge(inquiry, deadline)
        except BaseException:
            if started.exception() is None:
                started.result().stop()
            raise
        return discover.result()


def _judge(inquiry: Inquiry, deadline: float) -> None:
    try:
        status = inquiry.answer(max(deadline - time.monotonic(), 0.0))
    except RunError as error:
        raise _refused(error, "check-failed") from None
    if isinstance(status, ConnectionStatus) and not status.succeeded:
        message = status.message or "The connector could not connect to the source and does not say why."
        raise InvalidRequest.one(ROOT, "check-failed", message, _GUIDANCE)


def _streams(inquiry: Inquiry, deadline: float) -> list[dict[str, Any]]:
    try:
        catalog = inquiry.answer(max(deadline - time.monotonic(), 0.0))
    except RunError as error:
        raise _refused(error, "discover-failed") from None
    return catalog.streams if isinstance(catalog, Catalog) else []


def _refused(error: RunError, code: str) -> InvalidRequest | Unavailable:
    if error.code in ("connector-timeout", "connector-idle"):
        return Unavailable(
            "The source did not answer in time.",
            retry_after=30,
            guidance="Try again, or send the request with ?preflight=skip to have it accepted unchecked.",
            code="preflight-timeout",
        )
    return InvalidRequest.one(ROOT, code, error.message, _GUIDANCE)


def _has_refresh_token(value: object) -> bool:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if any("refresh_token" in str(name).lower() for name in item):
                return True
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    return False
