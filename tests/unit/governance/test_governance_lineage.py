"""Where source streams are among DataHub's datasets."""

from __future__ import annotations

import msgspec
import pytest
from pyiceberg.table import Table

from airberg.governance.lineage import fine_grained, source_urn
from airberg.governance.schema import describe_schema
from airberg.governance.sources import source_platform
from support.governed_tables import CUSTOMERS


@pytest.mark.parametrize(
    ("connector", "platform"),
    [
        ("source-postgres", "postgres"),
        ("source-mongodb-v2", "mongodb"),
        ("source-azure-blob-storage", "abs"),
        ("source-google-analytics-v4", "google-analytics"),
        ("source-my_own", "my-own"),
    ],
)
def test_connectors_are_datahubs_platforms(connector: str, platform: str) -> None:
    """Version suffixes go; unknown ones are platforms of their own name."""
    assert source_platform(connector) == platform


@pytest.mark.parametrize(
    ("namespace", "stream", "config", "name"),
    [
        ("public", "customers", {"database": "crm"}, "crm.public.customers"),
        ("crm", "customers", {"database": "crm"}, "crm.customers"),
        ("public", "customers", {}, "public.customers"),
        (None, "issues", {}, "issues"),
        (None, "t", {"db_name": "d", "schema": "s"}, "d.s.t"),
        (None, "shop.orders", {"project_id": "p"}, "p.orders"),
        ("public", "t", {"database": "******"}, "public.t"),
        ("public", "t", {"database": {"name": "x"}}, "public.t"),
    ],
)
def test_names_of_source_datasets(
    namespace: str | None, stream: str, config: dict[str, object], name: str
) -> None:
    """Database, schema and stream as far as they are known; a masked setting is not."""
    plan = msgspec.structs.replace(CUSTOMERS, namespace=namespace, name=stream)
    urn = source_urn("source-postgres", plan, config, "PROD")
    assert urn == f"urn:li:dataset:(urn:li:dataPlatform:postgres,{name},PROD)"


def test_columns_that_are_fed_no_longer_have_no_lines(customers: Table) -> None:
    """They stay in the table: one that a transformation drops, and one that the stream has lost."""
    left = tuple(c for c in CUSTOMERS.columns if c.source not in ("e_mail", "amount"))
    stream = msgspec.structs.replace(CUSTOMERS, columns=left)
    paths = describe_schema(customers.schema()).paths
    assert {("email",), ("amount",)} <= set(paths)
    lines = fine_grained("urn:li:dataset:s", "urn:li:dataset:t", stream, paths)
    ends = {line.downstreams[0].rpartition(".")[2].rstrip(")") for line in lines}
    assert ends == {"id", "phone", "town", "labels"}
