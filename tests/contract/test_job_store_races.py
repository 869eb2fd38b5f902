"""What every job store does when several callers want the same thing: leases, names, runs, answers."""

from __future__ import annotations

from collections import Counter

import pytest

from airberg.errors import Conflict, LeaseHeld
from airberg.jobs.lifecycle import JOBS_PER_SHARD
from airberg.jobs.model import StoredAnswer
from airberg.jobs.port import JobStore
from support.at_once import at_once
from support.jobs import NOON, a_job, a_run

# ---- leases ----------------------------------------------------------------------------------------------


def test_one_holds_the_lease(store: JobStore) -> None:
    """While it is held, others are refused; its holder may ask again and keeps the token."""
    job = store.add_job(a_job(), {})
    lease = store.acquire_lease(job.id, "a", 60)
    assert store.lease(job.id) == lease
    with pytest.raises(LeaseHeld):
        store.acquire_lease(job.id, "b", 60)
    again = store.acquire_lease(job.id, "a", 90)
    assert again.token == lease.token
    assert again.expires_at > lease.expires_at
    assert lease.expires_at.tzinfo is not None


def test_leases_of_jobs_are_independent(store: JobStore) -> None:
    """One job's lease says nothing about another's."""
    one, two = store.add_job(a_job(), {}), store.add_job(a_job("two"), {})
    store.acquire_lease(one.id, "a", 60)
    assert store.acquire_lease(two.id, "b", 60).holder == "b"


def test_an_expired_lease_can_be_taken_and_fences_the_old_holder(store: JobStore) -> None:
    """The new token is greater; the old lease can neither be renewed nor release the new one."""
    job = store.add_job(a_job(), {})
    old = store.acquire_lease(job.id, "a", -1)
    assert store.lease(job.id) is None
    new = store.acquire_lease(job.id, "b", 60)
    assert new.token > old.token
    with pytest.raises(LeaseHeld):
        store.renew_lease(old, 60)
    store.release_lease(old)
    assert store.lease(job.id) == new


def test_the_token_grows_also_for_the_same_holder(store: JobStore) -> None:
    """A holder whose lease ran out or was given back starts with a new token: it may have missed others."""
    job = store.add_job(a_job(), {})
    tokens = [store.acquire_lease(job.id, "a", -1).token]
    lease = store.acquire_lease(job.id, "a", 60)
    tokens.append(lease.token)
    store.release_lease(lease)
    assert store.lease(job.id) is None
    with pytest.raises(LeaseHeld):
        store.renew_lease(lease, 60)
    tokens.append(store.acquire_lease(job.id, "a", 60).token)
    assert tokens == sorted(set(tokens))


def test_a_lease_can_be_renewed_also_late(store: JobStore) -> None:
    """Renewal extends; an expired lease that nobody took is still its holder's."""
    job = store.add_job(a_job(), {})
    lease = store.acquire_lease(job.id, "a", -1)
    renewed = store.renew_lease(lease, 60)
    assert (renewed.token, renewed.holder) == (lease.token, "a")
    assert renewed.expires_at > lease.expires_at
    assert store.lease(job.id) == renewed


def test_only_one_of_many_gets_the_lease(store: JobStore) -> None:
    """Ten that ask at the same moment: one lease, nine refusals."""
    job = store.add_job(a_job(), {})
    results = at_once(*(lambda i=i: store.acquire_lease(job.id, f"h{i}", 60) for i in range(10)))
    leases = [r for r in results if not isinstance(r, Exception)]
    assert len(leases) == 1
    assert all(isinstance(r, LeaseHeld) for r in results if isinstance(r, Exception))
    assert store.lease(job.id) == leases[0]


# ---- races -----------------------------------------------------------------------------------------------


def test_only_one_of_many_gets_a_name(store: JobStore) -> None:
    """Ten jobs of one name at the same moment: one is stored, nine conflict."""
    results = at_once(*(lambda: store.add_job(a_job(), {"token": "s3cret"}) for _ in range(10)))
    stored = [r for r in results if not isinstance(r, Exception)]
    assert len(stored) == 1
    assert all(isinstance(r, Conflict) for r in results if isinstance(r, Exception)), results
    assert [j.id for j in store.jobs()] == [stored[0].id]


def test_shards_are_exact_under_concurrency(store: JobStore) -> None:
    """Jobs that are added at the same moment never overfill a shard."""
    jobs = [a_job(f"j{i}") for i in range(JOBS_PER_SHARD + 5)]
    results = at_once(*(lambda j=j: store.add_job(j, {}) for j in jobs))
    assert not [r for r in results if isinstance(r, Exception)]
    assert Counter(j.shard for j in store.jobs()) == {0: JOBS_PER_SHARD, 1: 5}


def test_one_flow_run_is_one_run_under_concurrency(store: JobStore) -> None:
    """Starting and adding the same flow run at the same moment makes one run."""
    job = store.add_job(a_job(), {})
    results = at_once(
        *(lambda: store.start_run(job.id, "r", 1, NOON) for _ in range(4)),
        *(lambda: store.add_run(a_run(job.id, "r")) for _ in range(4)),
    )
    assert len({r.id for r in results if not isinstance(r, Exception)}) == 1
    assert not [r for r in results if isinstance(r, Exception)]
    assert len(store.runs(job.id)) == 1


def test_one_answer_wins_under_concurrency(store: JobStore) -> None:
    """Of all who make a job under one key at the same moment, one does."""
    answers = [StoredAnswer(key="k", caller="a", body_hash=f"h{i}", status=201, answer="") for i in range(8)]
    results = at_once(*(lambda a=a: store.add_job(a_job(a.body_hash), {}, answer=a) for a in answers))
    [made] = [r for r in results if not isinstance(r, Exception)]
    assert {r.code for r in results if isinstance(r, Conflict)} == {"answered-already"}
    stored = store.stored_answer("a", "k")
    assert stored is not None
    assert [j.id for j in store.jobs()] == [made.id]
    assert stored.body_hash == made.request.name
