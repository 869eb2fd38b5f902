"""A table that exists keeps its partitions and order: asking for others is found when a job is submitted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import InvalidRequest
from airberg.keys.memory import MemoryKeyStore
from airberg.lake.catalog import open_catalog
from airberg.lake.layout import partition_texts, sort_texts
from airberg.lake.tables import ensure_table
from airberg.plan.merging import merge_options
from airberg.plan.model import IngestRequest, JobPlan, TableRequest
from airberg.plan.planner import Connector, build_plan
from airberg.plan.preparation import TargetTables, compare_tables
from airberg.settings import MergeSettings, Settings
from support.key_directory import keys_named
from support.lake_tables import FIELDS
from support.partitions import by, sorted_by

USERS: dict[str, Any] = {
    "name": "users",
    "json_schema": {"properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh"],
}


def plan(partition_by: tuple[str, ...] = (), sort_by: tuple[str, ...] = ()) -> JobPlan:
    """A plan for `shop.users`."""
    table = TableRequest(stream="users", partition_by=partition_by, sort_by=sort_by)
    request = IngestRequest(
        name="n", source_name="source-x", schema_name="shop", mode="append", tables=(table,)
    )
    return build_plan(request, Connector("source-x", "1", [USERS], 1.0), keys_named("default"))


def merge_plan(**changes: Any) -> JobPlan:
    """A plan that merges `shop.users` by its primary key."""
    request = IngestRequest(name="n", source_name="source-x", schema_name="shop", mode="merge", **changes)
    stream = USERS | {"source_defined_primary_key": [["id"]]}
    return build_plan(
        request,
        Connector("source-x", "1", [stream], 1.0),
        keys_named("default"),
        merging=merge_options(request, MergeSettings()),
    )


def test_a_new_merge_table_is_shown_as_it_will_be(tmp_path: Path) -> None:
    """Sorted by its key, with identifier fields, of the version that the delete format needs."""
    tables = TargetTables(Settings(home=tmp_path), "shop")
    (found,) = compare_tables(merge_plan(), tables, MemoryKeyStore())
    assert (found.sort_by, found.identifier, found.format_version) == (("id asc nulls first",), ("id",), 2)
    assert tables.format_versions() == {}
    (found,) = compare_tables(merge_plan(delete_format="vector"), tables, MemoryKeyStore())
    assert found.format_version == 3


def test_a_merge_into_a_table_without_an_order_is_no_contradiction(tmp_path: Path) -> None:
    """The order by key was not asked for; the plan shows what is there."""
    settings = Settings(home=tmp_path)
    catalog = open_catalog(settings)
    ensure_table(catalog, ("shop",), "users", FIELDS)
    tables = TargetTables(settings, "shop")
    (found,) = compare_tables(merge_plan(), tables, MemoryKeyStore())
    assert (found.exists, found.sort_by, found.identifier, found.format_version) == (True, (), (), 2)
    assert tables.format_versions() == {"users": 2}
    asked = TableRequest(stream="users", sort_by=("id",))
    with pytest.raises(InvalidRequest, match="sorted by nothing, not id"):
        compare_tables(merge_plan(tables=(asked,)), tables, MemoryKeyStore())
    catalog.close()


def test_a_table_that_does_not_exist_will_be_as_asked(tmp_path: Path) -> None:
    """The dry run shows it."""
    settings = Settings(home=tmp_path)
    (found,) = compare_tables(
        plan(("bucket(4, id)",), ("name desc",)), TargetTables(settings, "shop"), MemoryKeyStore()
    )
    assert (found.exists, found.partition_by, found.sort_by) == (
        False,
        ("bucket(4, id)",),
        ("name desc nulls last",),
    )


def test_a_table_that_exists_keeps_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Asked for the same, or for nothing: fine. For something else: refused, naming both."""
    settings = Settings(home=tmp_path)
    catalog = open_catalog(settings)
    table = ensure_table(
        catalog,
        ("shop",),
        "users",
        FIELDS,
        partition_by=(by("bucket", "id", 4), by("truncate", "name", 1)),
        sort_by=(sorted_by("name", descending=True, nulls_last=True),),
    )
    assert partition_texts(table) == ["bucket(4, id)", "truncate(1, name)"]
    assert sort_texts(table) == ["name desc nulls last"]
    for fine in (plan(), plan(("bucket(4, id)", "truncate(1, name)"), ("name desc",))):
        (found,) = compare_tables(fine, TargetTables(settings, "shop"), MemoryKeyStore())
        assert (found.exists, found.partition_by) == (True, ("bucket(4, id)", "truncate(1, name)"))
    with pytest.raises(InvalidRequest) as caught:
        compare_tables(plan(("bucket(8, id)",), ("id",)), TargetTables(settings, "shop"), MemoryKeyStore())
    assert [(p.pointer, p.code, p.message) for p in caught.value.problems] == [
        (
            "/tables/users/partition_by",
            "table-layout-differs",
            "shop.users exists and is partitioned by bucket(4, id), truncate(1, name), not bucket(8, id).",
        ),
        (
            "/tables/users/sort_by",
            "table-layout-differs",
            "shop.users exists and is sorted by name desc nulls last, not id asc nulls first.",
        ),
    ]
    with caplog.at_level(logging.WARNING):
        again = ensure_table(catalog, ("shop",), "users", FIELDS, partition_by=(by("identity", "id"),))
    assert partition_texts(again) == partition_texts(table)
    assert "keeps what it has" in caplog.text
    catalog.close()


def test_an_unpartitioned_table_is_named_so(tmp_path: Path) -> None:
    """Partition evolution is not done behind anybody's back."""
    settings = Settings(home=tmp_path)
    catalog = open_catalog(settings)
    ensure_table(catalog, ("shop",), "users", FIELDS)
    with pytest.raises(InvalidRequest) as caught:
        compare_tables(plan(("id",)), TargetTables(settings, "shop"), MemoryKeyStore())
    assert caught.value.problems[0].message == "shop.users exists and is partitioned by nothing, not id."
    catalog.close()
