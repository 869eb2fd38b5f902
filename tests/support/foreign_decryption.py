"""What an engine has to give when it decrypts `shop.people` with the SQL of `airberg keys export`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pyiceberg.table import Table

from airberg.columns.encryption import ENCRYPTION_PREFIX, decode_encryption
from airberg.keys.cipher import canonical_text
from airberg.keys.dialects import Engine
from airberg.keys.export import ExportedColumn, decrypting_sql
from airberg.keys.port import DataKey
from support.deployment import Deployment
from support.encrypted_people import ENCRYPTED, KEY, rows

Run = Callable[[str], dict[str, list[Any]]]
"""Runs an exported text: column → values."""


@dataclass(frozen=True)
class ForeignReader:
    """An engine over the table, which it knows as `shop.people`.

    Attributes:
        engine: Its name for the export.
        run: How it runs what is exported.
        deployment: That of the table.
        table: The table.
    """

    engine: Engine
    run: Run
    deployment: Deployment
    table: Table

    def values(
        self,
        name: str,
        *,
        keys: Sequence[DataKey] | None = None,
        aad: str | None = None,
        skip_unreadable: bool = False,
    ) -> list[Any]:
        """The values of a column, sorted.

        Args:
            name: Dotted name.
            keys: Versions of the key, instead of all.
            aad: Other associated data than the table says.
            skip_unreadable: Values of other versions are null.
        """
        said = decode_encryption(name, self.table.properties[ENCRYPTION_PREFIX + name])
        path = tuple(name.split("."))
        column = ExportedColumn(("shop", "people"), path, said.aad if aad is None else aad, said.type)
        text = decrypting_sql(
            self.engine,
            column,
            KEY,
            self.keys if keys is None else keys,
            with_key=True,
            skip_unreadable=skip_unreadable,
        )
        return sorted(self.run(text)[path[-1]], key=repr)

    @property
    def keys(self) -> Sequence[DataKey]:
        """Both versions of the key."""
        return self.deployment.keys.versions(KEY)


def plaintexts(name: str) -> list[Any]:
    """The values of a column as an engine gives them: lists are JSON; sorted."""
    values: list[Any] = rows()
    for part in name.split("."):
        values = [None if value is None else value[part] for value in values]
    return sorted(
        (canonical_text(v).decode() if isinstance(v, list) else v for v in values),
        key=repr,
    )


def check_values(reader: ForeignReader, column: str) -> None:
    """Every value of a column is there in its type, of both versions of the key."""
    found, wanted = reader.values(column), plaintexts(column)
    if column == "woken" and reader.engine == "clickhouse":  # it has no time without a zone: here that is UTC
        found = [value and value.replace(tzinfo=None) for value in found]
    if column == "wakes" and reader.engine != "duckdb":  # no type for it: text
        wanted = sorted((value and canonical_text(value).decode() for value in wanted), key=repr)
    assert found == wanted


def check_refusals(reader: ForeignReader) -> None:
    """Another key, other associated data and a missing version are errors, or null where that was asked."""
    first, second = reader.keys
    wrong = [first, replace(second, raw=bytes(32))]
    for column in ("email", "contact.phone"):
        with pytest.raises(RuntimeError):
            reader.values(column, keys=[replace(first, raw=bytes(32)), second])
        with pytest.raises(RuntimeError):
            reader.values(column, aad="shop.people.id")
    with pytest.raises(RuntimeError):
        reader.values("name", keys=wrong)
    with pytest.raises(RuntimeError):
        reader.values("name", keys=[first])
    readable = [row["name"] for row in rows() if row["id"] < 5]
    found = reader.values("name", keys=[first], skip_unreadable=True)
    assert [v for v in found if v is not None] == sorted((v for v in readable if v is not None), key=repr)
    assert len(found) == len(rows())


def check_table(table: Table) -> None:
    """The table has what these checks are about: values of both versions, and a null in each column."""
    stored = table.scan().to_arrow()
    assert len({value[1:5] for value in stored["name"].to_pylist() if value}) == 2
    assert json.loads(table.properties[ENCRYPTION_PREFIX + "email"])["mode"] == "deterministic"
    assert json.loads(table.properties[ENCRYPTION_PREFIX + "name"])["mode"] == "random"
    assert all(None in plaintexts(name) for name in ENCRYPTED)
