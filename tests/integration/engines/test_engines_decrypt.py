"""ClickHouse, DuckDB and Tink decrypt what a real run wrote, with what `airberg keys export` prints.

Spark does the same in `tests/spark/test_spark_decrypt.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.table import Table

from airberg.columns.encryption import ENCRYPTION_PREFIX, decode_encryption
from airberg.keys.cipher import canonical_text
from airberg.keys.export import tink_keyset
from support.deployment import Deployment
from support.encrypted_people import ENCRYPTED, KEY, load_people, rows
from support.engines import Engines, location, newest_metadata
from support.foreign_decryption import ForeignReader, check_refusals, check_table, check_values

pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(scope="module")
def people(deployment: Deployment) -> Table:
    """The table `shop.people`."""
    table = load_people(deployment, deployment.home.parent)
    check_table(table)
    return table


@pytest.fixture(
    scope="module",
    params=["clickhouse: Iceberg", "clickhouse: Parquet", "duckdb: Iceberg", "duckdb: Parquet"],
)
def reader(
    request: pytest.FixtureRequest, deployment: Deployment, people: Table, engines: Engines
) -> ForeignReader:
    """An engine over the Iceberg table, or over the Parquet files in its folder."""
    files = f"{location(people)}/data/*.parquet"
    if request.param.startswith("clickhouse"):
        iceberg = request.param.endswith("Iceberg")
        source = f"icebergLocal('{location(people)}')" if iceberg else f"file('{files}', Parquet)"
        engines.clickhouse("CREATE DATABASE IF NOT EXISTS shop")
        engines.clickhouse(f"CREATE OR REPLACE VIEW shop.people AS SELECT * FROM {source}")
        return ForeignReader("clickhouse", engines.clickhouse, deployment, people)
    source = (
        f"iceberg_scan('{newest_metadata(people)}')" if request.param.endswith("Iceberg") else f"'{files}'"
    )
    view = ["CREATE SCHEMA shop", f"CREATE VIEW shop.people AS FROM {source}", "SET TimeZone = 'UTC'"]
    return ForeignReader("duckdb", lambda text: engines.duckdb(view, text), deployment, people)


@pytest.mark.parametrize("column", ENCRYPTED)
def test_every_value_is_decrypted(reader: ForeignReader, column: str) -> None:
    """Both modes, both versions of the key, nested, empty, null and large values, each type."""
    check_values(reader, column)


def test_nothing_else_decrypts(reader: ForeignReader) -> None:
    """Not with another key, nor other associated data, nor without the version."""
    check_refusals(reader)


# ---- Tink --------------------------------------------------------------------------------------------------


def ciphertexts(table: Table, name: str) -> list[bytes]:
    """The values of an encrypted column that are not null, as pyiceberg reads them."""
    values: list[Any] = table.scan().to_arrow().to_pylist()
    for part in name.split("."):
        values = [value and value[part] for value in values]
    return [value for value in values if value is not None]


@pytest.mark.parametrize("column", ENCRYPTED)
def test_tink_decrypts_every_value(
    deployment: Deployment, people: Table, engines: Engines, column: str
) -> None:
    """With one keyset for both versions; BigQuery takes the same."""
    aad = decode_encryption(column, people.properties[ENCRYPTION_PREFIX + column]).aad.encode()
    keyset = tink_keyset(deployment.keys.versions(KEY))
    found = engines.tink(keyset, [(value, aad) for value in ciphertexts(people, column)])
    values: list[Any] = rows()
    for part in column.split("."):
        values = [value and value[part] for value in values]
    assert sorted(found) == sorted(canonical_text(value) for value in values if value is not None)


def test_tink_decrypts_nothing_else(deployment: Deployment, people: Table, engines: Engines) -> None:
    """Not with another key, nor other associated data, nor without the version."""
    first, second = deployment.keys.versions(KEY)
    value = ciphertexts(people, "email")[0]
    assert value[1:5] == first.key_id.to_bytes(4, "big")
    assert engines.tink(tink_keyset([first]), [(value, KEY.encode())])
    deployment.keys.create("other", exist_ok=True)
    for keys, aad in (
        ([first, second], b"shop.people.email"),
        ([second], KEY.encode()),
        (deployment.keys.versions("other"), KEY.encode()),
    ):
        with pytest.raises(RuntimeError, match="TinkError"):
            engines.tink(tink_keyset(keys), [(value, aad)])
