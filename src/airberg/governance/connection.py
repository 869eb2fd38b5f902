"""One connection to DataHub's metadata service: what it takes, what it has, and what to do when it fails."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from airberg.errors import Unavailable
from airberg.governance.batches import Packed, restli_body
from airberg.governance.patch_merge import Stored

T = TypeVar("T")

PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers that may be others a moment later."""
BACKOFF_S = 1.0
BATCH = "ingestProposalBatch"
OVERTAXED = frozenset({500, 502, 504})
"""Answers of a service, or of what is before it, that may mean that a request took too much."""
ENVELOPES_SINCE = (1, 7)
"""Release of the client whose builders put patches into the envelope; a service of that release knows it."""


class NotTaken(Unavailable):
    """DataHub did not do what it was asked.

    Attributes:
        answered: Status of its answer, or None when there was none.
        asked_to_wait_s: Seconds after which it wants to be asked again, if it said so.
        was_cut: There was a connection, and then no answer: it took too long, or the connection ended.
    """

    default_code = "metadata-unavailable"

    def __init__(
        self,
        message: str,
        guidance: str,
        answered: int | None,
        asked_to_wait_s: float | None = None,
        *,
        was_cut: bool = False,
    ) -> None:
        super().__init__(message, guidance=guidance, retry_after=int(asked_to_wait_s or 10))
        self.answered = answered
        self.asked_to_wait_s = asked_to_wait_s
        self.was_cut = was_cut

    @property
    def is_refusal(self) -> bool:
        """Whether it does not want what it was sent, whenever it is sent."""
        return (
            self.answered is not None and 400 <= self.answered < 500 and self.answered not in (401, 403, 429)
        )

    @property
    def is_too_large(self) -> bool:
        """Whether a smaller request would be taken."""
        return self.answered == 413

    @property
    def may_be_too_much(self) -> bool:
        """Whether a smaller request might be done in time."""
        return self.answered in OVERTAXED or (self.answered is None and self.was_cut)

    @property
    def is_conflict(self) -> bool:
        """Whether the condition of a write did not hold: somebody else wrote in between."""
        return self.answered == 412 or (self.is_refusal and "Expected version" in self.message)


