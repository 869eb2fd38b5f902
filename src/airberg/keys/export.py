"""Keys and decrypting SQL for those who read encrypted columns elsewhere.

Hex and Tink keysets are key material. SQL has placeholders for the keys, or on demand the keys themselves.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from airberg.keys.dialects import DIALECTS, SECRET_SCOPE, Dialect, Engine
from airberg.keys.port import DataKey

Format = Literal["hex", "tink", Engine]
"""What a key can be exported as."""
ENGINES: tuple[Engine, ...] = get_args(Engine)

_TINK_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmKey"
_AES_GCM_KEY = b"\x1a\x20"
"""Head of Tink's protobuf message `AesGcmKey`: field 3 (`key_value`), 32 bytes."""

_SCRIPT = '''\
"""Decrypts a column in DuckDB, which has no function for it. Needs duckdb, numpy and cryptography.

`add_to(connection)` adds the function `airberg_decrypt`; `SQL` uses it.
"""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS = {{  # key id: the key, in hex
{keys}
}}
CIPHERS = {{bytes.fromhex(key_id): AESGCM(bytes.fromhex(key)) for key_id, key in KEYS.items()}}
SQL = {sql}


def airberg_decrypt(value, aad):
    return CIPHERS[bytes(value[1:5])].decrypt(bytes(value[5:17]), bytes(value[17:]), bytes(aad))


def add_to(connection):
    connection.create_function("airberg_decrypt", airberg_decrypt, ["BLOB", "BLOB"], "BLOB")
'''


class NumberedKey(Protocol):
    """A version of a key, unwrapped or not: what a query has to know of it."""

    @property
    def version(self) -> int:
        """Its number."""
        ...

    @property
    def key_id(self) -> int:
        """What its ciphertexts begin with."""
        ...


@dataclass(frozen=True, slots=True)
class ExportedColumn:
    """An encrypted column of a table.

    Attributes:
        table: Namespace and name of the table.
        path: Its name; names of the structs around it come first.
        aad: Its associated data.
        type: Its type before encryption, as the table's property has it.
    """

    table: tuple[str, ...]
    path: tuple[str, ...]
    aad: str
    type: str


# ---- key material ------------------------------------------------------------------------------------------


def hex_lines(keys: Sequence[DataKey]) -> str:
    """A line for each version: its number, its key id, the key; the last two in hex."""
    return "".join(f"{key.version} {key.key_id:08x} {key.raw.hex()}\n" for key in keys)


def tink_keyset(keys: Sequence[DataKey]) -> str:
    """A keyset of Tink as JSON, with all versions; BigQuery takes it too. The last one is the primary key."""
    entries = [
        {
            "keyData": {
                "typeUrl": _TINK_TYPE,
                "value": base64.b64encode(_AES_GCM_KEY + key.raw).decode(),
                "keyMaterialType": "SYMMETRIC",
            },
            "status": "ENABLED",
            "keyId": key.key_id,
            "outputPrefixType": "TINK",
        }
        for key in keys
    ]
    return json.dumps({"primaryKeyId": keys[-1].key_id, "key": entries}) + "\n"


# ---- SQL ---------------------------------------------------------------------------------------------------


def decrypting_sql(
    engine: Engine,
    column: ExportedColumn,
    key_name: str,
    versions: Sequence[NumberedKey],
    *,
    with_key: bool = False,
    skip_unreadable: bool = False,
) -> str:
    """A query that decrypts a column; for DuckDB a Python module with the query and the function it needs.

    A value says by its key id which version encrypted it. A value of a version that is not among those given
    ends the query with an error: silently less would be worse, when the key was rotated after the export.

    Args:
        engine: Whose SQL.
        column: Which column.
        key_name: Name of its key.
        versions: Those that may decrypt, oldest first, at least one.
        with_key: Write the keys into the text; `versions` must be data keys.
        skip_unreadable: Read values of other versions as null.

    Raises:
        ValueError: There are no versions, or keys are to be shown and are not there.
    """
    if not versions:
        raise ValueError("there is no version of the key to decrypt with")
    keys = [v for v in versions if isinstance(v, DataKey)] if with_key else []
    if with_key and len(keys) != len(versions):
        raise ValueError("the keys are to be shown, but they are not there")
    dialect = DIALECTS[engine]
    name = dialect.column(column.path)
    key = _key(engine, dialect, name, key_name, versions, keys)
    value = dialect.decrypted(name, key, column.aad, column.type)
    ids = ", ".join(dialect.id_text(v.key_id) for v in versions)
    if skip_unreadable:
        value = f"CASE WHEN {dialect.key_id.format(c=name)} IN ({ids}) THEN {value} END"
    elif dialect.null_first:
        value = f"CASE WHEN {name} IS NOT NULL THEN {value} END"
    table = ".".join(map(dialect.name, column.table)) + (" AS t" if len(column.path) > 1 else "")
    query = f"SELECT {value} AS {dialect.name(column.path[-1])}\nFROM {table}\n"
    if engine == "duckdb":
        return _script(query, versions, keys)
    return _head(engine, column, key_name, versions, with_key=with_key) + query


