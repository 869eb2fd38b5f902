"""What the HTTP process asks about sources: does this configuration work, what can be read with it.

The answers come from a process of their own (`airberg.sources.worker`), as those of a submission do.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Literal

import msgspec

from airberg.errors import Unavailable
from airberg.settings import Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.recent import Found, RecentlyFound
from airberg.sources.references import refuse_values
from airberg.sources.verbs import CheckOutcome
from airberg.worker_process import Failure, as_error, ask_worker


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker is asked; the configuration has its secrets."""

    verb: Literal["check", "discover"]
    entry: ConnectorEntry
    config: dict[str, Any]
    timeout_s: float
    owner: str
    recent: Found | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers: `outcome` to a check; `found` to a discover, and when the configuration changed."""

    version: str = ""
    outcome: CheckOutcome | None = None
    found: Found | None = None
    failure: Failure | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict about a configuration; `config_renewed`: the source handed out another one meanwhile."""

    version: str
    outcome: CheckOutcome
    config_renewed: bool = False


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """What can be read, as `AirbyteStream` objects, and when it was found, in seconds since 1970."""

    version: str
    streams: list[dict[str, Any]]
    at: float
    config_renewed: bool = False


class SourceQuestions:
    """Asks sources, each question in a child process.

    Args:
        settings: For the child too.
        recent: Where answers are kept for a while; shared with who prepares jobs.
    """

    def __init__(self, settings: Settings, recent: RecentlyFound) -> None:
        self._settings = settings
        self._recent = recent

    def check(
        self, entry: ConnectorEntry, config: dict[str, Any], *, owner: str, roles: AbstractSet[str]
    ) -> Checked:
        """Let the connector try a configuration. It is asked anew each time.

        Raises:
            InvalidRequest: The configuration does not fit its specification.
            Unavailable: The connector is still being installed, or the source did not answer in time.
        """
        key = self._recent.key(entry, config, owner, roles)
        answer = self._ask("check", entry, config, owner, key, self._recent.get(key))
        if answer.outcome is None:
            raise Unavailable("The check gave no answer.")
        renewed = answer.found is not None
        return Checked(version=answer.version, outcome=answer.outcome, config_renewed=renewed)

    def discover(
        self,
        entry: ConnectorEntry,
        config: dict[str, Any],
        *,
        owner: str,
        roles: AbstractSet[str],
        again: bool = False,
    ) -> Discovered:
        """What can be read; found a short while ago, or now, when the configuration is checked as well.

        Args:
            entry: The source.
            config: The configuration, with secrets.
            owner: Who asks; nobody gets what was found for somebody else.
            roles: The roles of who asks.
            again: Ask the source in any case.

        Raises:
            InvalidRequest: As for `check`, and when the check or the discover fails.
            Unavailable: As for `check`.
        """
        key = self._recent.key(entry, config, owner, roles)
        recent = self._recent.get(key)
        if recent is not None and again:
            recent = msgspec.structs.replace(recent, streams=None)
        found = self._ask("discover", entry, config, owner, key, recent).found
        if found is None or found.streams is None:
            raise Unavailable("The discover gave no answer.")
        return Discovered(
            version=found.version,
            streams=found.streams,
            at=found.at,
            config_renewed=found.renewed_config is not None,
        )

    def _ask(
        self,
        verb: Literal["check", "discover"],
        entry: ConnectorEntry,
        config: dict[str, Any],
        owner: str,
        key: bytes,
        recent: Found | None,
    ) -> Answer:
        timeout = self._settings.sources.preflight_timeout_s
        refuse_values(config, owner, self._settings.secrets.rules)  # needs no process
        question = Question(
            verb=verb, entry=entry, config=config, timeout_s=timeout, owner=owner, recent=recent
        )
        answer = ask_worker("airberg.sources.worker", question, Answer, self._settings, timeout)
        if answer.found is not None and answer.found != recent:
            self._recent.put(key, answer.found)
        if answer.failure is not None:
            raise as_error(answer.failure)
        return answer
