"""The child process that prepares a job: `python -m airberg.plan.worker`, question in, answer out."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time

import msgspec

from airberg.errors import AirbergError
from airberg.hardening import forbid_core_dumps, log_without_messages
from airberg.keys.open import open_keys
from airberg.plan.child import Answer, Question, as_failure
from airberg.plan.preparation import prepare
from airberg.settings import load_settings

PR_SET_PDEATHSIG = 1


def answer_to(question: Question) -> Answer:
    """Prepare the job that is asked for."""
    deadline = time.monotonic() + question.timeout_s
    settings = load_settings()
    try:
        prepared = prepare(
            question.request,
            question.source_config,
            settings,
            open_keys(settings),
            domain=question.domain,
            deadline=deadline,
            roles=frozenset(question.roles),
        )
    except AirbergError as e:
        return Answer(failure=as_failure(e))
    return Answer(prepared=prepared)


def main() -> int:
    """Read the question, write the answer; logs go to standard error."""
    forbid_core_dumps()
    log_without_messages()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answer
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    out.write(msgspec.json.encode(answer_to(question)))
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
