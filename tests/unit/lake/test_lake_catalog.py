"""Opening the catalog, and what its errors become; tables that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.exceptions import ForbiddenError, NamespaceAlreadyExistsError, ServerError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.transforms import UnknownTransform

from airberg.columns.types import LONG, Field
from airberg.errors import AirbergError, ConfigurationFailed, TransientFailed
from airberg.lake.catalog import catalog_errors, masked, open_catalog
from airberg.lake.schema import AddedColumn, iceberg_schema, schema_changes
from airberg.lake.tables import describe, ensure_table, evolve
from airberg.settings import CatalogSettings, Settings
from support.lake_tables import FIELDS, NAMESPACE, data_paths, names, note, rows, sql_catalog, users, writer


def test_the_default_catalog_lies_in_the_home(tmp_path: Path) -> None:
    """Nothing has to exist beforehand."""
    catalog = open_catalog(Settings(home=tmp_path / "new" / "home"))
    ensure_table(catalog, NAMESPACE, "t", FIELDS)
    assert (tmp_path / "new" / "home" / "catalog.db").exists()
    assert (tmp_path / "new" / "home" / "warehouse" / "shop" / "t" / "metadata").exists()
    catalog.close()


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({"type": "nonsense"}, ConfigurationFailed),
        ({"type": "sql"}, ConfigurationFailed),
        ({"type": "sql", "uri": "nodialect://u:Hush-4711@h/db", "warehouse": "/tmp/x"}, ConfigurationFailed),
        ({"type": "sql", "uri": "not a url Hush-4711", "password": "Hush-4711"}, ConfigurationFailed),
        ({"type": "rest", "uri": "http://u:Hush-4711@127.0.0.1:9/", "token": "Hush-4711"}, TransientFailed),
    ],
)
def test_a_catalog_that_cannot_be_opened_says_why_without_secrets(
    tmp_path: Path, properties: dict[str, str], kind: type[AirbergError]
) -> None:
    """Wrong settings need a person, an address that does not answer is tried again."""
    settings = Settings(home=tmp_path, catalog=CatalogSettings(name="mine", properties=properties))
    with pytest.raises(kind) as caught:
        open_catalog(settings)
    assert "Hush-4711" not in caught.value.sentence()
    assert caught.value.guidance
    assert caught.value.__cause__ is None


def test_secrets_are_masked_wherever_they_occur() -> None:
    """Values of secret properties, and passwords in URLs, percent-encoded or not."""
    properties = {"s3.secret-access-key": "AKIA", "uri": "postgresql://u:p%40ss@h/db", "region": "eu"}
    text = "AKIA at eu: postgresql://u:p%40ss@h/db, p@ss, https://me:other@x/y"
    assert masked(text, properties) == "*** at eu: postgresql://u:***@h/db, ***, https://me:***@x/y"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ForbiddenError("no"), ConfigurationFailed),
        (PermissionError("no"), ConfigurationFailed),
        (ModuleNotFoundError("s3fs"), ConfigurationFailed),
        (ServerError("500"), TransientFailed),
        (ConnectionError("reset"), TransientFailed),
        (OSError("disk full"), TransientFailed),
    ],
)
def test_errors_decide_about_a_retry(error: Exception, kind: type[AirbergError]) -> None:
    """What a catalog or a storage raises becomes a branch of the tree; ours pass as they are."""
    with pytest.raises(kind), catalog_errors("trying"):
        raise error
    with pytest.raises(KeyError), catalog_errors("trying"):
        raise KeyError("a defect of ours")


def test_tables_that_we_cannot_write_are_refused(tmp_path: Path) -> None:
    """Partitions of another engine that we do not know are told, with a way out."""
    catalog = sql_catalog(tmp_path)
    catalog.create_namespace("shop")
    spec = PartitionSpec(PartitionField(1, 1000, UnknownTransform("zorder"), "id_z"))
    catalog.create_table(("shop", "parted"), iceberg_schema(FIELDS), partition_spec=spec)
    with pytest.raises(ConfigurationFailed) as caught:
        ensure_table(catalog, NAMESPACE, "parted", FIELDS)
    assert caught.value.code == "table-partition-unsupported"
    assert caught.value.guidance
    catalog.close()


def test_a_table_of_format_version_1_is_written_correctly(tmp_path: Path) -> None:
    """An old table is appended to, merged and overwritten."""
    catalog = sql_catalog(tmp_path)
    table = ensure_table(catalog, NAMESPACE, "users", FIELDS, {"format-version": "1"})
    assert table.metadata.format_version == 1
    for number, mode in enumerate(("append", "merge", "overwrite"), 1):
        table_writer = writer(catalog, mode, tmp_path)
        table_writer.write(rows((1, mode), (number, "x")) if number > 1 else rows((1, mode), (9, "y")))
        table_writer.finish(note(number))
        table_writer.discard()
        expected = {
            1: [(1, "append"), (9, "y")],
            2: [(1, "merge"), (2, "x"), (9, "y")],
            3: [(1, "overwrite"), (3, "x")],
        }
        assert names(users(catalog)) == expected[number]
    catalog.close()


def test_making_a_table_that_somebody_makes_meanwhile(tmp_path: Path) -> None:
    """Namespace and table appear between our look and our call; the other's table is taken."""
    from pyiceberg.catalog.sql import SqlCatalog

    class Racing(SqlCatalog):
        """Somebody else is always quicker."""

        def create_namespace(self, *args: object, **kwargs: object) -> None:
            super().create_namespace(*args, **kwargs)  # type: ignore[arg-type]
            raise NamespaceAlreadyExistsError("taken")

        def create_table(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            super().create_table(args[0], args[1])  # type: ignore[arg-type]
            return super().create_table(*args, **kwargs)  # type: ignore[arg-type]

    catalog = sql_catalog(tmp_path, Racing)
    table = ensure_table(catalog, ("a", "b"), "t", FIELDS)
    assert table.name() == ("a", "b", "t")
    catalog.close()


def test_a_schema_that_somebody_changes_meanwhile(tmp_path: Path) -> None:
    """The second of two changes made on the same schema is transient; the next run compares again."""
    catalog = sql_catalog(tmp_path)
    mine, theirs = users(catalog), users(catalog)
    evolve(theirs, (AddedColumn(("age",), LONG),))
    wanted = (*FIELDS, Field("age", LONG), Field("size", LONG))
    with pytest.raises(TransientFailed) as caught:
        evolve(mine, schema_changes(mine.schema(), wanted))
    assert caught.value.code == "schema-changed"
    table = users(catalog)
    table = evolve(table, schema_changes(table.schema(), wanted))
    assert [field.name for field in table.schema().fields][-2:] == ["age", "size"]
    catalog.close()


def test_a_description_says_what_there_is(tmp_path: Path) -> None:
    """Columns in our own words, rows, snapshots with their counts."""
    catalog = sql_catalog(tmp_path)
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a"), (2, "b")))
    append.finish(note(1))
    found = describe(users(catalog))
    assert found.identifier == ("shop", "users")
    assert found.fields[-1] == ("_ab_cdc_deleted_at", "timestamptz")
    assert found.row_count == 2
    (snapshot,) = found.snapshots
    assert (snapshot.operation, snapshot.added_records, snapshot.total_records) == ("append", 2, 2)
    assert len(data_paths(users(catalog))) == 1
    assert found.metadata_location.startswith(found.location)
    catalog.close()
