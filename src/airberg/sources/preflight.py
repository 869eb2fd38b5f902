"""Before a job is accepted: is the configuration well formed, does it work, what can be read with it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from airberg.errors import InvalidRequest, RunError, Unavailable
from airberg.protocol.messages import Catalog, ConnectionStatus
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.limits import LIMIT_CODES
from airberg.sources.recent import Found
from airberg.sources.spec import config_problems
from airberg.sources.spec_problems import ROOT
from airberg.sources.verbs import CheckOutcome, Inquiry, OnConfig
from airberg.sources.workspace import for_protected_columns

if TYPE_CHECKING:
    from airberg.settings import Settings
    from airberg.sources.registry import ConnectorEntry

_GUIDANCE = "Correct the source configuration and send the request again."


class Preflight(msgspec.Struct, frozen=True):
    """What a preflight found.

    Attributes:
        launch: How to start the connector.
        streams: Its `AirbyteStream` objects.
        asked: Whether the source was asked now; it was a short while ago otherwise.
    """

    launch: LaunchDescription
    streams: list[dict[str, Any]]
    asked: bool = True

    def to_keep(self, renewed: dict[str, Any] | None) -> Found:
        """The same for `airberg.sources.recent`, with the configuration that the source handed out."""
        return Found(
            fingerprint=self.launch.fingerprint,
            version=self.launch.version,
            streams=self.streams,
            at=time.time(),
            renewed_config=renewed,
        )


def preflight(
    entry: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    deadline: float,
    on_config: OnConfig | None = None,
    recent: Found | None = None,
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
        recent: What was found with this configuration a short while ago. Its streams stand for the answers
            while the connector is the same; its renewed configuration replaces the one that was sent.

    Raises:
        InvalidRequest: The configuration does not fit the specification, or the connector says that it does
            not work (`check-failed`, `discover-failed`), in the connector's own words without secrets.
        Unavailable: Not ready in time (`connector-installing`, `preflight-timeout`).
    """
    launch, config = _started(entry, config, settings, deadline, on_config, recent)
    if protects:
        launch = for_protected_columns(launch, settings)
    if recent is not None and recent.streams is not None and recent.fingerprint == launch.fingerprint:
        return Preflight(launch, recent.streams, asked=False)
    if _has_refresh_token(config):
        return Preflight(launch, _one_after_another(launch, config, deadline, on_config))
    return Preflight(launch, _at_once(launch, config, deadline, on_config))


def check_source(
    entry: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    deadline: float,
    on_config: OnConfig | None = None,
    recent: Found | None = None,
) -> tuple[LaunchDescription, CheckOutcome]:
    """Resolve the connector, validate the configuration, let the connector try it.

    The arguments are those of `preflight`.

    Raises:
        InvalidRequest: The configuration does not fit the specification.
        Unavailable: Not ready in time.
    """
    launch, config = _started(entry, config, settings, deadline, on_config, recent)
    with Inquiry(launch, "check", config, on_config) as inquiry:
        try:
            _judge(inquiry, deadline)
        except InvalidRequest as error:
            return launch, CheckOutcome(ok=False, message=error.problems[0].message)
    return launch, CheckOutcome(ok=True)


def _started(
    entry: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    deadline: float,
    on_config: OnConfig | None,
    recent: Found | None,
) -> tuple[LaunchDescription, dict[str, Any]]:
    """The connector, and the configuration to ask it with."""
    launch = resolve(entry, settings, deadline=deadline)
    problems = config_problems(launch.spec, config)
    if problems:
        raise InvalidRequest(problems)
    if recent is None or recent.renewed_config is None:
        return launch, config
    if on_config is not None:
        on_config(recent.renewed_config)
    return launch, recent.renewed_config


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
    guidance = error.guidance if error.code in LIMIT_CODES else _GUIDANCE
    return InvalidRequest.one(ROOT, code, error.message, guidance)


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
