"""How the columns of a table are protected, as the table itself says it: a property for each such column.

`airberg.encryption.<column>`, `airberg.hash.<column>` or `airberg.mask.<column>`, of the dotted path of the
column in the table; the value is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

import msgspec

from airberg.columns.encryption import (
    ENCRYPTION_PREFIX,
    ColumnEncryption,
    decode_encryption,
    encode_encryption,
)
from airberg.columns.types import ColumnType
from airberg.errors import ConfigurationFailed
from airberg.plan.model import EncryptRule, HashRule, MaskRule, ProtectionRule

HASH_PREFIX: Final = "airberg.hash."
MASK_PREFIX: Final = "airberg.mask."
PREFIXES: Final = (ENCRYPTION_PREFIX, HASH_PREFIX, MASK_PREFIX)
"""What the names of the properties begin with."""
HASH_ALGORITHM: Final = "HMAC-SHA256/hex"


class ColumnHashing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a table says of a hashed column.

    Attributes:
        key: Name of the key.
        alg: The algorithm and the form of the hashes.
        type: The type before hashing, as text.
        version: The version of the key.
    """

    key: str
    alg: str = HASH_ALGORITHM
    type: str
    version: int | None = None


class ColumnMask(msgspec.Struct, frozen=True, kw_only=True):
    """What a table says of a masked column: the rule, and the type before masking, as text."""

    keep_last: int
    mask_char: str
    type: str


NotedProtection: TypeAlias = ColumnEncryption | ColumnHashing | ColumnMask


def protection_property(
    column: str, rule: ProtectionRule, plain: ColumnType, versions: Mapping[str, int]
) -> tuple[str, str]:
    """Name and value of the property of a column.

    Args:
        column: Dotted path of the column in the table.
        rule: How it is protected.
        plain: Its type before that.
        versions: Which version of each key its deterministic and hashed columns have.
    """
    match rule:
        case EncryptRule():
            encryption = ColumnEncryption.of(rule, plain, versions.get(rule.key_name))
            return ENCRYPTION_PREFIX + column, encode_encryption(encryption)
        case HashRule():
            version = versions.get(rule.key_name)
            hashing = {"key": rule.key_name, "alg": HASH_ALGORITHM, "type": str(plain)}
            return HASH_PREFIX + column, json.dumps(hashing | ({"version": version} if version else {}))
        case MaskRule():
            mask = ColumnMask(keep_last=rule.keep_last, mask_char=rule.mask_char, type=str(plain))
            return MASK_PREFIX + column, json.dumps(msgspec.to_builtins(mask))


def noted_protection(column: str, properties: Mapping[str, str]) -> NotedProtection | None:
    """What a table says of a column; None when it says nothing.

    Args:
        column: Dotted path of the column in the table.
        properties: The table's.

    Raises:
        ConfigurationFailed: It was not written by Airberg, or by a later version (`unknown-encryption`,
            `unknown-protection`).
    """
    if (text := properties.get(ENCRYPTION_PREFIX + column)) is not None:
        return decode_encryption(column, text)
    try:
        if (text := properties.get(HASH_PREFIX + column)) is not None:
            hashing = msgspec.json.decode(text, type=ColumnHashing)
            return hashing if hashing.alg == HASH_ALGORITHM else _unknown(HASH_PREFIX + column)
        if (text := properties.get(MASK_PREFIX + column)) is not None:
            return msgspec.json.decode(text, type=ColumnMask)
    except msgspec.DecodeError:
        _unknown(f"airberg.*.{column}")
    return None


def noted_columns(properties: Mapping[str, str]) -> dict[str, NotedProtection]:
    """What a table says of all its columns, by their dotted paths, in their order.

    Raises:
        ConfigurationFailed: As `noted_protection`.
    """
    names = sorted({column for name in properties if (column := protected_column(name)) is not None})
    return {name: noted for name in names if (noted := noted_protection(name, properties)) is not None}


def protected_column(name: str) -> str | None:
    """The dotted path of the column that a property is about; None when it is about something else."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), None)
    return None if prefix is None else name.removeprefix(prefix)


def _unknown(name: str) -> NoReturn:
    raise ConfigurationFailed(
        f"The table's property {name} does not say how the column is protected.",
        guidance="Write to another table, or use the version of Airberg that wrote this one.",
        code="unknown-protection",
    )
