"""`airberg keys export`: what it does, behind its arguments."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import typer

from airberg.errors import ConfigurationFailed, Conflict, NotFound
from airberg.keys.dialects import DIALECTS, Engine
from airberg.keys.export import ExportedColumn, Format, decrypting_sql, hex_lines, tink_keyset
from airberg.keys.names import unknown_version, unusable_key, unusable_version
from airberg.keys.open import open_keys
from airberg.keys.port import DataKey, Key, KeyStore, KeyVersion
from airberg.settings import Settings


@dataclass(frozen=True, slots=True)
class Export:
    """What was asked for; see the options of the command."""

    name: str
    form: Format
    table: str | None = None
    column: str | None = None
    with_key: bool = False
    skip_unreadable: bool = False
    version: int | None = None
    output: Path | None = None

    @property
    def is_sql(self) -> bool:
        """Whether it is about a column."""
        return self.form in DIALECTS

    @property
    def has_key(self) -> bool:
        """Whether key material is in it."""
        return self.with_key or not self.is_sql


def export_key(settings: Settings, asked: Export, actor: str) -> None:
    """Write an export to its file, or print it.

    Raises:
        NotFound: There is no such key, version or table.
        InvalidRequest: There is no such column, or it is not encrypted.
        Conflict: The column has another key.
        ConfigurationFailed: The key is out of use or cannot be unwrapped, the file is there already or
            cannot be written, or the arguments contradict each other.
    """
    if asked.is_sql != (asked.table is not None and asked.column is not None):
        raise ConfigurationFailed(
            f"The format {asked.form} is {'about a column' if asked.is_sql else 'not about a column'}.",
            guidance="Give --table and --column for SQL, and for SQL only.",
            code="column-not-named",
        )
    store = open_keys(settings)
    key = store.describe(asked.name)
    versions: Sequence[DataKey | KeyVersion] = _chosen(key, asked.version)
    column = _column(settings, asked) if asked.is_sql else None
    if asked.has_key:
        versions = _unwrapped(store, asked)
    text = _text(asked, column, versions)
    with _opened(asked.output) as file:
        if asked.has_key:  # first: what nobody knows of must not be written
            numbers = [v.version for v in versions]
            store.record(actor, "export", asked.name, numbers, _detail(asked))
        if file is None:
            typer.echo(text, nl=False)
        else:
            file.write(text)
    if asked.output is not None:
        typer.echo(f"written: {asked.output}")


def _chosen(key: Key, number: int | None) -> list[KeyVersion]:
    """The versions to export: all that decrypt, or the one that was named."""
    if number is None:
        found = [v for v in key.versions if v.decrypts]
        if not found:
            raise unusable_key(key)
        return found
    version = next((v for v in key.versions if v.version == number), None)
    if version is None:
        raise unknown_version(key, number)
    if not version.decrypts:
        raise unusable_version(key, version)
    return [version]


def _unwrapped(store: KeyStore, asked: Export) -> list[DataKey]:
    found = [k for k in store.versions(asked.name) if asked.version in (None, k.version)]
    if not found:  # it was put out of use at this moment
        raise unusable_key(store.describe(asked.name))
    return found


def _column(settings: Settings, asked: Export) -> ExportedColumn:
    """How the table says that the column is encrypted."""
    from airberg.lake.catalog import open_catalog
    from airberg.lake.tables import find_table
    from airberg.reader.columns import columns_to_decrypt

    *namespace, name = (asked.table or "").split(".")
    table = find_table(open_catalog(settings), tuple(namespace), name) if namespace else None
    if table is None:
        raise NotFound(f"There is no table {asked.table!r}.", guidance="Check the name: schema.table.")
    [found] = columns_to_decrypt(table, [asked.column or ""])
    if found.encryption.key != asked.name:
        raise Conflict(
            f"The column {found.name!r} is encrypted with the key {found.encryption.key!r}.",
            guidance="Export that one.",
            code="other-key",
        )
    return ExportedColumn((*namespace, name), found.path, found.encryption.aad, found.encryption.type)


def _text(asked: Export, column: ExportedColumn | None, versions: Sequence[DataKey | KeyVersion]) -> str:
    if column is not None:
        return decrypting_sql(
            cast(Engine, asked.form),
            column,
            asked.name,
            versions,
            with_key=asked.with_key,
            skip_unreadable=asked.skip_unreadable,
        )
    keys = [k for k in versions if isinstance(k, DataKey)]
    if asked.form == "tink":
        return tink_keyset(keys)
    return hex_lines(keys) if asked.version is None else f"{keys[0].raw.hex()}\n"


def _detail(asked: Export) -> str:
    about = f" of {asked.table}: {asked.column}" if asked.is_sql else ""
    return f"{asked.form}{about}" + (f", to {asked.output}" if asked.output else "")


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO | None]:
    """A new file that only this user can read. It goes again when it could not be completed.

    Raises:
        ConfigurationFailed: There is a file of that name, or the folder is not writable.
    """
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        raise ConfigurationFailed(
            f"The file {path} cannot be made ({e.strerror}).",
            guidance="Name a file that is not there yet, in a folder that is.",
            code="output-not-writable",
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
    except BaseException:
        path.unlink()
        raise
