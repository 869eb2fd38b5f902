"""The child process that looks at tables of jobs, and changes them: question in, answer out."""

from __future__ import annotations

import contextlib
import resource
import sys

from airberg.errors import AirbergError
from airberg.jobs.open import open_store
from airberg.lake.catalog import open_catalog
from airberg.settings import load_settings
from airberg.sync.job_tables_child import Answer, Question
from airberg.sync.job_tables_here import JobTablesHere
from airberg.worker_process import as_failure, serve_question

MAX_MEMORY_BYTES = 2 * 1024**3
"""Whatever lies in a table, or in its metadata: the worker fails, and not the machine."""


def answer_to(question: Question) -> Answer:
    """Do what is asked."""
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    try:
        settings = load_settings()
        with contextlib.closing(open_store(settings)) as store:
            here = JobTablesHere(settings, store, open_catalog(settings), store.sealer)
            return _answer(here, question)
    except AirbergError as e:
        return Answer(failure=as_failure(e))


def _answer(here: JobTablesHere, question: Question) -> Answer:
    match question:
        case Question(verb="table"):
            return Answer(
                table=here.table(
                    question.schema,
                    question.name,
                    snapshots=question.snapshots,
                    preview=question.preview,
                )
            )
        case Question(verb="state", job_id=job) if job is not None:
            return Answer(state=here.state(job))
        case Question(verb="set", job_id=job) if job is not None:
            return Answer(state=here.set_state(job, question.states, act=question.act))
        case Question(verb="delete", job_id=job) if job is not None:
            return Answer(state=here.delete_state(job, question.streams, act=question.act))
        case Question(verb="rewind", job_id=job, run_id=run) if job is not None and run is not None:
            return Answer(
                rewind=here.rewind(job, run, force=question.force, dry_run=question.dry_run, act=question.act)
            )
    raise ValueError(f"no such question: {question.verb}")


def main() -> int:
    """Answer one question."""
    serve_question(Question, answer_to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
