"""Which columns of a table are read, which of them are decrypted, and what they are then."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField, StructType

from airberg.columns.encryption import ENCRYPTION_PREFIX, ColumnEncryption, decode_encryption
from airberg.columns.noted import noted_protection
from airberg.columns.types import ColumnType, stored_type
from airberg.errors import InvalidRequest, Problem
from airberg.lake.schema import iceberg_type
from airberg.plan.model import Path
from airberg.plan.names import did_you_mean


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """An encrypted column of a table.

    Attributes:
        name: Its path with dots, as the table's property has it.
        path: Names from the top down; all but the last are structs.
        field_id: Its id in the table's schema.
        encryption: What the table says of it.
        type: Its type before encryption.
    """

    name: str
    path: Path
    field_id: int
    encryption: ColumnEncryption
    type: ColumnType


def columns_to_decrypt(table: Table, names: Sequence[str]) -> tuple[EncryptedColumn, ...]:
    """The encrypted columns of these names, each once.

    Raises:
        InvalidRequest: Some are not there (`unknown-column`) or are not encrypted (`not-encrypted`).
        ConfigurationFailed: The table does not say in a way that is understood how one is encrypted.
    """
    problems: list[Problem] = []
    columns: list[EncryptedColumn] = []
    for number, name in enumerate(dict.fromkeys(names)):
        found = _find(table.schema().fields, name)
        said = table.properties.get(ENCRYPTION_PREFIX + name)
        if found is None:
            known = [*_names(table.schema().fields)]
            problems.append(_unknown(f"/decrypt/{number}", table, name, known))
        elif said is None:
            problems.append(_not_encrypted(f"/decrypt/{number}", table, name))
        else:
            encryption = decode_encryption(name, said)
            kind = stored_type(encryption.plain_type)
            columns.append(EncryptedColumn(name, *found, encryption, kind))
    if problems:
        raise InvalidRequest(problems)
    return tuple(columns)


def columns_to_read(table: Table, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns of the top level that are asked for, in the table's order; all, when none are.

    Raises:
        InvalidRequest: Some are not there (`unknown-column`).
    """
    known = [field.name for field in table.schema().fields]
    if columns is None:
        return tuple(known)
    problems = [
        _unknown(f"/columns/{number}", table, name, known)
        for number, name in enumerate(columns)
        if name not in known
    ]
    if problems:
        raise InvalidRequest(problems)
    return tuple(name for name in known if name in columns)


def plain_schema(schema: Schema, columns: Sequence[EncryptedColumn]) -> Schema:
    """The schema with the types that columns have once they are decrypted; ids of new fields are new."""
    ids = itertools.count(schema.highest_field_id + 1)
    plain = {column.field_id: column.type for column in columns}
    return Schema(*_plain(schema.fields, plain, ids), schema_id=schema.schema_id)


def _plain(
    fields: Sequence[NestedField], plain: dict[int, ColumnType], ids: Iterator[int]
) -> Iterator[NestedField]:
    for field in fields:
        kind = field.field_type
        if field.field_id in plain:
            kind = iceberg_type(plain[field.field_id], ids)
        elif isinstance(kind, StructType):
            kind = StructType(*_plain(kind.fields, plain, ids))
        yield field.model_copy(update={"field_type": kind})


def _find(fields: Sequence[NestedField], name: str) -> tuple[Path, int] | None:
    """As transformations name columns: a column of just that name, else the dotted path through structs."""
    for field in fields:
        if field.name == name:
            return (name,), field.field_id
    for field in fields:
        if name.startswith(field.name + ".") and isinstance(field.field_type, StructType):
            rest = _find(field.field_type.fields, name[len(field.name) + 1 :])
            if rest is not None:
                return (field.name, *rest[0]), rest[1]
    return None


def _names(fields: Sequence[NestedField]) -> Iterator[str]:
    for field in fields:
        yield field.name
        if isinstance(field.field_type, StructType):
            yield from (f"{field.name}.{name}" for name in _names(field.field_type.fields))


def _is_encryption(key: str) -> bool:
    return key.startswith(ENCRYPTION_PREFIX)


def _unknown(pointer: str, table: Table, name: str, known: Sequence[str]) -> Problem:
    return Problem(
        pointer,
        "unknown-column",
        f"The table {'.'.join(table.name())} has no column {name!r}.",
        did_you_mean(name, known),
    )


def _not_encrypted(pointer: str, table: Table, name: str) -> Problem:
    encrypted = sorted(key.removeprefix(ENCRYPTION_PREFIX) for key in table.properties if _is_encryption(key))
    protected = noted_protection(name, table.properties) is not None
    undone = "It is hashed or masked, which cannot be undone. " if protected else ""
    return Problem(
        pointer,
        "not-encrypted",
        f"The column {name!r} of {'.'.join(table.name())} is not encrypted.",
        undone
        + (f"Encrypted: {', '.join(encrypted)}." if encrypted else "The table has no encrypted column."),
    )
