"""`airberg.read_table` and `airberg.read_batches`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from airberg.errors import InvalidRequest, NotFound
from airberg.keys.open import open_keys
from airberg.lake.catalog import catalog_errors, open_catalog
from airberg.lake.tables import find_table
from airberg.reader.access import OpenedKey, identify, open_reader_keys
from airberg.reader.columns import columns_to_decrypt, columns_to_read, plain_schema
from airberg.reader.conditions import condition
from airberg.reader.rows import Reading
from airberg.settings import Settings, load_settings


def read_table(
    name: str,
    decrypt: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    where: str | BooleanExpression | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    token: str | None = None,
) -> pa.Table:
    """The rows of a table, with encrypted columns decrypted and of the type that they had.

    Args:
        name: Dotted name of the table.
        decrypt: Encrypted columns to decrypt, nested ones with dots; they are read besides `columns`. Others
            stay as they are stored.
        columns: Columns of the top level to read; default all.
        where: Which rows, as pyiceberg's row filters: `"id > 5 and city = 'Ulm'"`. It may look at columns
            that are decrypted here, with their values.
        limit: How many rows at most, any of them.
        settings: Of the deployment; default those of the environment.
        token: Access token of the reader, for keys that not everybody may use; default the setting `token`.

    Raises:
        NotFound: There is no such table, or no longer such a key.
        InvalidRequest: A column is not there or not encrypted, or `where` is not understood.
        NotAuthenticated: The token does not hold.
        NotAllowed: A key is not for this reader.
        ConfigurationFailed: A key is disabled or destroyed, a value cannot be decrypted, or the deployment is
            not configured rightly.
        TransientFailed, Unavailable: The catalog, its storage, the key store or the issuer does not answer.
    """
    reading, batches = _begin(settings, name, decrypt, columns, where, limit, token)
    return pa.Table.from_batches([*batches], reading.schema)


def read_batches(
    name: str,
    decrypt: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    where: str | BooleanExpression | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    token: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """The same rows in batches, in bounded memory.

    Everything is checked, and the audit entry is made, by the call itself. Arguments and errors are those of
    `read_table`; values that cannot be decrypted are found while the batches are read.
    """
    return _begin(settings, name, decrypt, columns, where, limit, token)[1]


def _begin(
    settings: Settings | None,
    name: str,
    decrypt: Sequence[str],
    columns: Sequence[str] | None,
    where: str | BooleanExpression | None,
    limit: int | None,
    token: str | None,
) -> tuple[Reading, Iterator[pa.RecordBatch]]:
    """Check everything; the batches hold the catalog until they are read."""
    if isinstance(decrypt, str) or isinstance(columns, str):
        raise TypeError("columns are given as a list of names")
    if limit is not None and limit < 0:
        raise InvalidRequest.one("/limit", "out-of-range", "The limit is below 0.", "Give 0 or more.")
    settings = settings or load_settings()
    with contextlib.ExitStack() as stack:
        catalog = stack.enter_context(contextlib.closing(open_catalog(settings)))
        table = _table(catalog, name)
        sealed = columns_to_decrypt(table, decrypt)
        names = columns_to_read(table, None if columns is None else [*columns, *(c.path[0] for c in sealed)])
        plain = plain_schema(table.schema(), sealed)
        rows = condition(where, plain, [column.field_id for column in sealed])
        keys: dict[str, OpenedKey] = {}
        if sealed:
            reader = identify(settings, token)
            with contextlib.closing(open_keys(settings)) as store:
                keys = open_reader_keys(store, reader, sealed, name)
        reading = Reading(table, names, sealed, keys, rows, limit)
        return reading, _batches(reading, name, stack.pop_all())


def _table(catalog: Catalog, name: str) -> Table:
    *namespace, last = name.split(".")
    table = find_table(catalog, tuple(namespace), last) if namespace else None
    if table is None:
        raise NotFound(f"There is no table {name!r}.", guidance="Check the name: schema.table.")
    return table


def _batches(reading: Reading, name: str, held: contextlib.ExitStack) -> Iterator[pa.RecordBatch]:
    with held, catalog_errors(f"reading the table {name}"):
        yield from reading.batches()
