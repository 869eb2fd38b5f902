"""Change proposals straight to DataHub's metadata service (GMS), through DataHub's own emitter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from airberg.errors import Unavailable
from airberg.governance.port import Proposal


class RestSink:
    """Sends a run's proposals in one batch and waits until the primary store has them.

    Args:
        server: Address of the metadata service.
        token: Access token, if it wants one; never shown.
        timeout_s: Of each request, to connect and to answer, in seconds (at least 1).
        retries: Of each request inside one `send`, after 429, 5xx or a lost connection; the waits grow
            from 0 over 4 to 8 s. The flow task is retried on top of that.
    """

    def __init__(
        self, server: str, *, token: str | None = None, timeout_s: float = 10.0, retries: int = 2
    ) -> None:
        self._server = server.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._retries = retries

    def __repr__(self) -> str:
        return f"RestSink({shown(self._server)!r})"

    def send(self, job_id: UUID, run_id: UUID, proposals: Sequence[Proposal]) -> str:
        """Send the proposals; see `MetadataSink.send`.

        Each carries the run as `airberg-<run id>`, so that `datahub ingest rollback` can take it back.
        """
        emitter_class, sync, failures = _emitter()
        stamped = _stamped(proposals, pipeline=f"airberg_{job_id}", run=f"airberg-{run_id}")
        try:
            emitter = emitter_class(
                self._server, token=self._token, timeout_sec=self._timeout_s, retry_max_times=self._retries
            )
            try:
                emitter.test_connection()  # tells the web front end from the metadata service
                emitter.emit_mcps(stamped, emit_mode=sync)
            finally:
                emitter.close()
        except failures as error:
            raise Unavailable(
                f"DataHub at {shown(self._server)} did not take the metadata: {_reason(error)}",
                guidance="Check AIRBERG_DATAHUB__SERVER and AIRBERG_DATAHUB__TOKEN; the task is tried again.",
                code="metadata-unavailable",
            ) from error
        return shown(self._server)


def shown(server: str) -> str:
    """An address as it may be shown: without user and password."""
    parts = urlsplit(server)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def _stamped(proposals: Sequence[Proposal], *, pipeline: str, run: str) -> list[Proposal]:
    """Copies of the proposals that say which pipeline and run they come from."""
    from datahub.metadata.schema_classes import SystemMetadataClass

    stamped = deepcopy(list(proposals))
    for proposal in stamped:
        proposal.systemMetadata = SystemMetadataClass(runId=run, pipelineName=pipeline)
    return stamped


def _reason(error: Exception) -> str:
    """The first line of what the client or the server said, at most 300 characters."""
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _emitter() -> tuple[Any, Any, tuple[type[Exception], ...]]:
    """DataHub's emitter class, its synchronous mode, and what it raises.

    Importing the emitter makes `~/.datahub/telemetry-config.json`, telemetry switched off or not. The
    folder is a constant of `datahub.cli.config_utils` that no variable changes, so it is set, before
    anything has read it, to a place where nothing can be made; DataHub then goes on without the file.
    """
    from datahub.cli import config_utils

    home, config_utils.DATAHUB_ROOT_FOLDER = config_utils.DATAHUB_ROOT_FOLDER, os.devnull
    try:
        from datahub.emitter.rest_emitter import DatahubRestEmitter, EmitMode
    finally:
        config_utils.DATAHUB_ROOT_FOLDER = home
    from datahub.configuration.common import ConfigurationError, OperationalError
    from requests import RequestException

    return DatahubRestEmitter, EmitMode.SYNC_PRIMARY, (ConfigurationError, OperationalError, RequestException)
