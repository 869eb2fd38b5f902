"""Preparing a job in a child process, so that the HTTP process stays light and cannot be blocked.

See `airberg.worker_process` for how it is asked. What the source was found to offer is kept for a short while
(`airberg.sources.recent`), also when the job was refused: whoever corrects a request need not wait again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from airberg.errors import InvalidRequest, Unavailable
from airberg.keys.access import use_refusal
from airberg.keys.open import open_keys
from airberg.plan.model import KEYED, IngestRequest
from airberg.plan.prepared import Prepared
from airberg.plan.transformations import key_problems
from airberg.settings import Settings
from airberg.sources.recent import Found, RecentlyFound
from airberg.sources.references import refuse_values
from airberg.sources.registry import load_registry
from airberg.sources.secret_fields import mask_config
from airberg.worker_process import Failure, as_error, ask_worker


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked."""

    request: IngestRequest
    source_config: dict[str, Any]
    roles: tuple[str, ...] = ()
    timeout_s: float
    recent: Found | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child answers: prepared or failure, and what the source offers, if it was asked."""

    prepared: Prepared | None = None
    failure: Failure | None = None
    found: Found | None = None


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
    """Prepares jobs in child processes of this interpreter.

    Args:
        settings: For the child too.
        recent: What sources were found to offer lately; shared with who answers discovers.
    """

    def __init__(self, settings: Settings, recent: RecentlyFound | None = None) -> None:
        self._settings = settings
        self._recent = recent or RecentlyFound(settings.sources.discovered_holds_s)

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """See `airberg.plan.prepared.Planner`."""
        # An unknown source needs no process to be refused; a job that is there keeps its connector.
        entry = request.connector or load_registry(self._settings).find(
            request.source_name, request.source_version
        )
        refuse_values(source_config, request.owner_id, self._settings.secrets.rules)
        if not preflight:
            check_keys(request, self._settings, roles)
            return Prepared(plan=None, public_config=mask_config({}, source_config), connector=entry)
        key = self._recent.key(entry, source_config, request.owner_id, roles)
        timeout = self._settings.sources.preflight_timeout_s
        question = Question(
            request=request,
            source_config=source_config,
            roles=tuple(sorted(roles)),
            timeout_s=timeout,
            recent=self._recent.get(key),
        )
        answer = ask_worker("airberg.plan.worker", question, Answer, self._settings, timeout)
        if answer.found is not None:
            self._recent.put(key, answer.found)
        if answer.failure is not None:
            raise as_error(answer.failure)
        if answer.prepared is None:
            raise Unavailable("Preparing the job gave no answer.")
        return answer.prepared
