"""Events through OpenLineage's own client, to whatever transport its configuration names."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.transport.console import ConsoleTransport

from airberg.errors import ConfigurationFailed, Unavailable
from airberg.governance.openlineage.lineage_settings import OpenLineageSettings
from airberg.governance.openlineage.port import Event
from airberg.settings import Settings

ATTEMPTS = 2
"""A run must not wait long: the client's own default is five more attempts, with pauses."""


def open_lineage_sink(settings: Settings) -> ClientSink:
    """The client for these settings; where they name no address, OpenLineage's own configuration decides.

    Raises:
        ConfigurationFailed: It cannot be used (`openlineage-misconfigured`).
    """
    # Below ERROR the client quotes variables and configuration, and with them keys.
    logging.getLogger("openlineage").setLevel(logging.ERROR)
    # Git's address of the folder where the task happens to run says nothing about the load.
    config: dict[str, Any] = {"facets": {"source_code_location": {"disabled": True}}}
    if transport := _transport(settings.openlineage):
        config["transport"] = transport
    try:
        with _variables_as_they_are():
            client = OpenLineageClient(config=config)
            wanted = (client.config.transport or {}).get("type")
    except Exception as error:  # noqa: BLE001 - whatever a transport raises, which may quote its configuration
        raise ConfigurationFailed(
            f"OpenLineage's client cannot be set up ({type(error).__name__}).",
            guidance="Check AIRBERG_OPENLINEAGE__..., or OPENLINEAGE_... and openlineage.yml.",
            code="openlineage-misconfigured",
        ) from None
    if isinstance(client.transport, ConsoleTransport):
        if wanted != ConsoleTransport.kind:
            raise ConfigurationFailed(
                "OpenLineage's configuration names no transport.",
                guidance="Name one, or set AIRBERG_OPENLINEAGE__URL.",
                code="openlineage-misconfigured",
            )
        logging.getLogger("openlineage.client.transport.console").setLevel(logging.INFO)
    return ClientSink(client)


@contextlib.contextmanager
def _variables_as_they_are() -> Iterator[None]:
    """Take out again what the client writes into the environment: the key, under another name."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in [n for n in os.environ if n.startswith("OPENLINEAGE__") and n not in before]:
            del os.environ[name]


def _transport(settings: OpenLineageSettings) -> dict[str, Any] | None:
    if settings.url is None:
        return None
    transport: dict[str, Any] = {
        "type": "http",
        "url": settings.url,
        "endpoint": settings.endpoint,
        "timeout": settings.timeout_s / 2,
        "retry": {"total": ATTEMPTS - 1},
    }
    if settings.api_key is not None:
        transport["auth"] = {"type": "api_key", "apiKey": settings.api_key.get_secret_value()}
    return transport


class ClientSink:
    """A `LineageSink` over OpenLineage's client."""

    def __init__(self, client: OpenLineageClient) -> None:
        self._client = client

    def emit(self, event: Event) -> None:
        """Hand an event to the transport; see `LineageSink.emit`."""
        try:
            self._client.emit(event)
        except Exception as error:  # noqa: BLE001 - each transport has errors of its own
            raise _not_taken(error) from None

    def close(self, within_s: float) -> None:
        """Let a transport that sends in the background come to its end; see `LineageSink.close`."""
        try:
            done = self._client.close(within_s)
        except Exception as error:  # noqa: BLE001 - as above
            raise _not_taken(error) from None
        if done is False:
            raise Unavailable(
                f"OpenLineage's transport has not sent all events within {within_s:g} s.",
                code="openlineage-unavailable",
            )


def _not_taken(error: Exception) -> Unavailable:
    """Says what happened without the error's text: addresses, and what a server answers, may hold a key."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    how = f"answered {status}" if status else f"failed with {type(error).__name__}"
    return Unavailable(
        f"OpenLineage's transport {how}.",
        guidance="The load is not affected; the next run tells the end of this one.",
        code="openlineage-unavailable",
    )