def _key(
    engine: Engine,
    dialect: Dialect,
    column: str,
    key_name: str,
    versions: Sequence[NumberedKey],
    keys: Sequence[DataKey],
) -> str:
    """The key of a value, chosen by its key id; the newest version for ids that are not known.

    With that one they cannot be decrypted, which the engine says.
    """
    if engine == "bigquery":  # a keyset has all versions
        return dialect.key(tink_keyset(keys).strip()) if keys else dialect.placeholder(key_name, 0)
    shown = (
        [dialect.key(k.raw.hex()) for k in keys]
        if keys
        else [dialect.placeholder(key_name, v.version) for v in versions]
    )
    if len(shown) == 1:
        return shown[0]
    pairs = zip(versions[:-1], shown[:-1], strict=True)
    choices = " ".join(f"WHEN {dialect.id_text(v.key_id)} THEN {key}" for v, key in pairs)
    return f"CASE {dialect.key_id.format(c=column)} {choices} ELSE {shown[-1]} END"


_HOW_TO_GIVE = {
    "spark": ("Parameters of spark.sql(query, args={{...}}): the keys in hex.", "key_v{version}"),
    "databricks": (f"Secrets in the scope {SECRET_SCOPE}: the keys in hex.", "{key}-v{version}"),
    "bigquery": ("Query parameter: what `airberg keys export {key} --format tink` prints.", "keyset"),
    "clickhouse": ("Query parameters (--param_key_v1=...): the keys in hex.", "key_v{version}"),
    "snowflake": ("Variables (SET key_v1 = '...';): the keys in hex.", "key_v{version}"),
}
"""What the placeholders of an engine are, and the name of each."""


def _head(
    engine: Engine,
    column: ExportedColumn,
    key_name: str,
    versions: Sequence[NumberedKey],
    *,
    with_key: bool,
) -> str:
    """Comments: names of keys only, which cannot hold anything that would end a comment."""
    numbers = ", ".join(str(v.version) for v in versions)
    lines = [f"Key {key_name}, version{'s' if len(versions) > 1 else ''} {numbers}."]
    if with_key:
        lines.append("This text holds the key: keep it where secrets belong.")
    else:
        what, name = _HOW_TO_GIVE[engine]
        names = dict.fromkeys(name.format(key=key_name, version=v.version) for v in versions)
        lines.append(f"{what.format(key=key_name)} Here: {', '.join(names)}.")
    if engine in ("spark", "databricks") and any("${" in name for name in (*column.table, *column.path)):
        lines.append("A name has a dollar sign and a brace: SET spark.sql.variable.substitute = false first.")
    return "".join(f"-- {line}\n" for line in lines)


def _script(query: str, versions: Sequence[NumberedKey], keys: Sequence[DataKey]) -> str:
    """The module for DuckDB; `repr` makes Python text of whatever the query holds."""
    shown = [repr(k.raw.hex()) for k in keys] or [f'os.environ["AIRBERG_KEY_V{v.version}"]' for v in versions]
    lines = [f'    "{v.key_id:08x}": {key},' for v, key in zip(versions, shown, strict=True)]
    return _SCRIPT.format(keys="\n".join(lines), sql=repr(query))
