"""Preparing a job in a child process, so that the HTTP process stays light and cannot be blocked.

The child reads one JSON object from its standard input (secrets never go through arguments or the
environment) and answers one on its standard output. It ends with us, and is ended when its time is over.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from airberg import errors
from airberg.errors import AirbergError, InvalidRequest, Problem, Unavailable
from airberg.keys.access import use_refusal
from airberg.keys.open import open_keys
from airberg.plan.model import KEYED, IngestRequest
from airberg.plan.prepared import Prepared
from airberg.plan.transformations import key_problems
from airberg.settings import Settings, settings_environment
from airberg.sources.registry import load_registry
from airberg.sources.secret_fields import mask_config

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""The child has its own deadline; this is how long it may be late before it is ended."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked."""

    request: IngestRequest
    source_config: dict[str, Any]
    domain: str | None
    roles: tuple[str, ...] = ()
    timeout_s: float


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error of our tree on its way between processes."""

    kind: str
    message: str
    guidance: str = ""
    code: str = ""
    retry_after: int = 10
    problems: tuple[dict[str, str], ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child answers: one of the two."""

    prepared: Prepared | None = None
    failure: Failure | None = None


def as_failure(error: AirbergError) -> Failure:
    """An error as a value."""
    return Failure(
        kind=type(error).__name__,
        message=error.message,
        guidance=error.guidance,
        code=error.code,
        retry_after=error.retry_after if isinstance(error, Unavailable) else 10,
        problems=tuple(p.as_dict() for p in error.problems) if isinstance(error, InvalidRequest) else (),
    )


def as_error(failure: Failure) -> AirbergError:
    """The error that a value stands for.

    A run's error, such as a catalog that is not configured well, is no fault of the caller: 503.
    """
    if failure.problems:
        return InvalidRequest([Problem(**p) for p in failure.problems])
    kind = getattr(errors, failure.kind, Unavailable)
    if issubclass(kind, errors.RequestError):
        return kind(failure.message, guidance=failure.guidance, code=failure.code)
    return Unavailable(
        failure.message, retry_after=failure.retry_after, guidance=failure.guidance, code=failure.code
    )


def check_keys(request: IngestRequest, settings: Settings, roles: AbstractSet[str]) -> None:
    """Refuse keys that the owner of a job may not use, without asking its source for anything.

    Raises:
        InvalidRequest: A key is not there, not allowed, or out of use.
        Unavailable: The key store does not answer.
    """
    if not any(t.transformation_type in KEYED for t in request.column_transformations):
        return
    with contextlib.closing(open_keys(settings)) as keys:
        refusal = functools.partial(use_refusal, keys, owner=request.owner_id, roles=roles)
        default = settings.keys.default_key
        if problems := key_problems(request.column_transformations, default, refusal):
            raise InvalidRequest(problems)


class ChildPlanner:
    """Prepares jobs in child processes of this interpreter."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        domain: str | None,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """See `airberg.plan.prepared.Planner`."""
        # An unknown source needs no process to be refused.
        entry = load_registry(self._settings).find(request.source_name, request.source_version)
        if not preflight:
            check_keys(request, self._settings, roles)
            return Prepared(plan=None, public_config=mask_config({}, source_config), connector=entry)
        timeout = self._settings.sources.preflight_timeout_s
        question = Question(
            request=request,
            source_config=source_config,
            domain=domain,
            roles=tuple(sorted(roles)),
            timeout_s=timeout,
        )
        answer = self._ask(question, timeout + GRACE_S)
        if answer.failure is not None:
            raise as_error(answer.failure)
        if answer.prepared is None:
            raise Unavailable("Preparing the job gave no answer.")
        return answer.prepared

    def _ask(self, question: Question, timeout: float) -> Answer:
        env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__")}
        process = subprocess.Popen(
            [sys.executable, "-m", "airberg.plan.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env | settings_environment(self._settings),
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(msgspec.json.encode(question), timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                "The source did not answer in time.",
                guidance="Try again, or submit with ?preflight=skip to have it checked by the first run.",
                code="preflight-timeout",
                retry_after=30,
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        try:
            return msgspec.json.decode(out, type=Answer)
        except msgspec.DecodeError:
            log.error("the planning process ended with code %s and no answer", process.returncode)
            raise Unavailable("Preparing the job failed unexpectedly; the service log has details.") from None
