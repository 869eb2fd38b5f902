"""Answers to requests with an `Idempotency-Key`."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airberg.jobs.lifecycle import answered_already
from airberg.jobs.model import StoredAnswer
from airberg.jobs.tables import answers


def store(c: Connection, answer: StoredAnswer) -> None:
    """Store an answer in the transaction of what it answers.

    Who makes a job has taken the turn of those who change flows: between the two statements comes nobody.

    Raises:
        Conflict: There is one under that caller and key, code `answered-already`.
    """
    values = {
        "caller": answer.caller,
        "key": answer.key,
        "body_hash": answer.body_hash,
        "status": answer.status,
        "answer": answer.answer,
        "created_at": datetime.now(UTC),
    }
    if stored(c, answer.caller, answer.key) is not None:
        raise answered_already()
    c.execute(answers.insert().values(values))


def stored(c: Connection, caller: str, key: str) -> StoredAnswer | None:
    """The answer under that caller and key."""
    query = sa.select(answers).where(answers.c.caller == caller, answers.c.key == key)
    row = c.execute(query).mappings().first()
    if row is None:
        return None
    return StoredAnswer(
        key=row["key"],
        caller=row["caller"],
        body_hash=row["body_hash"],
        status=row["status"],
        answer=row["answer"],
    )
