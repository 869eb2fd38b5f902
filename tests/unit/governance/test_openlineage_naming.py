"""Names of datasets by OpenLineage's convention."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airberg.governance.openlineage.naming import (
    catalog_dataset,
    catalog_type,
    source_dataset,
    table_dataset,
    without_credentials,
)
from support.governed_tables import CUSTOMERS


@pytest.mark.parametrize(
    ("connector", "namespace", "config", "expected"),
    [
        (
            "source-postgres",
            "public",
            {"host": "db.example.com", "port": 5433, "database": "crm"},
            ("postgres://db.example.com:5433", "crm.public.t"),
        ),
        (
            "source-mysql",
            "crm",
            {"host": "db", "database": "other"},
            ("mysql://db:3306", "crm.t"),
        ),
        ("source-mysql", None, {"host": "db", "database": "crm"}, ("mysql://db:3306", "crm.t")),
        (
            "source-oracle",
            "HR",
            {"host": "db", "sid": "ORCL"},
            ("oracle://db:1521", "ORCL.HR.t"),
        ),
        (
            "source-mssql",
            "dbo",
            {"host": "db", "database": "crm"},
            ("sqlserver://db:1433", "crm.dbo.t"),
        ),
        (
            "source-snowflake",
            "PUBLIC",
            {"host": "org-acc.snowflakecomputing.com", "database": "CRM"},
            ("snowflake://org-acc", "CRM.PUBLIC.t"),
        ),
        (
            "source-bigquery",
            None,
            {"project_id": "p", "dataset_id": "d"},
            ("bigquery", "p.d.t"),
        ),
        ("source-postgres", "public", {"database": "crm"}, ("airbyte://source-postgres", "public.t")),
        ("source-postgres", "public", {"host": "db"}, ("airbyte://source-postgres", "public.t")),
        (
            "source-postgres",
            "public",
            {"host": "secret://vault/kv/host", "database": "crm"},
            ("airbyte://source-postgres", "public.t"),
        ),
        (
            "source-postgres",
            "public",
            {"host": "user:pw@db", "database": "crm"},
            ("airbyte://source-postgres", "public.t"),
        ),
        (
            "source-postgres",
            "public",
            {"host": "db", "port": "5433; drop", "database": "crm"},
            ("postgres://db:5432", "crm.public.t"),
        ),
        ("source-github", None, {"repository": "x"}, ("airbyte://source-github", "t")),
    ],
)
def test_sources(
    connector: str, namespace: str | None, config: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Tables of servers by host and port; where that is not known, the connector's stream."""
    stream = msgspec.structs.replace(CUSTOMERS, namespace=namespace, name="t")
    assert source_dataset(connector, stream, config) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://lake/warehouse/sales/orders", ("s3://lake", "warehouse/sales/orders")),
        ("s3a://lake/sales/orders/", ("s3://lake", "sales/orders")),
        ("gs://lake/sales/orders", ("gs://lake", "sales/orders")),
        ("file:///var/lib/w/sales/orders", ("file", "/var/lib/w/sales/orders")),
        ("/var/lib/w/sales/orders", ("file", "/var/lib/w/sales/orders")),
        ("file:///a%20b/t", ("file", "/a b/t")),
        ("hdfs://name:8020/w/t", ("hdfs://name:8020", "/w/t")),
        (
            "abfss://box@acc.dfs.core.windows.net/w/t",
            ("abfss://box@acc.dfs.core.windows.net", "w/t"),
        ),
        ("s3://key:secret@lake/t", ("s3://lake", "t")),
        ("s3://lake", ("s3://lake", "/")),
    ],
)
def test_tables_are_named_by_their_location(location: str, expected: tuple[str, str]) -> None:
    """Like any dataset of that storage."""
    assert table_dataset(location) == expected


@pytest.mark.parametrize(
    ("properties", "kind", "expected"),
    [
        (
            {"type": "rest", "uri": "https://u:p@cat.example.com/v1?token=x"},
            "rest",
            ("https://cat.example.com/v1", "sales.orders"),
        ),
        ({"uri": "http://cat:8181"}, "rest", ("http://cat:8181", "sales.orders")),
        ({"uri": "thrift://hms:9084"}, "hive", ("hive://hms:9084", "sales.orders")),
        (
            {"type": "glue", "glue.region": "eu-west-1", "glue.id": "123"},
            "glue",
            ("arn:aws:glue:eu-west-1:123", "table/sales/orders"),
        ),
        ({"type": "glue"}, "glue", ("iceberg://lake", "sales.orders")),
        (
            {"uri": "postgresql+psycopg://u:p@db/cat"},
            "sql",
            ("postgres://db:5432", "cat.sales.orders"),
        ),
        ({"type": "sql", "uri": "sqlite:////x.db"}, "sql", ("iceberg://lake", "sales.orders")),
        ({"py-catalog-impl": "my.Own"}, "Own", ("iceberg://lake", "sales.orders")),
        ({}, "unknown", ("iceberg://lake", "sales.orders")),
    ],
)
def test_catalogs(properties: dict[str, str], kind: str, expected: tuple[str, str]) -> None:
    """A table's other name is that of its catalog, as far as the catalog has an address."""
    assert catalog_type(properties) == kind
    assert catalog_dataset("lake", properties, ("sales", "orders")) == expected


def test_addresses_have_no_credentials() -> None:
    """Neither of the user nor in the query."""
    assert without_credentials("https://u:p@h:1/a?sig=s#f") == "https://h:1/a"
