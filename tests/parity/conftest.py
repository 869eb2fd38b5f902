"""DataHub's own Iceberg source, for `make test-datahub`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from support.governed_tables import memory_catalog
from support.parity_tables import make_parity_tables


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the catalog that both read."""
    if "DATAHUB_TESTS" not in os.environ:
        pytest.skip("DataHub's source: not part of `make test`; `make test-datahub` runs these tests")
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="session")
def shared(shared_folder: Path) -> Catalog:
    """The catalog, with its tables."""
    catalog = memory_catalog(shared_folder)
    make_parity_tables(catalog, shared_folder / "spill")
    return catalog
