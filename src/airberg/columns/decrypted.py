"""From the plaintexts of an encrypted column back to the column that it would be without encryption.

The inverse of what `airberg.keys.cipher.canonical_text` writes: each type has its own text.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import pyarrow as pa

from airberg.columns.arrow import arrow_type
from airberg.columns.convert import CipherFor, untouched
from airberg.columns.json_text import parse_exact
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    SHORT,
    STRING,
    ColumnType,
    Decimal,
    Json,
    List,
    Struct,
)
from airberg.columns.vectors import ChangeLog, vector
from airberg.errors import ConfigurationFailed

_CAST_BY_ARROW: Final = frozenset({BOOLEAN, BYTE, SHORT, INT, LONG, FLOAT, DOUBLE})


def original_array(kind: ColumnType, plaintexts: pa.Array, column: str) -> pa.Array:
    """The values of a column as they were before encryption.

    Args:
        kind: The type that the column had.
        plaintexts: Binary; null where the column was null.
        column: Name of the column, for messages.

    Raises:
        ConfigurationFailed: A plaintext is not one of that type.
    """
    if kind == BINARY:
        return plaintexts
    try:
        texts = plaintexts.cast(pa.string())
        if kind == STRING or isinstance(kind, Json):
            return texts
        if kind in _CAST_BY_ARROW or isinstance(kind, Decimal):
            return texts.cast(arrow_type(kind))
        values: list[Any] = texts.to_pylist()
        if isinstance(kind, Struct | List):
            values = [text if text is None else parse_exact(text.encode()) for text in values]
    except (pa.ArrowException, ValueError):
        raise _of_another_type(kind, column) from None
    log = ChangeLog()
    made = vector(untouched(column, kind), _NOTHING_ENCRYPTED).array(
        values, range(len(values)), log, exact=True
    )
    # What did not fit inside an object or a list would be null without encryption, too.
    if log.count and not isinstance(kind, Struct | List):
        raise _of_another_type(kind, column)
    return made


def _nothing_encrypted(rule: object) -> NoReturn:
    raise AssertionError(f"a plain column has no cipher: {rule}")


_NOTHING_ENCRYPTED: Final[CipherFor] = _nothing_encrypted


def _of_another_type(kind: ColumnType, column: str) -> ConfigurationFailed:
    # The value itself is a secret.
    return ConfigurationFailed(
        f"A value of the encrypted column {column!r} is no {kind}, which the table says it was.",
        guidance="Read the column without `decrypt`, and see with which key and type its job encrypts it.",
        code="decrypted-type",
    )
