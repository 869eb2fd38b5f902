"""Spark decrypts what a real run wrote, with the SQL that `airberg keys export` prints.

`.ci/run` runs these alone (`make test-spark ARGS="-k decrypt"`); ClickHouse, DuckDB and Tink do the same in
`tests/integration/engines`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from airberg.settings import CatalogSettings
from support.deployment import Deployment
from support.encrypted_people import ADDRESSES, ENCRYPTED, load_people, load_users
from support.foreign_decryption import ForeignReader, check_refusals, check_table, check_values
from support.pages import READ_ENCRYPTED, Page, engine_of
from support.spark import Spark


@pytest.fixture(scope="module")
def deployment(spark_folder: Path, spark: Spark, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment whose catalog is Spark's."""
    shared = {
        "type": "sql",
        "uri": f"sqlite:///{spark_folder / 'catalog.db'}",
        "warehouse": f"file://{spark_folder / 'warehouse'}",
    }
    catalog = CatalogSettings(name="lake", properties=shared)
    return Deployment(spark_folder / "home", pyairbyte_dir, connectors_dir, catalog_settings=catalog)


@pytest.fixture(scope="module")
def people(deployment: Deployment) -> Table:
    """The table `shop.people`."""
    table = load_people(deployment, deployment.home.parent)
    check_table(table)
    return table


@pytest.fixture(scope="module", params=["Iceberg", "Parquet"])
def reader(request: pytest.FixtureRequest, deployment: Deployment, people: Table, spark: Spark) -> Any:
    """Spark over the Iceberg table, or over the Parquet files in its folder."""
    files = f"parquet.`{people.location()}/data`"

    def run(text: str) -> dict[str, list[Any]]:
        if request.param == "Parquet":
            assert "`shop`.`people`" in text
            text = text.replace("`shop`.`people`", files)
        rows = spark.sql(text)
        return {name: [row[name] for row in rows] for name in rows[0]}

    spark.sql("USE lake" if request.param == "Iceberg" else "USE spark_catalog")
    return ForeignReader("spark", run, deployment, people)


@pytest.mark.parametrize("column", ENCRYPTED)
def test_every_value_is_decrypted(reader: ForeignReader, column: str) -> None:
    """Both modes, both versions of the key, nested, empty, null and large values, each type."""
    check_values(reader, column)


def test_nothing_else_is_decrypted(reader: ForeignReader) -> None:
    """Not with another key, nor other associated data, nor without the version."""
    check_refusals(reader)


def test_the_sql_of_the_page(deployment: Deployment, spark: Spark) -> None:
    """As it is printed, with the key as a parameter."""
    load_users(deployment, deployment.home.parent)
    [block] = [block for block in Page(READ_ENCRYPTED).blocks if engine_of(block) == "spark"]
    spark.sql("USE lake")
    rows = spark.sql(block.text, key_v1=deployment.keys.primary("default").raw.hex())
    assert sorted((row["email"] for row in rows), key=repr) == sorted(ADDRESSES, key=repr)
