"""Before a job is accepted: is the configuration well formed, does it work, what can be read with it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from airberg.errors import InvalidRequest, RunError, Unavailable
from airberg.protocol.messages import Catalog, ConnectionStatus
from airberg.sources.hosts import host_problems
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.limits import LIMIT_CODES
from airberg.sources.recent import Found
from airberg.sources.references import Resolved, refuse_values, resolve_references
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
        given: The configuration that the connector got.
    """

    launch: LaunchDescription
    streams: list[dict[str, Any]]
    asked: bool = True
    given: Resolved | None = None

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
    owner: str | None = "",
    protects: bool = False,
) -> Preflight:
    """Resolve the connector, validate the configuration, check it and discover its streams.

    Check and discover run at the same time, unless the configuration holds a refresh token: the source may
    accept such a token once, so the second question must use what the first one got for it.

    Args:
        entry: Which connector.
        config: The configuration, with secrets, or references to them.
        settings: For the folders.
        deadline: When it has to be over, on `time.monotonic`'s clock.
        on_config: Gets the configuration whenever the connector changes it (a rotated token): the one to
            store, with its references. Called in another thread than the caller's.
        owner: Whose rules count for references to secrets; without one those for everybody. None may use all.
        protects: Whether the job protects columns; see `airberg.sources.workspace.for_protected_columns`.
        recent: What was found with this configuration a short while ago. Its streams stand for the answers
            while the connector is the same; its renewed configuration replaces the one that was sent.

    Raises:
        InvalidRequest: The configuration does not fit the specification, a reference in it does not hold, or
            the connector says that it does not work (`check-failed`, `discover-failed`), in the connector's
            own words without secrets.
        Unavailable: Not ready in time (`connector-installing`, `preflight-timeout`).
    """
    launch, given = _started(entry, config, settings, deadline, on_config, recent, owner)
    if protects:
        launch = for_protected_columns(launch, settings)
    if recent is not None and recent.streams is not None and recent.fingerprint == launch.fingerprint:
        return Preflight(launch, recent.streams, asked=False, given=given)
    ask = _Asking(launch, given, deadline, on_config)
    if _has_refresh_token(given.config):
        return Preflight(launch, ask.one_after_another(), given=given)
    return Preflight(launch, ask.at_once(), given=given)


def check_source(
    entry: ConnectorEntry,
    config: dict[str, Any],
    settings: Settings,
    deadline: float,
    on_config: OnConfig | None = None,
    recent: Found | None = None,
    *,
    owner: str | None = "",
) -> tuple[LaunchDescription, CheckOutcome]:
    """Resolve the connector, validate the configuration, let the connector try it.

    The arguments are those of `preflight`.

    Raises:
        InvalidRequest: The configuration does not fit the specification.
        Unavailable: Not ready in time.
    """
    launch, given = _started(entry, config, settings, deadline, on_config, recent, owner)
    with _Asking(launch, given, deadline, on_config).inquiry("check") as inquiry:
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
    owner: str | None,
) -> tuple[LaunchDescription, Resolved]:
    """The connector, and the configuration to ask it with."""
    refuse_values(config, owner, settings.secrets.rules)
    launch = resolve(entry, settings, deadline=deadline)
    given = resolve_references(config, owner, settings.secrets)
    problems = config_problems(launch.spec, given.config) or host_problems(
        given.config, launch.limits.host_rules
    )
    if problems:
        raise InvalidRequest(problems)
    if recent is None or recent.renewed_config is None:
        return launch, given
    if on_config is not None:
        on_config(recent.renewed_config)
    return launch, resolve_references(recent.renewed_config, owner, settings.secrets)


class _Asking:
    """Asks one connector about one configuration; what it changes goes on with its references."""

    def __init__(
        self, launch: LaunchDescription, given: Resolved, deadline: float, on_config: OnConfig | None
    ) -> None:
        self._launch = launch
        self._given = given
        self._deadline = deadline
        self._on_config = on_config
        self._newest = given.config

    def inquiry(self, verb: str) -> Inquiry:
        """A question with the newest configuration."""
        return Inquiry(self._launch, verb, self._newest, self._changed, hidden=self._given.hidden)

    def _changed(self, config: dict[str, Any]) -> None:
        self._newest = config
        if self._on_config is not None:
            self._on_config(self._given.restored(config))

    def one_after_another(self) -> list[dict[str, Any]]:
        """Check, then discover."""
        with self.inquiry("check") as inquiry:
            _judge(inquiry, self._deadline)
        with self.inquiry("discover") as inquiry:
            return _streams(inquiry, self._deadline)

    def at_once(self) -> list[dict[str, Any]]:
        """Check and discover."""
        discover: Future[list[dict[str, Any]]]
        started: Future[Inquiry] = Future()

        def run_discover() -> list[dict[str, Any]]:
            # Started here, in the thread that waits for it: the process dies with the thread that started it.
            try:
                inquiry = self.inquiry("discover")
            except BaseException as error:
                started.set_exception(error)
                raise
            with inquiry:
                started.set_result(inquiry)
                return _streams(inquiry, self._deadline)

        with ThreadPoolExecutor(1, thread_name_prefix="discover") as pool:
            discover = pool.submit(run_discover)
            try:
                with self.inquiry("check") as inquiry:
                    _judge(inquiry, self._deadline)
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
