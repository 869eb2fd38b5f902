"""How a column of a table is encrypted, as the table itself says it: a property for each such column."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Final, get_args

import msgspec

from airberg.columns.types import JSON, ColumnType, Decimal, List, Primitive, PrimitiveName, Struct
from airberg.errors import ConfigurationFailed
from airberg.plan.model import EncryptionMode, EncryptRule

ENCRYPTION_PREFIX: Final = "airberg.encryption."
"""What the names of the properties begin with; the dotted path of the column follows."""
ALGORITHM: Final = "AES256-GCM/tink"

_DECIMAL = re.compile(r"decimal\(([0-9]+),([0-9]+)\)")
_PRIMITIVES: Final = frozenset(get_args(PrimitiveName))


class ColumnEncryption(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of such a property, as JSON.

    Attributes:
        key: Name of the key.
        mode: Whether equal values are equal.
        alg: The algorithm and the format of the bytes.
        aad: Associated data.
        type: The type before encryption, as text.
        schema: The same in full where the text does not say everything: of objects and lists.
        version: The version of the key, where equal values have to be equal. Others change it when the key
            is rotated; each value says which one it has.
    """

    key: str
    mode: EncryptionMode
    alg: str
    aad: str
    type: str
    schema: ColumnType | None = None
    version: int | None = None

    @classmethod
    def of(cls, rule: EncryptRule, plain: ColumnType, version: int | None = None) -> ColumnEncryption:
        """What a table says of a column that is encrypted by a rule."""
        nested = plain if isinstance(plain, Struct | List) else None
        return cls(
            key=rule.key_name,
            mode=rule.mode,
            alg=ALGORITHM,
            aad=rule.aad,
            type=str(plain),
            schema=nested,
            version=version if rule.mode == "deterministic" else None,
        )

    @property
    def plain_type(self) -> ColumnType:
        """The type before encryption.

        Objects and lists of tables that an earlier version wrote are JSON text, until the next run of
        their job.

        Raises:
            ConfigurationFailed: There is no such type.
        """
        return self.schema if self.schema is not None else type_of_text(self.type)


def type_of_text(text: str) -> ColumnType:
    """The type before encryption or hashing, from its text; of objects and lists that is JSON.

    Raises:
        ConfigurationFailed: There is no such type.
    """
    if text in _PRIMITIVES:
        return Primitive(text)  # type: ignore[arg-type]  # it is one of them
    if match := _DECIMAL.fullmatch(text):
        return Decimal(int(match[1]), int(match[2]))
    if text == "json" or text.startswith(("struct<", "list<")):
        return JSON
    raise ConfigurationFailed(
        f"A protected column had the type {text[:60]!r}, which this version does not know.",
        guidance="Use the version of Airberg that wrote the table.",
        code="unknown-encryption",
    )


def encode_encryption(encryption: ColumnEncryption) -> str:
    """The text of a property."""
    return json.dumps(msgspec.to_builtins(encryption))


def decode_encryption(column: str, text: str) -> ColumnEncryption:
    """What the property of a column says.

    Args:
        column: Dotted path of the column, for the message.
        text: Value of the property.

    Raises:
        ConfigurationFailed: It was not written by Airberg, or by a later version.
    """
    try:
        found = msgspec.json.decode(text, type=ColumnEncryption)
    except msgspec.DecodeError:
        found = None
    if found is None or found.alg != ALGORITHM:
        raise ConfigurationFailed(
            f"The table's property {ENCRYPTION_PREFIX}{column} does not say how the column is encrypted.",
            guidance="Run the table's job, which writes it again, or use the version that wrote it.",
            code="unknown-encryption",
        )
    return found


def random_columns(properties: Mapping[str, str]) -> tuple[str, ...]:
    """Dotted paths of the columns whose ciphertexts are random, as far as a table's properties say so."""
    found = []
    for name, text in properties.items():
        if name.startswith(ENCRYPTION_PREFIX):
            column = name.removeprefix(ENCRYPTION_PREFIX)
            with contextlib.suppress(ConfigurationFailed):
                if decode_encryption(column, text).mode == "random":
                    found.append(column)
    return tuple(found)
