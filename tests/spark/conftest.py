"""Spark, for `make test-spark`. These tests are skipped where it does not run, and say why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.lake_tables import sql_catalog
from support.spark import NoSpark, Spark, make_environment, running_spark


@pytest.fixture(scope="session")
def spark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the catalog that Spark and we share."""
    if "SPARK_TESTS" not in os.environ:
        pytest.skip("Spark: not part of `make test`; `make test-spark` runs these tests where it can")
    try:
        make_environment()
    except NoSpark as missing:
        pytest.skip(f"Spark: the tests of the reference implementation cannot run here: {missing}")
    return tmp_path_factory.mktemp("spark")


@pytest.fixture(scope="session")
def catalog(spark_folder: Path) -> Iterator[Any]:
    """The catalog as we open it."""
    opened = sql_catalog(spark_folder)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def spark(spark_folder: Path, catalog: Any) -> Iterator[Spark]:
    """The catalog as Spark opens it, through its JDBC catalog."""
    catalog.create_tables()
    with running_spark(spark_folder) as session:
        yield session
