"""What tables say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from airberg.columns.types import LONG, STRING
from airberg.errors import ConfigurationFailed
from airberg.governance.entities import STATE_PREFIX
from airberg.governance.facts import column_lines, facts_difference, table_facts, write_table_facts
from airberg.lake.note import PREFIX
from airberg.plan.model import ColumnPlan, GovernancePlan, HashRule, JobPlan, MaskRule
from support.governed_tables import CUSTOMERS, JOB_ID, ORDERS, PLAN, make_customers, make_job, memory_catalog


def owned_by(owner: str) -> JobPlan:
    """The plan with another owner."""
    return msgspec.structs.replace(PLAN, governance=GovernancePlan(owner=owner))


def test_facts_of_a_table_with_encrypted_columns() -> None:
    """Owner, comment, job, source, stream, and how each encrypted column was encrypted, nested ones too."""
    facts = table_facts(JOB_ID, PLAN, CUSTOMERS, {})
    encryption = {k: json.loads(facts.pop(k)) for k in list(facts) if k.startswith("airberg.encryption.")}
    assert facts == {
        "owner": "alice@example.com",
        "comment": "People who buy.",
        "airberg.job": str(JOB_ID),
        "airberg.source": "source-postgres",
        "airberg.stream": "customers",
        "airberg.stream-namespace": "public",
    }
    alg = "AES256-GCM/tink"
    assert encryption == {
        "airberg.encryption.email": {
            "key": "crm-pii",
            "mode": "deterministic",
            "alg": alg,
            "aad": "crm-pii",
            "type": "string",
        },
        "airberg.encryption.contact_info.phone": {
            "key": "crm-pii",
            "mode": "random",
            "alg": alg,
            "aad": "sales.customers.contact.phone",
            "type": "string",
        },
    }


def test_a_stream_without_description_is_named_with_its_source() -> None:
    """There is always a comment."""
    assert table_facts(JOB_ID, PLAN, ORDERS, {})["comment"] == (
        "Stream public.orders of source-postgres, loaded by Airberg."
    )


@pytest.mark.parametrize(
    ("owner", "stored"),
    [("alice", "alice"), ("group:crm,eu", "urn:li:corpGroup:crm%2Ceu"), ("  ", None), ("", None)],
)
def test_owner_property_is_what_datahubs_source_makes_the_owner_of(owner: str, stored: str | None) -> None:
    """A group goes as urn, which that source passes through; no owner is no property."""
    assert table_facts(JOB_ID, owned_by(owner), ORDERS, {}).get("owner") == stored


def test_operations_name_what_happens_to_each_leaf_in_order() -> None:
    """Identity, rename, cast and encrypt, combined where they are; a renamed struct renames its fields."""
    lines = {
        ".".join(line.source): (".".join(line.target), line.operation)
        for line in column_lines(CUSTOMERS.columns)
    }
    assert lines == {
        "id": ("id", "IDENTITY"),
        "e_mail": ("email", "RENAME+ENCRYPT"),
        "amount": ("amount", "CAST"),
        "contact.phone": ("contact_info.phone", "RENAME+CAST+ENCRYPT"),
        "contact.city": ("contact_info.town", "RENAME"),
        "labels": ("labels", "IDENTITY"),
    }


def test_facts_of_hashed_and_masked_columns() -> None:
    """How, from which type, and the version of a key; nothing else is told of a mask."""
    hashed, masked = HashRule(key_name="crm"), MaskRule(keep_last=2, mask_char="#")
    columns = (
        ColumnPlan(source="e_mail", name="mail", source_type=STRING, type=STRING, hash=hashed),
        ColumnPlan(source="card", name="card", source_type=LONG, type=STRING, mask=masked),
    )
    stream = msgspec.structs.replace(ORDERS, columns=columns)
    facts = table_facts(JOB_ID, PLAN, stream, {"crm": 3})
    assert {k: json.loads(v) for k, v in facts.items() if k.startswith(("airberg.hash", "airberg.mask"))} == {
        "airberg.hash.mail": {"key": "crm", "alg": "HMAC-SHA256/hex", "type": "string", "version": 3},
        "airberg.mask.card": {"keep_last": 2, "mask_char": "#", "type": "long"},
    }
    assert [line.operation for line in column_lines(columns)] == ["RENAME+HASH", "MASK"]


def test_a_column_that_is_no_longer_protected_loses_its_fact() -> None:
    """Old facts go, other properties and a comment that is there stay; so do facts of foreign columns."""
    present = {
        "airberg.encryption.old": "{}",
        "airberg.mask.older": "{}",
        "airberg.hash.of.another.job": "{}",
        "comment": "Written by hand",
        "write.format.default": "parquet",
    }
    wanted = {"comment": "Ours", "owner": "bob"}
    updates, removals = facts_difference(present, wanted, frozenset({"of.another.job"}))
    assert updates == {"owner": "bob"}
    assert removals == ("airberg.encryption.old", "airberg.mask.older")


def test_facts_are_written_once(tmp_path: Path) -> None:
    """The first call commits them without a snapshot, the second finds nothing to do."""
    catalog = memory_catalog(tmp_path)
    table = make_customers(catalog, {"airberg.encryption.gone": "{}"})
    before = table.current_snapshot()
    assert write_table_facts(table, make_job(), CUSTOMERS) is True
    stored = catalog.load_table("sales.customers")
    assert stored.properties == table_facts(JOB_ID, PLAN, CUSTOMERS, {})
    assert stored.current_snapshot() == before
    assert write_table_facts(stored, make_job(), CUSTOMERS) is False


def test_a_noted_version_of_a_key_outlives_the_facts_of_others(tmp_path: Path) -> None:
    """Who writes facts without knowing the versions leaves those that the table notes."""
    catalog = memory_catalog(tmp_path)
    facts = table_facts(JOB_ID, PLAN, CUSTOMERS, {"crm-pii": 4})
    deterministic = {
        k for k, v in facts.items() if k.startswith("airberg.encryption.") and '"version": 4' in v
    }
    assert deterministic == {k for k, v in facts.items() if '"mode": "deterministic"' in v} != set()
    table = make_customers(catalog, facts | {"owner": "somebody else"})
    assert write_table_facts(table, make_job(), CUSTOMERS) is True
    assert catalog.load_table("sales.customers").properties == facts


def test_a_job_without_plan_has_no_facts(tmp_path: Path) -> None:
    """There is nothing to retry until the job has been planned."""
    with pytest.raises(ConfigurationFailed, match="no plan"):
        write_table_facts(make_customers(memory_catalog(tmp_path)), make_job(None), CUSTOMERS)


def test_the_checkpoint_property_is_the_one_that_is_kept_out_of_datahub() -> None:
    """The lake's name of the property that holds the connector's state begins as governance thinks."""
    assert PREFIX == STATE_PREFIX


def test_a_struct_that_is_encrypted_whole_is_one_line() -> None:
    """Without children the struct itself is the leaf."""
    column = ColumnPlan(source="a", name="a", source_type=STRING, type=STRING)
    assert [line.target for line in column_lines([column])] == [("a",)]
