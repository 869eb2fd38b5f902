"""The child process that asks a source: `python -m airberg.sources.worker`, question in, answer out."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from airberg.errors import AirbergError
from airberg.settings import load_settings
from airberg.sources.preflight import check_source, preflight
from airberg.sources.questions import Answer, Question
from airberg.sources.recent import Found
from airberg.worker_process import as_failure, serve_question


def answer_to(question: Question) -> Answer:
    """Ask the source."""
    deadline = time.monotonic() + question.timeout_s
    settings = load_settings()
    renewed: list[dict[str, Any]] = []
    entry, recent, config = question.entry, question.recent, question.config
    try:
        if question.verb == "check":
            launch, outcome = check_source(
                entry, config, settings, deadline, renewed.append, recent, owner=question.owner
            )
            return Answer(version=launch.version, outcome=outcome, found=_kept(recent, renewed))
        found = preflight(entry, config, settings, deadline, renewed.append, recent, owner=question.owner)
    except AirbergError as e:
        return Answer(failure=as_failure(e), found=_kept(recent, renewed))
    if not found.asked and recent is not None:
        return Answer(version=found.launch.version, found=recent)
    return Answer(version=found.launch.version, found=found.to_keep(renewed[-1] if renewed else None))


def _kept(recent: Found | None, renewed: list[dict[str, Any]]) -> Found | None:
    """What has to be remembered of a source that was not discovered: a configuration that it handed out."""
    if not renewed:
        return None
    base = recent or Found(fingerprint="", version="", streams=None, at=time.time())
    return msgspec.structs.replace(base, renewed_config=renewed[-1])


def main() -> int:
    """Answer one question."""
    serve_question(Question, answer_to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
