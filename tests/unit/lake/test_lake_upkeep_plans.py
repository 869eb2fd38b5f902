"""What upkeep plans to do: pure functions of facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed
from airberg.lake.upkeep.clustering import ManifestFacts, plan_manifests
from airberg.lake.upkeep.compaction import (
    CompactionPlan,
    FileFacts,
    Group,
    has_many_deletes,
    is_small,
    plan_compaction,
)
from airberg.lake.upkeep.expiry import RefFacts, SnapshotFacts, plan_expiry
from airberg.lake.upkeep.policy import DAY_MS, HOUR_MS, Policy, deployment_policy, table_policy
from airberg.settings import Settings

POLICY = Policy(target_file_bytes=1000, max_group_bytes=8000)


def file(n: int, size: int, rows: int = 100, **facts: Any) -> FileFacts:
    """A data file."""
    return FileFacts(**{"path": f"f{n}", "partition": 0, "bytes": size, "rows": rows, "sequence": n} | facts)


# ---- compaction --------------------------------------------------------------------------------------------


def test_few_small_files_wait_for_more() -> None:
    """Few small files wait for more."""
    assert plan_compaction([file(n, 100) for n in range(4)], POLICY).empty
    assert plan_compaction([file(n, 100) for n in range(5)], POLICY).files == 5


def test_small_files_that_make_a_whole_one_are_written_together_at_once() -> None:
    """Small files that make a whole one are written together at once."""
    plan = plan_compaction([file(0, 500), file(1, 600)], POLICY)
    assert [[f.path for f in group.files] for group in plan.groups] == [["f0", "f1"]]


def test_files_of_different_partitions_are_never_put_together() -> None:
    """Files of different partitions are never put together."""
    plan = plan_compaction([file(n, 100, partition=n % 3) for n in range(15)], POLICY)
    assert sorted(len(group.files) for group in plan.groups) == [5, 5, 5]
    assert all(len({f.partition for f in group.files}) == 1 for group in plan.groups)


@pytest.mark.parametrize(
    ("deleted", "delete_files", "due"),
    [(0, 0, False), (9, 1, False), (10, 1, True), (0, 10, False), (0, 11, True), (100, 1, True)],
)
def test_a_large_file_is_written_anew_for_its_deletes_only(
    deleted: int, delete_files: int, due: bool
) -> None:
    """A large file is written anew for its deletes only."""
    plan = plan_compaction([file(0, 5000, deleted=deleted, delete_files=delete_files)], POLICY)
    assert bool(plan.groups) is due


def test_a_file_without_rows_left_needs_no_company() -> None:
    """A file without rows left needs no company."""
    plan = plan_compaction([file(0, 100, deleted=100, delete_files=1)], POLICY)
    assert plan.files == 1


def test_files_that_cannot_be_read_are_left_alone() -> None:
    """Files that cannot be read are left alone."""
    assert plan_compaction([file(n, 10, rewritable=False) for n in range(20)], POLICY).empty


def test_files_are_packed_in_the_order_of_their_age() -> None:
    """Files are packed in the order of their age."""
    plan = plan_compaction([file(n, 700) for n in reversed(range(12))], POLICY)
    assert [[f.sequence for f in group.files] for group in plan.groups] == [[*range(11)]]


def test_delete_files_that_apply_to_nothing_are_a_reason_of_their_own() -> None:
    """Delete files that apply to nothing are a reason of their own."""
    assert not plan_compaction([], POLICY, dangling=1).empty


def test_parts_hold_all_groups_in_order_and_are_bounded() -> None:
    """Parts hold all groups in order and are bounded."""
    groups = tuple(Group((file(n, size),), 1000) for n, size in enumerate([10, 20, 30, 100, 5]))
    parts = list(CompactionPlan(groups).parts(50))
    assert [group for part in parts for group in part] == list(groups)
    assert [sum(g.bytes for g in part) for part in parts] == [30, 30, 100, 5]
    assert list(CompactionPlan().parts(50)) == []


FILES = st.lists(
    st.builds(
        lambda n, size, rows, gone, deletes, partition: file(
            n,
            size,
            rows,
            deleted=min(gone, rows),
            delete_files=deletes if gone else 0,
            partition=partition,
        ),
        st.integers(0, 10_000),
        st.integers(1, 3000),
        st.integers(0, 200),
        st.integers(0, 50),
        st.integers(1, 15),
        st.integers(0, 2),
    ),
    max_size=60,
    unique_by=lambda f: f.path,
)


def carried_out(files: list[FileFacts], plan: CompactionPlan) -> list[FileFacts]:
    """The files as they are after a plan: its new files cut at the size that it says."""
    gone = {f.path for group in plan.groups for f in group.files}
    after = [f for f in files if f.path not in gone]
    for number, group in enumerate(plan.groups):
        left = sum(f.live_bytes for f in group.files)
        while left > 0:
            size = min(left, group.output_bytes)
            left -= size
            name = f"new-{number}-{left}-{len(after)}"
            after.append(FileFacts(name, group.files[0].partition, size, 100, sequence=20_000 + len(after)))
    return after


@given(FILES)
@settings(max_examples=300)
def test_plans_name_each_file_once_with_a_reason(files: list[FileFacts]) -> None:
    """Plans name each file once with a reason."""
    plan = plan_compaction(files, POLICY)
    named = [f for group in plan.groups for f in group.files]
    assert len({f.path for f in named}) == len(named)
    assert all(is_small(f, POLICY) or has_many_deletes(f, POLICY) for f in named)
    for group in plan.groups:
        assert len({f.partition for f in group.files}) == 1
        assert len(group.files) == 1 or group.bytes <= POLICY.max_group_bytes
        assert group.output_bytes >= POLICY.target_file_bytes * POLICY.small_file_fraction
        assert group.output_bytes < 2 * POLICY.target_file_bytes
    left = {f.path for f in files} - {f.path for f in named}
    assert not any(has_many_deletes(f, POLICY) for f in files if f.path in left)


@given(FILES)
@settings(max_examples=300)
def test_compaction_comes_to_an_end(files: list[FileFacts]) -> None:
    """Compaction comes to an end."""
    for _ in range(6):
        plan = plan_compaction(files, POLICY)
        if plan.empty:
            break
        files = carried_out(files, plan)
    assert plan_compaction(files, POLICY).empty


# ---- expiry ------------------------------------------------------------------------------------------------

NOW = 100 * DAY_MS
KEEPING = Policy(expire_age_ms=7 * DAY_MS, expire_keep=2)


def line(*ages_in_days: int, first: int = 1, parent: int | None = None) -> list[SnapshotFacts]:
    """Snapshots one after the other, oldest first."""
    found = []
    for number, age in enumerate(ages_in_days):
        id_ = first + number
        found.append(SnapshotFacts(id_, parent, NOW - age * DAY_MS))
        parent = id_
    return found


def test_old_snapshots_go_and_young_ones_stay() -> None:
    """Old snapshots go and young ones stay."""
    plan = plan_expiry(line(30, 20, 10, 5, 1), [RefFacts(5)], 5, KEEPING, NOW)
    assert plan.snapshots == (1, 2, 3)
    assert plan.kept == 2


def test_so_many_stay_however_old_they_are() -> None:
    """So many stay however old they are."""
    plan = plan_expiry(line(40, 30, 20), [RefFacts(3)], 3, KEEPING, NOW)
    assert plan.snapshots == (1,)


def test_tags_and_branches_keep_their_snapshots() -> None:
    """Tags and branches keep their snapshots."""
    snapshots = [*line(40, 30, 20, 10, 9, 8), SnapshotFacts(20, 2, NOW - 25 * DAY_MS)]
    refs = [RefFacts(6), RefFacts(1, branch=False), RefFacts(20, keep=1)]
    assert plan_expiry(snapshots, refs, 6, KEEPING, NOW).snapshots == (2, 3, 4)


def test_a_branch_says_itself_how_long_and_how_many_it_keeps() -> None:
    """A branch says itself how long and how many it keeps."""
    snapshots = line(40, 30, 20, 10)
    assert plan_expiry(snapshots, [RefFacts(4, age_ms=35 * DAY_MS, keep=1)], 4, KEEPING, NOW).snapshots == (
        1,
    )


def test_snapshots_of_no_branch_go_when_they_are_old() -> None:
    """Snapshots of no branch go when they are old."""
    rolled_back = [SnapshotFacts(8, 2, NOW - 20 * DAY_MS), SnapshotFacts(9, 2, NOW - DAY_MS)]
    plan = plan_expiry([*line(30, 10), *rolled_back], [RefFacts(2)], 2, KEEPING, NOW)
    assert plan.snapshots == (8,)


def test_a_table_without_snapshots_and_history_that_is_a_circle() -> None:
    """A table without snapshots and history that is a circle."""
    assert plan_expiry([], [], None, KEEPING, NOW).snapshots == ()
    circle = [SnapshotFacts(1, 2, 0), SnapshotFacts(2, 1, 0)]
    assert plan_expiry(circle, [RefFacts(2)], 2, KEEPING, NOW).snapshots == ()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 30)), max_size=25),
    st.lists(st.tuples(st.integers(0, 24), st.booleans()), max_size=4),
    st.integers(1, 6),
)
@settings(max_examples=300)
def test_what_is_pointed_to_and_what_is_young_in_a_branch_always_stays(
    history: list[tuple[int, int]], pointers: list[tuple[int, bool]], keep: int
) -> None:
    """What is pointed to and what is young in a branch always stays."""
    snapshots = [
        SnapshotFacts(n, parent if 0 <= parent < n else None, NOW - age * DAY_MS)
        for n, (age, parent) in enumerate(history)
    ]
    refs = [RefFacts(n, branch) for n, branch in pointers if n < len(snapshots)]
    current = len(snapshots) - 1 if snapshots else None
    policy = Policy(expire_age_ms=7 * DAY_MS, expire_keep=keep)
    gone = set(plan_expiry(snapshots, refs, current, policy, NOW).snapshots)
    assert gone <= {s.id for s in snapshots}
    assert current not in gone
    assert not gone & {ref.snapshot for ref in refs}
    assert not [s for s in snapshots if s.id in gone and s.made_at_ms >= NOW - policy.expire_age_ms]
    assert not snapshots or len(snapshots) - len(gone) >= 1


# ---- manifests ---------------------------------------------------------------------------------------------


def manifest(
    n: int, size: int = 1000, entries: int = 2, kind: tuple[str, int] = ("DATA", 0)
) -> ManifestFacts:
    """A manifest."""
    return ManifestFacts(f"m{n}", kind, size, entries, (bytes([n % 5]),))


def test_manifests_are_written_together_when_there_are_many_small_ones_of_a_kind() -> None:
    """Manifests are written together when there are many small ones of a kind."""
    policy = Policy(min_manifests=10)
    assert plan_manifests([manifest(n) for n in range(9)], policy) == ()
    mixed = [manifest(n, kind=("DATA", n % 2)) for n in range(18)]
    assert plan_manifests(mixed, policy) == ()
    (part,) = plan_manifests([manifest(n) for n in range(10)], policy)
    assert part.entries == 20
    # neighbours by partition
    assert [int(path[1:]) % 5 for path in part.paths] == sorted(n % 5 for n in range(10))


def test_large_manifests_stay_and_commits_are_bounded() -> None:
    """Large manifests stay and commits are bounded."""
    policy = Policy(min_manifests=2, manifest_target_bytes=10_000)
    assert plan_manifests([manifest(n, size=9000) for n in range(30)], policy) == ()
    parts = plan_manifests([manifest(n, size=4000, entries=9000) for n in range(20)], policy)
    assert [len(part.paths) for part in parts] == [4] * 5
    assert all(part.entries == 36_000 for part in parts)


# ---- thresholds --------------------------------------------------------------------------------------------


def test_settings_become_a_policy() -> None:
    """Settings become a policy."""
    policy = deployment_policy(
        Settings.model_validate({"upkeep": {"expire_age_days": 0.5, "expire_keep": 3}})
    )
    assert (policy.expire_age_ms, policy.expire_keep) == (12 * HOUR_MS, 3)
    assert policy.target_file_bytes == Settings().sync.target_file_bytes


def test_orphans_are_never_younger_than_a_run_may_take() -> None:
    """Orphans are never younger than a run may take."""
    settings = Settings.model_validate({"airflow": {"task_timeout_s": 10 * 86_400}})
    assert deployment_policy(settings).orphan_age_ms == 10 * DAY_MS + HOUR_MS


def test_properties_of_the_table_go_before_the_settings() -> None:
    """Properties of the table go before the settings."""
    policy = table_policy(
        Policy(),
        {
            "write.target-file-size-bytes": "5",
            "history.expire.max-snapshot-age-ms": "6",
            "history.expire.min-snapshots-to-keep": "7",
            "commit.manifest.target-size-bytes": "8",
            "commit.manifest.min-count-to-merge": "9",
            "gc.enabled": "False",
        },
        "shop.users",
    )
    assert policy == Policy(
        target_file_bytes=5,
        expire_age_ms=6,
        expire_keep=7,
        manifest_target_bytes=8,
        min_manifests=9,
        delete_allowed=False,
    )
    assert table_policy(Policy(), {}, "shop.users") == Policy()


@pytest.mark.parametrize("value", ["", "many", "0", "-1", "1.5"])
def test_a_property_that_is_no_number_is_named(value: str) -> None:
    """A property that is no number is named."""
    with pytest.raises(
        ConfigurationFailed, match=r"history\.expire\.min-snapshots-to-keep of the table shop\.users"
    ):
        table_policy(Policy(), {"history.expire.min-snapshots-to-keep": value}, "shop.users")
