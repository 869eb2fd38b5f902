"""Tables for the tests of governance, made once: they are only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from support.governed_tables import make_customers, make_every_type, make_orders, memory_catalog


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog with `Everything`, `customers` and `orders`."""
    folder: Path = tmp_path_factory.mktemp("governed")
    catalog = memory_catalog(folder)
    make_every_type(catalog)
    make_customers(catalog, {"comment": "People who buy.", "airberg.checkpoint.j": "position 7"})
    make_orders(catalog)
    return catalog


@pytest.fixture(scope="session")
def customers(lake: Catalog) -> Table:
    """The table with nested, cast and encrypted columns."""
    return lake.load_table("sales.customers")


@pytest.fixture(scope="session")
def everything(lake: Catalog) -> Table:
    """The table with a column of every type."""
    return lake.load_table("sales.Everything")
