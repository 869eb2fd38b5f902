"""The child process that prepares a job: `python -m airberg.plan.worker`, question in, answer out."""

from __future__ import annotations

import sys
import time

from airberg.errors import AirbergError
from airberg.keys.open import open_keys
from airberg.plan.child import Answer, Question
from airberg.plan.preparation import prepare
from airberg.settings import load_settings
from airberg.sources.recent import Found
from airberg.worker_process import as_failure, serve_question


def answer_to(question: Question) -> Answer:
    """Prepare the job that is asked for."""
    deadline = time.monotonic() + question.timeout_s
    settings = load_settings()
    found: list[Found] = []
    try:
        prepared = prepare(
            question.request,
            question.source_config,
            settings,
            open_keys(settings),
            deadline=deadline,
            roles=frozenset(question.roles),
            recent=question.recent,
            on_found=found.append,
        )
    except AirbergError as e:
        return Answer(failure=as_failure(e), found=found[-1] if found else None)
    return Answer(prepared=prepared, found=found[-1] if found else None)


def main() -> int:
    """Answer one question."""
    serve_question(Question, answer_to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
