"""Which snapshots may go (specification, Snapshot Retention Policy)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airberg.lake.upkeep.policy import Policy


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A snapshot: its id, that of the one before it, and when it was made, in milliseconds."""

    id: int
    parent: int | None
    made_at_ms: int


@dataclass(frozen=True, slots=True)
class RefFacts:
    """A branch or tag.

    Attributes:
        snapshot: What it points to.
        branch: A branch keeps snapshots behind its newest one, a tag does not.
        age_ms: How long the branch keeps them, where it says so itself.
        keep: How many it keeps at least, where it says so itself.
    """

    snapshot: int
    branch: bool = True
    age_ms: int | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """Snapshots that go, in the order in which the table has them, and the number of those that stay."""

    snapshots: tuple[int, ...] = ()
    kept: int = 0


def plan_expiry(
    snapshots: Iterable[SnapshotFacts],
    refs: Iterable[RefFacts],
    current: int | None,
    policy: Policy,
    now_ms: int,
) -> ExpiryPlan:
    """Say which snapshots go.

    What a branch or tag points to stays, and the current snapshot. A branch keeps so many of the snapshots
    behind it, and all young ones. Snapshots of no branch stay while they are young.

    Args:
        snapshots: All snapshots of the table.
        refs: Its branches and tags.
        current: The current snapshot.
        policy: The thresholds.
        now_ms: Milliseconds since the epoch.
    """
    known = {snapshot.id: snapshot for snapshot in snapshots}
    refs = tuple(refs)
    kept = {ref.snapshot for ref in refs} | ({current} if current is not None else set())
    seen: set[int] = set(kept)
    branches = [ref for ref in refs if ref.branch]
    if current is not None and not any(ref.snapshot == current for ref in branches):
        branches.append(RefFacts(current))
    for branch in branches:
        young = now_ms - (policy.expire_age_ms if branch.age_ms is None else branch.age_ms)
        least = policy.expire_keep if branch.keep is None else branch.keep
        for place, snapshot in enumerate(_behind(branch.snapshot, known)):
            seen.add(snapshot.id)
            if place < least or snapshot.made_at_ms >= young:
                kept.add(snapshot.id)
    young = now_ms - policy.expire_age_ms
    kept |= {s.id for s in known.values() if s.id not in seen and s.made_at_ms >= young}
    gone = tuple(id_ for id_ in known if id_ not in kept)
    return ExpiryPlan(gone, len(known) - len(gone))


def _behind(newest: int, known: dict[int, SnapshotFacts]) -> Iterator[SnapshotFacts]:
    """A snapshot and those it was made from, newest first, as far as they are there."""
    passed: set[int] = set()
    here = known.get(newest)
    while here is not None and here.id not in passed:
        passed.add(here.id)
        yield here
        here = None if here.parent is None else known.get(here.parent)
