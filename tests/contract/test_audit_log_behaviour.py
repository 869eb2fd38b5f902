"""What every audit log does, and what job stores record in it."""

from __future__ import annotations

from typing import Any

import pytest

from airberg.errors import Conflict, NotFound
from airberg.jobs.audit import Act
from airberg.jobs.port import JobStore
from support.jobs import NOON, a_job, a_run


def an_act(action: str = "job.change", **changes: Any) -> Act:
    """Somebody's act."""
    values: dict[str, Any] = {"actor": "ann (i|ann)", "kind": "job", "target": "j1"}
    return Act(action=action, **(values | changes))


def test_an_act_comes_back_as_it_was(store: JobStore) -> None:
    """All of it, with a number and an aware time."""
    act = an_act(request_id="r-1", address="::1", detail={"paused": True, "n": [1, None], "half": "\ud800"})
    store.audit.add(act)
    [entry] = store.audit.entries()
    names = ("actor", "action", "kind", "target", "request_id", "address", "detail")
    assert [getattr(entry, n) for n in names] == [getattr(act, n) for n in names]
    assert entry.at.tzinfo is not None
    assert entry.id > 0


def test_hostile_texts_are_recorded(store: JobStore) -> None:
    """What no database takes, or no column has room for, does not keep an act from being recorded."""
    store.audit.add(an_act(actor="a\x00\ud800", request_id="r" * 5_000, address="x" * 900))
    [entry] = store.audit.entries()
    assert (entry.actor, len(entry.request_id), len(entry.address)) == ("a\ufffd?", 128, 64)


def test_entries_are_found_newest_first(store: JobStore) -> None:
    """By target and actor, in pages."""
    for number in range(5):
        store.audit.add(an_act(f"a{number}", target=f"j{number % 2}"))
    store.audit.add(an_act("other", actor="bob (i|bob)"))
    names = [e.action for e in store.audit.entries()]
    assert names == ["other", "a4", "a3", "a2", "a1", "a0"]
    assert [e.action for e in store.audit.entries(target="j0")] == ["a4", "a2", "a0"]
    assert [e.action for e in store.audit.entries(actor="bob (i|bob)")] == ["other"]
    first = store.audit.entries(limit=2)
    rest = store.audit.entries(before=first[-1].id)
    assert [e.action for e in (*first, *rest)] == names


def test_acts_are_recorded_with_what_they_do(store: JobStore) -> None:
    """Each method that people cause records its act, once; without one it records nothing."""
    job = a_job()
    store.add_job(job, {}, act=an_act("create"))
    store.set_schedule(job.id, None, "UTC", act=an_act("schedule"))
    store.set_paused(job.id, True, act=an_act("pause"))
    store.add_run(a_run(job.id), act=an_act("trigger"))
    store.add_run(a_run(job.id), act=an_act("trigger again"))  # known: nothing is done
    store.set_paused(job.id, False)
    store.delete_job(job.id, NOON, act=an_act("delete"))
    store.delete_job(job.id, NOON, act=an_act("delete again"))
    found = [e.action for e in reversed(store.audit.entries())]
    assert found == ["create", "schedule", "pause", "trigger", "delete"]


def test_what_is_refused_is_not_recorded(store: JobStore) -> None:
    """The act is part of the transaction that did not happen."""
    job = store.add_job(a_job(), {})
    with pytest.raises(Conflict):
        store.add_job(a_job(), {}, act=an_act())
    store.delete_job(job.id, NOON)
    with pytest.raises(NotFound):
        store.set_paused(job.id, True, act=an_act())
    with pytest.raises(NotFound):
        store.add_run(a_run(job.id), act=an_act())
    assert list(store.audit.entries()) == []
