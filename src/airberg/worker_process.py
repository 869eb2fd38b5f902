"""One question to a worker process of this interpreter, and its answer.

The HTTP process stays light and cannot be blocked: what needs heavy libraries or a connector is asked of a
child process. The child reads one JSON object from its standard input (secrets never go through arguments or
the environment) and answers one on its standard output. It ends with us, and is ended when its time is over.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from airberg import errors
from airberg.errors import AirbergError, InvalidRequest, Problem, Unavailable
from airberg.hardening import forbid_core_dumps, log_without_messages
from airberg.settings import Settings, settings_environment

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""The child has its own deadline; this is how long it may be late before it is ended."""
_PR_SET_PDEATHSIG = 1

Answer = TypeVar("Answer")
Question = TypeVar("Question")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error of our tree on its way between processes."""

    kind: str
    message: str
    guidance: str = ""
    code: str = ""
    retry_after: int = 10
    problems: tuple[dict[str, str], ...] = ()


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


def ask_worker(
    module: str,
    question: msgspec.Struct,
    answer: type[Answer],
    settings: Settings,
    timeout_s: float,
    late: Unavailable | None = None,
) -> Answer:
    """Start `python -m module`, ask it, wait for the answer.

    Args:
        module: Its `main` calls `serve_question`.
        question: What is asked.
        answer: Type of the answer.
        settings: The settings that the child works with.
        timeout_s: How long the child may take by its own clock.
        late: What is raised when there is no answer in time; default for questions to a source.

    Raises:
        Unavailable: No answer in time (`preflight-timeout`, or as in `late`), or none at all.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__")}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env | settings_environment(settings),
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(msgspec.json.encode(question), timeout=timeout_s + GRACE_S)
    except subprocess.TimeoutExpired:
        raise late or Unavailable(
            "The source did not answer in time.",
            guidance="Try again. A job can be submitted with ?preflight=skip: its first run checks it then.",
            code="preflight-timeout",
            retry_after=30,
        ) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    try:
        return msgspec.json.decode(out, type=answer)
    except msgspec.DecodeError:
        log.error("%s ended with code %s and no answer", module, process.returncode)
        raise Unavailable("A worker process ended without an answer; the service log has details.") from None


def serve_question(kind: type[Question], answer_to: Callable[[Question], msgspec.Struct]) -> None:
    """In the child: read the question, write the answer; logs go to standard error."""
    forbid_core_dumps()
    log_without_messages()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answer
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    out.write(msgspec.json.encode(answer_to(question)))
    out.close()
