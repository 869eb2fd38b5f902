"""The page about what DataHub is told says what the code sends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from datahub.metadata.urns import TagUrn
from pyiceberg.schema import Schema

from airberg.columns.types import LONG, STRING
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.facts import column_lines
from airberg.governance.files import FileSink
from airberg.governance.memory import MemorySink
from airberg.governance.policies import Policies
from airberg.governance.port import MADE_ONCE
from airberg.governance.proposals import protection_tag
from airberg.governance.register import register_run
from airberg.governance.resolve import owner_urn
from airberg.governance.retire import retirement
from airberg.governance.stored import HISTORY
from airberg.governance.wire import as_json
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule, ProtectionRule
from airberg.settings import Settings
from support.governed_tables import (
    JOB_ID,
    ORDERS,
    PLAN,
    RUN_ID,
    make_customers,
    make_job,
    make_orders,
    make_run,
    memory_catalog,
)
from support.pages import Page

PAGE = Page("docs/reference/governance.md")


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a run of two tables is told as."""
    catalog = memory_catalog(tmp_path_factory.mktemp("lake"))
    make_customers(catalog)
    make_orders(catalog)
    sink = MemorySink()
    register_run(make_job(), make_run("customers", "orders"), catalog, Settings(), sink)
    return sink.sent[JOB_ID, RUN_ID]


def on_page(heading: str) -> dict[tuple[str, str], str]:
    """Entity and aspect \u2192 how, of a table."""
    rows = PAGE.table(heading)
    return {(row[0], name): row[2] for row in rows for name in re.findall(r"`(\w+)`", row[1])}


def in_code(proposals: Iterable[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """The same of proposals."""
    made = MADE_ONCE | {TagUrn.from_string("urn:li:tag:x").to_key_aspect().ASPECT_NAME}
    found: dict[tuple[str, str], str] = {}
    for p in proposals:
        name = p["aspectName"]
        how = "added" if p["changeType"] == "PATCH" else "replaced"
        how = "event" if name in HISTORY else "made" if name in made else how
        assert found.setdefault((p["entityType"], name), how) == how
    return found


def test_every_aspect_is_on_the_page(sent: list[dict[str, Any]]) -> None:
    """With how it is written; and no other."""
    assert on_page("Aspects") == in_code(sent)


def test_what_is_told_of_a_deleted_job() -> None:
    """The same."""
    job = replace(make_job(), deleted_at=datetime(2026, 3, 29, tzinfo=UTC))
    told = retirement(job, DataHubSettings(), (("sales", "customers"),))
    assert on_page("When a job is deleted") == in_code(map(as_json, told))


def test_urns(tmp_path: Path) -> None:
    """Those of the example, from a run of such a table."""
    catalog = memory_catalog(tmp_path)
    catalog.create_namespace("shop")
    catalog.create_table("shop.orders", Schema())
    plan = msgspec.structs.replace(PLAN, namespace=("shop",), streams=(ORDERS,))
    settings = Settings(datahub=DataHubSettings(platform_instance="lake"))
    sink = MemorySink()
    register_run(make_job(plan), make_run("orders"), catalog, settings, sink)
    text = json.dumps(sink.sent[JOB_ID, RUN_ID])
    urns = {row[0].replace("`", ""): re.findall(r"`([^`]+)`", row[1]) for row in PAGE.table("Urns")}
    for name in ("table", "stream of the source", "flow", "task", "tag"):
        assert f'"{urns[name][0]}"'.replace("<job id>", str(JOB_ID)) in text, name
    made, of = urns["domain that is made"]
    assert Policies(DataHubSettings(), None).domain(of) == made
    for owner in ("ann@example.com", "group:crm"):
        assert [owner_urn(owner)] == urns[f"owner {owner}"]


def test_operations_of_columns() -> None:
    """Every word is on the page, and each of them can be."""
    rules: dict[str, ProtectionRule] = {
        "encrypt": EncryptRule(key_name="k", mode="random", aad="k"),
        "hash": HashRule(key_name="k"),
        "mask": MaskRule(),
    }
    base = ColumnPlan(source="a", name="a", source_type=LONG, type=LONG)
    changes: list[dict[str, Any]] = [{}, {"name": "b"}, {"cast_to": STRING}]
    changes += [{name: rule} for name, rule in rules.items()]
    changes.append({"name": "b", "cast_to": STRING, "encrypt": rules["encrypt"]})
    columns = [msgspec.structs.replace(base, **change) for change in changes]
    words = {word for row in PAGE.table("Lines of columns") for word in re.findall(r"`([^`]+)`", row[0])}
    assert words == {line.operation for column in columns for line in column_lines([column])}
    tags: dict[str, set[str]] = {}
    for rule in rules.values():
        tag = protection_tag(rule)
        tags[tag.tag.rpartition(":")[2]] = set(json.loads(tag.context))
    rows = PAGE.table("Protected columns")
    assert tags == {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows}


def test_members_of_files(tmp_path: Path) -> None:
    """Of each proposal in a file."""
    catalog = memory_catalog(tmp_path)
    make_customers(catalog)
    path = register_run(make_job(), make_run("customers"), catalog, Settings(), FileSink(tmp_path / "m"))
    assert path.endswith(f"/{JOB_ID}/{RUN_ID}.json")
    members = {word for row in PAGE.table("Files") for word in re.findall(r"`(\w+)`", row[0])}
    shapes = {("UPSERT", ("json",)), ("PATCH", ("contentType", "value"))}
    proposals = json.loads(Path(path).read_text())
    assert {frozenset(p) for p in proposals} == {frozenset(members)}
    assert {(p["changeType"], tuple(sorted(p["aspect"]))) for p in proposals} == shapes
