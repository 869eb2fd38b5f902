"""Asks a connector one question: does this configuration work (check), what can be read (discover)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from airberg.errors import TransientFailed
from airberg.protocol.ledger import exit_sentence, run_error
from airberg.protocol.messages import Catalog, ConnectionStatus, Control, Message, TraceError, decode
from airberg.sources.launch import LaunchDescription
from airberg.sources.process import ConnectorProcess
from airberg.sources.redact import Redactor
from airberg.sources.secret_fields import secret_values

OnConfig: TypeAlias = Callable[[dict[str, Any]], None]

_MAX_TEXT = 2_000
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
        verb: `check` or `discover`.
        config: The configuration.
        on_config: Gets a new configuration when the connector changes its own (a rotated token), before
            anything that it writes afterwards is read.
        told: Makes of what it says, secrets taken out, what errors may tell.
    """

    def __init__(
        self,
        launch: LaunchDescription,
        verb: str,
        config: dict[str, Any],
        on_config: OnConfig | None = None,
        told: Callable[[str], str] = str,
    ) -> None:
        self._verb = verb
        self._told = told
        self._on_config = on_config
        self._stopped = threading.Event()
        self._spec = launch.spec
        self._secrets = secret_values(launch.spec, config)
        self._redactor = Redactor(self._secrets)
        self._errors: list[TraceError] = []
        self._answer: Catalog | ConnectionStatus | None = None
        self._process = ConnectorProcess(
            launch,
            verb,
            {"config": msgspec.json.encode(config)},
            redactor=self._redactor,
            grace_s=_GRACE_S,
        )

    def answer(self, timeout_s: float) -> Catalog | ConnectionStatus:
        """Wait for the answer.

        Raises:
            ConfigurationFailed: The connector reports an error of its configuration.
            TransientFailed: It reports another error, ends without an answer, or not in time.
        """
        deadline = time.monotonic() + timeout_s
        number = 0
        try:
            for lines in self._process.batches(idle_timeout_s=timeout_s, deadline=deadline):
                for line in lines:
                    number += 1
                    self._note(decode(line, number))
        except TransientFailed:
            if self._answer is None or self._errors:
                raise
            # It has answered, but did not end by itself in time: the answer counts.
            return self._answer
        if self._errors and not isinstance(self._answer, ConnectionStatus):
            raise run_error(self._errors[0], lambda text: self._told(self._redactor.text(text)))
        if self._answer is None:
            tail = self._told(self._redactor.text(self._process.stderr_tail))
            how = exit_sentence(self._process.exit_code, tail)
            raise TransientFailed(f"No answer to `{self._verb}`: {how}", code="connector-exited")
        return self._answer

    def _note(self, message: Message) -> None:
        if isinstance(message, TraceError):
            self._errors.append(message)
        elif isinstance(message, Control):
            # Secrets of the new configuration must not show either.
            self._secrets |= secret_values(self._spec, message.config)
            self._redactor = Redactor(self._secrets)
            if self._on_config is not None:
                self._on_config(message.config)
        elif isinstance(message, ConnectionStatus) and self._verb == "check":
            text = self._redactor.text(message.message).strip()[:_MAX_TEXT]
            self._answer = ConnectionStatus(message.succeeded, text)
        elif isinstance(message, Catalog) and self._verb == "discover":
            self._answer = message

    def stop(self) -> None:
        """End the connector; a waiting `answer` raises."""
        self._process.stop()

    def __enter__(self) -> Inquiry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()


def check(
    launch: LaunchDescription,
    config: dict[str, Any],
    timeout_s: float,
    on_config: OnConfig | None = None,
) -> CheckOutcome:
    """Let the connector try its configuration (protocol: `check`).

    Raises:
        ConfigurationFailed: The connector reports an error of its configuration instead of a verdict.
        TransientFailed: It reports another error, ends without a verdict, or not in time.
    """
    with Inquiry(launch, "check", config, on_config) as inquiry:
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
) -> list[dict[str, Any]]:
    """Ask the connector which streams there are (protocol: `discover`), as `AirbyteStream` objects.

    Args: see `Inquiry`.

    Raises:
        ConfigurationFailed: The connector reports an error of its configuration.
        TransientFailed: It reports another error, ends without a catalog, or not in time.
    """
    with Inquiry(launch, "discover", config, on_config, told) as inquiry:
        catalog = inquiry.answer(timeout_s)
    if not isinstance(catalog, Catalog):
        raise TypeError(f"a discover is answered by a catalog, not {type(catalog).__name__}")
    return catalog.streams