class Connection:
    """DataHub's emitter, with retries that end.

    Args:
        server: Address of the metadata service.
        token: Access token, if it wants one; never shown.
        timeout_s: To connect, and of each silence while it answers.
        retries: Of each call that fails for a reason that may pass.
        max_wait_s: Longest wait before one of them; when the service asks for more (`Retry-After`), the call
            fails at once.
        openapi: Use the OpenAPI endpoints and not those of rest.li.
        wait: Waits some seconds.

    Raises:
        NotTaken: Nobody answers there, or it is no metadata service.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None,
        timeout_s: float,
        retries: int,
        max_wait_s: float,
        openapi: bool,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        emitter_class, self._sync, self._failures = _emitter()
        self._server, self._token, self._timeout_s = server.rstrip("/"), token, timeout_s
        self._retries, self._max_wait_s, self._wait = retries, max_wait_s, wait
        self._openapi = openapi
        self._last: Any = None
        try:
            self._emitter = emitter_class(
                self._server, token=token, timeout_sec=timeout_s, retry_max_times=0, openapi_ingestion=openapi
            )
        except self._failures as error:
            raise self._failure(error) from error
        self._emitter.session.hooks["response"].append(self._note)
        try:
            self._config = self._tried(self._fetch_config)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._emitter.close()

    def emit(self, batch: Sequence[Packed], *, patient: bool = True) -> None:
        """Send proposals, and wait until the primary store has them.

        By rest.li they are one request. DataHub's client would make one of each 200, so it is not asked; by
        OpenAPI it is one for each kind of entity and each 200.

        Args:
            batch: The proposals; may be empty.
            patient: Also when they may be too much for one request, try it again as they are.

        Raises:
            NotTaken: It has not, or nobody knows.
        """
        if not batch:
            return
        if self._openapi:
            proposals = [item.proposal for item in batch]
            self._tried(lambda: self._emitter.emit_mcps(proposals, emit_mode=self._sync), patient=patient)
        else:
            body = restli_body(batch)
            self._tried(lambda: self._post(f"/aspects?action={BATCH}", body), patient=patient)

    def read(self, urn: str, name: str) -> Stored:
        """An aspect, with its version where writes can be conditional on that.

        Raises:
            NotTaken: It could not be read.
        """
        quoted = quote(urn, safe="")
        if not self.knows_conditions:
            answer = self._get(f"/aspects/{quoted}?aspect={name}&version=0") or {}
            values = list((answer.get("aspect") or {}).values())
            return Stored(values[0] if values else None)
        kind = urn.split(":")[2]
        found = self._get(f"/openapi/v3/entity/{kind}/{quoted}/{name}?systemMetadata=true")
        if found is None:
            return Stored(None, "-1")
        version = (found.get("systemMetadata") or {}).get("version")
        return Stored(found.get("value"), None if version is None else str(version))

    @property
    def knows_envelopes(self) -> bool:
        """Whether the service says of itself that it is new enough for patches in the envelope."""
        return self._is_at_least(*ENVELOPES_SINCE)

    @property
    def knows_conditions(self) -> bool:
        """Whether it is new enough for OpenAPI, and with it for headers of proposals."""
        return self._is_at_least(1, 0, 1)

    # ---- one call ----------------------------------------------------------------------------------------

    def _is_at_least(self, *version: int) -> bool:
        try:
            return bool(self._config.is_version_at_least(*version))
        except (ValueError, TypeError, AttributeError):  # what it says of itself is no version
            return False

    def _fetch_config(self) -> Any:  # noqa: ANN401  # a class of DataHub's, which has no types
        """What the service says of itself; tells it from the web front end.

        DataHub's client expects an object here, and trips over anything else.
        """
        try:
            return self._emitter.fetch_server_config()
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, self._failures):
                raise
            raise self._no_service("its answer is no object", None) from error

    def _get(self, path: str) -> dict[str, Any] | None:
        def call() -> Any:  # noqa: ANN401  # JSON of others
            response = self._emitter.session.get(f"{self._server}{path}")
            if response.status_code == 404:
                return None
            response.raise_for_status()
            return response.json()

        answer = self._tried(call)
        return answer if answer is None or isinstance(answer, dict) else {}

    def _post(self, path: str, body: bytes) -> None:
        self._emitter.session.post(f"{self._server}{path}", data=body).raise_for_status()

    def _note(self, response: Any, *_: object, **__: object) -> None:  # noqa: ANN401  # of requests, untyped
        self._last = response

    def _tried(self, call: Callable[[], T], *, patient: bool = True) -> T:
        """The result of a call, tried again as often and as late as it may be."""
        attempt = 0
        while True:
            self._last = None
            try:
                return call()
            except self._failures as error:
                failure = self._failure(error)
                pause = failure.asked_to_wait_s
                if pause is None:
                    pause = BACKOFF_S * 2**attempt
                passes = failure.answered is None or failure.answered in PASSING
                if not patient and failure.may_be_too_much:
                    passes = False
                if not passes or attempt >= self._retries or pause > self._max_wait_s:
                    raise failure from error
            attempt += 1
            self._wait(pause)

    def _failure(self, error: Exception) -> NotTaken:
        """What went wrong, for people."""
        from requests.exceptions import InvalidJSONError

        answer, misread = self._last, (self._failures[0], InvalidJSONError)
        status, wait_s = None, None
        # An answer whose body did not arrive is none.
        if answer is not None and (answer.status_code >= 400 or isinstance(error, misread)):
            status, wait_s = answer.status_code, _seconds(answer.headers.get("Retry-After"))
        if status is not None and status < 400:
            return self._no_service(self._reason(error), status)
        found, guidance = self._words(status, error, wait_s)
        words = f"DataHub at {shown(self._server)} {found}"
        return NotTaken(words, guidance, status, wait_s, was_cut=status is None and _was_cut(error))

    def _no_service(self, reason: str, status: int | None) -> NotTaken:
        found = f"What answers at {shown(self._server)} is not DataHub's metadata service: {reason}"
        return NotTaken(found, "Set AIRBERG_DATAHUB__SERVER to the service (GMS).", status)

    def _words(self, status: int | None, error: Exception, wait_s: float | None) -> tuple[str, str]:
        reason = self._reason(error)
        if status is None:
            return f"gave no answer: {reason}", "Check AIRBERG_DATAHUB__SERVER; the task is tried again."
        if status < 400:
            return (
                f"is not its metadata service: {reason}",
                "Set AIRBERG_DATAHUB__SERVER to the service (GMS).",
            )
        if status in (401, 403):
            return f"did not accept the token ({status}).", "Check AIRBERG_DATAHUB__TOKEN and what it may do."
        if status == 429:
            later = "" if wait_s is None else f", and wants to be asked again in {wait_s:.0f} s"
            return f"takes no more requests now (429){later}.", "The task is tried again."
        if status == 404:
            return (
                "has no such call (404).",
                "Check AIRBERG_DATAHUB__SERVER; for AIRBERG_DATAHUB__TRANSPORT=openapi it may be too old.",
            )
        if status == 413:
            return (
                f"does not take a request of this size (413): {reason}",
                "Raise its limit, or that of what is before it (nginx: client_max_body_size).",
            )
        if status in PASSING:
            return f"could not take the metadata ({status}): {reason}", "The task is tried again."
        return (
            f"did not take the metadata ({status}): {reason}",
            "An old one may want AIRBERG_DATAHUB__PATCH_MODE=upsert. The task is tried again.",
        )

    def _reason(self, error: Exception) -> str:
        """The first line of what the service or the client said: 300 characters at most, no token."""
        from urllib3.exceptions import ConnectTimeoutError, ReadTimeoutError

        causes = list(_causes(error))
        if any(type(c) is ConnectTimeoutError for c in causes):  # a refused connection is a subclass
            return f"no connection within {self._timeout_s:g} s"
        if any(isinstance(c, TimeoutError | ReadTimeoutError) for c in causes):
            return f"nothing within {self._timeout_s:g} s"
        said = getattr(error, "info", None) or self._said()
        text = str(said.get("message") or getattr(error, "message", None) or error).strip()
        if self._last is None:
            text = f"{type(causes[-1]).__name__}: {causes[-1]}"
        if self._token:
            text = text.replace(self._token, "***")
        first = (text or type(error).__name__).splitlines()[0]
        return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", "?", first)[:300]

    def _said(self) -> dict[str, Any]:
        """The object that a refusal came with, if it did."""
        if self._last is None or self._last.status_code < 400:
            return {}
        try:
            said = self._last.json()
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}


def _was_cut(error: BaseException) -> bool:
    """Whether there was a connection that ended, or was silent for too long."""
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    return any(isinstance(cause, ReadTimeoutError | ProtocolError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is below it: requests and urllib3 have it as cause, `reason`, or argument."""
    yield error
    for inner in (error.__cause__, getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def shown(server: str) -> str:
    """An address as it may be shown: without user and password."""
    parts = urlsplit(server)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def _seconds(retry_after: str | None) -> float | None:
    """What `Retry-After` says: seconds, or a date (RFC 9110, section 10.2.3); None for anything else."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


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
