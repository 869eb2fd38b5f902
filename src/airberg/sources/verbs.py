"""Asks a connector one question: what it takes (spec), does it work (check), what is there (discover)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from airberg.errors import TransientFailed
from airberg.protocol.ledger import exit_sentence, run_error
from airberg.protocol.messages import (
    Catalog,
    ConnectionStatus,
    Control,
    Log,
    Message,
    Spec,
    TraceError,
    decode,
)
from airberg.sources.description import LaunchDescription
from airberg.sources.process import MAX_LINE_BYTES, ConnectorProcess
from airberg.sources.redact import Redactor
from airberg.sources.renewal import check_renewal
from airberg.sources.secret_fields import secret_values

OnConfig: TypeAlias = Callable[[dict[str, Any]], None]

Answer: TypeAlias = Spec | Catalog | ConnectionStatus

MAX_SPEC_BYTES = 8 * 1024 * 1024
"""The largest specification of the registry's connectors has 0.3 MB; this one is held for every job."""
_MAX_TEXT = 2_000
_ANSWERS: dict[str, type[Answer]] = {"spec": Spec, "check": ConnectionStatus, "discover": Catalog}
_GRACE_S = 1.0  # somebody waits for the answer


class CheckOutcome(msgspec.Struct, frozen=True):
    """The connector's verdict about a configuration; `message` is its own, without secrets."""

    ok: bool
    message: str = ""


class Inquiry:
    """One verb of a connector that runs until it has answered; use as a context manager.

    The answer is awaited in the thread that made the inquiry; `stop` may be called from any.

    Args:
        launch: How to start the connector.
        verb: `spec`, `check` or `discover`.
        config: The configuration; None for `spec`.
        on_config: Gets a new configuration when the connector changes its own (a rotated token), before
            anything that it writes afterwards is read.
        told: Makes of what it says, secrets taken out, what errors may tell.
        hidden: Further secrets, wherever in the configuration they are.
    """

    def __init__(
        self,
        launch: LaunchDescription,
        verb: str,
        config: dict[str, Any] | None = None,
        on_config: OnConfig | None = None,
        told: Callable[[str], str] = str,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self._verb = verb
        self._told = told
        self._config = config or {}
        self._on_config = on_config
        self._stopped = threading.Event()
        self._spec = launch.spec
        self._secrets = secret_values(launch.spec, self._config) | hidden
        self._redactor = Redactor(self._secrets)
        self._errors: list[TraceError] = []
        self._answer: Answer | None = None
        self._no_message = ""
        self._process = ConnectorProcess(
            launch,
            verb,
            {} if config is None else {"config": msgspec.json.encode(config)},
            redactor=self._redactor,
            grace_s=_GRACE_S,
            max_line_bytes=MAX_SPEC_BYTES if verb == "spec" else MAX_LINE_BYTES,
        )

    def answer(self, timeout_s: float) -> Answer:
        """Wait for the answer.

        Raises:
            ConfigurationFailed: The connector reports an error of its configuration, hands out a new one that
                cannot be right, or writes a line that is too long.
            TransientFailed: It reports another error, ends without an answer or not in time, or goes over a
                limit.
        """
        deadline = time.monotonic() + timeout_s
        number = 0
        try:
            for lines in self._process.batches(idle_timeout_s=timeout_s, deadline=deadline):
                for line in lines:
                    number += 1
                    self._note(decode(line, number), line)
        except TransientFailed:
            if self._answer is None or self._errors:
                raise
            # It has answered, but did not end by itself in time: the answer counts.
            return self._answer
        if self._errors and not isinstance(self._answer, ConnectionStatus):
            raise run_error(self._errors[0], lambda text: self._told(self._redactor.text(text)))
        if self._answer is None:
            # Its last words may be on either output; what is no message at all says most (an HTML page).
            words = (
                f"{self._process.stderr_tail}\n{self._redactor.text(self._no_message)[:_MAX_TEXT]}".strip()
            )
            how = exit_sentence(self._process.exit_code, self._told(self._redactor.text(words)))
            raise TransientFailed(f"No answer to `{self._verb}`: {how}", code="connector-exited")
        return self._answer

    def _note(self, message: Message, line: bytes) -> None:
        if isinstance(message, TraceError):
            self._errors = self._errors or [message]  # the first is the cause
        elif isinstance(message, Control):
            check_renewal(self._spec, self._config, message.config)
            self._config = message.config
            # Secrets of the new configuration must not show either.
            self._secrets |= secret_values(self._spec, message.config)
            self._redactor = Redactor(self._secrets)
            if self._on_config is not None:
                self._on_config(message.config)
        elif isinstance(message, ConnectionStatus) and self._verb == "check":
            text = self._redactor.text(message.message).strip()[:_MAX_TEXT]
            self._answer = ConnectionStatus(message.succeeded, text)
        elif isinstance(message, Spec | Catalog) and isinstance(message, _ANSWERS[self._verb]):
            self._answer = message
        elif isinstance(message, Log) and line[:1] != b"{" and message.message:
            self._no_message = message.message[: 4 * _MAX_TEXT]

    def stop(self) -> None:
        """End the connector; a waiting `answer` raises."""
        self._process.stop()

    def __enter__(self) -> Inquiry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()


def specification(launch: LaunchDescription, timeout_s: float) -> dict[str, Any]:
    """Ask the connector what configuration it takes (protocol: `spec`).

    Returns:
        The `connectionSpecification`, a JSON schema.

    Raises:
        ConfigurationFailed: It has more than `MAX_SPEC_BYTES` (`line-too-long`).
        TransientFailed: The connector ends without an answer or not in time, goes over a limit, or answers
            something else (`connector-specification`).
    """
    with Inquiry(launch, "spec") as inquiry:
        spec = inquiry.answer(timeout_s)
    schema = spec.spec.get("connectionSpecification") if isinstance(spec, Spec) else None
    if not isinstance(schema, dict):
        raise TransientFailed(
            "The connector's specification has no `connectionSpecification` that is an object.",
            guidance="Is this a connector, and of this version of the protocol?",
            code="connector-specification",
        )
    return schema


def check(
    launch: LaunchDescription,
    config: dict[str, Any],
    timeout_s: float,
    on_config: OnConfig | None = None,
    hidden: frozenset[str] = frozenset(),
) -> CheckOutcome:
    """Let the connector try its configuration (protocol: `check`).

    Args: see `Inquiry`.

    Raises:
        ConfigurationFailed: The connector reports an error of its configuration instead of a verdict.
        TransientFailed: It reports another error, ends without a verdict, or not in time.
    """
    with Inquiry(launch, "check", config, on_config, hidden=hidden) as inquiry:
        status = inquiry.answer(timeout_s)
    if not isinstance(status, ConnectionStatus):
        raise TypeError(f"a check is answered by a status, not {type(status).__name__}")
    return CheckOutcome(status.succeeded, status.message)


def discover(
    launch: LaunchDescription,
    config: dict[str, Any],
    timeout_s: float,
    on_config: OnConfig | None = None,
    told: Callable[[str], str] = str,
    hidden: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """Ask the connector which streams there are (protocol: `discover`), as `AirbyteStream` objects.

    Args: see `Inquiry`.

    Raises:
        ConfigurationFailed: The connector reports an error of its configuration.
        TransientFailed: It reports another error, ends without a catalog, or not in time.
    """
    with Inquiry(launch, "discover", config, on_config, told, hidden) as inquiry:
        catalog = inquiry.answer(timeout_s)
    if not isinstance(catalog, Catalog):
        raise TypeError(f"a discover is answered by a catalog, not {type(catalog).__name__}")
    return catalog.streams
