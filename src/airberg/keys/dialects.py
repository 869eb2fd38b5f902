"""The SQL of engines: names, text and casts, and the expression that decrypts a value of an encrypted column.

Nothing from outside gets into a statement as it is. Names are quoted in the engine's way. Text that is more
than letters, digits and `._- ` is written as hex: how a backslash in text is read depends on settings in
Spark, and clients of most engines replace `${...}`, `:name` or `&name` inside of text too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Engine = Literal["spark", "databricks", "bigquery", "clickhouse", "snowflake", "duckdb"]

_PLAIN_TEXT = re.compile(r"[\w.\- ]*")
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")
SECRET_SCOPE = "airberg"  # noqa: S105 - no secret
"""The scope of Databricks secrets that holds the keys."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one engine says what a decrypting query needs.

    Attributes:
        name: Quotes a name.
        member: What stands between a struct and its field.
        key_id: The key id in the head of a ciphertext, as hex; `{c}` is the column.
        lower: Whether that hex is lower case.
        placeholder: What stands for a key: of the key's name and version.
        key: A key that stands in the text: of its hex. BigQuery takes a keyset instead.
        aad: Associated data.
        decrypt: The plaintext as bytes; `{c}`, `{key}` and `{aad}` are replaced.
        text: The plaintext as text; `{bytes}`, which is `decrypt`, is replaced too.
        null_first: The engine cannot decrypt null; it has to be kept from it.
        cast: A cast of a text; `{value}` and `{type}` are replaced.
        types: Its name for the type of a column. Types that are not there stay text.
        decimal: Its name for a decimal of some precision and scale.
    """

    name: Callable[[str], str]
    key_id: str
    placeholder: Callable[[str, int], str]
    key: Callable[[str], str]
    aad: Callable[[str], str]
    decrypt: str
    text: str
    types: Mapping[str, str]
    decimal: Callable[[int, int], str]
    member: str = "."
    lower: bool = False
    null_first: bool = False
    cast: str = "CAST({value} AS {type})"

    def column(self, path: tuple[str, ...]) -> str:
        """A column, or a field inside of structs of the table with the alias `t`."""
        first, *fields = map(self.name, path)
        return self.member.join([f"t.{first}", *fields]) if fields else first

    def decrypted(self, column: str, key: str, aad: str, type_name: str) -> str:
        """The plaintext of a column in the type that it had, or as text where the engine has no such type."""
        parts = {"c": column, "key": key, "aad": self.aad(aad)}
        plaintext = self.decrypt.format(**parts)
        if type_name == "binary":
            return plaintext
        value = self.text.format(bytes=plaintext, **parts)
        target = self.type_for(type_name)
        return self.cast.format(value=value, type=target) if target else value

    def type_for(self, type_name: str) -> str | None:
        """The engine's name for a type of a column; None when it stays text."""
        found = _DECIMAL.fullmatch(type_name)
        return self.decimal(int(found[1]), int(found[2])) if found else self.types.get(type_name)

    def id_text(self, key_id: int) -> str:
        """A key id as the engine writes it."""
        return f"'{key_id:08x}'" if self.lower else f"'{key_id:08X}'"


# ---- names and text ----------------------------------------------------------------------------------------


def _doubling(quote: str) -> Callable[[str], str]:
    """Quotes names as the SQL standard does: a quote inside is there twice."""
    return lambda name: quote + name.replace(quote, quote * 2) + quote


def _escaping(name: str) -> str:
    """Quotes a name for ClickHouse, where a backslash escapes."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _google_escapes(text: str) -> str:
    """Text inside of any quotes of GoogleSQL: what is more than plain is written as its code point."""
    return "".join(c if _PLAIN_TEXT.fullmatch(c) else f"\\U{ord(c):08x}" for c in text)


def _text_or_hex(plain: str, as_hex: str) -> Callable[[str], str]:
    """Associated data, readable where that is safe."""
    return lambda aad: (
        plain.format(aad) if _PLAIN_TEXT.fullmatch(aad) else as_hex.format(aad.encode().hex().upper())
    )


# ---- engines -----------------------------------------------------------------------------------------------

_SPARK = Dialect(
    name=_doubling("`"),
    key_id="hex(substring({c}, 2, 4))",
    placeholder=lambda _, version: f"unhex(:key_v{version})",
    key="unhex('{}')".format,
    aad=_text_or_hex("CAST('{}' AS BINARY)", "X'{}'"),
    decrypt="aes_decrypt(substring({c}, 6), {key}, 'GCM', 'DEFAULT', {aad})",
    text="CAST({bytes} AS STRING)",
    types=MappingProxyType(
        {
            "boolean": "BOOLEAN",
            "byte": "INT",
            "short": "INT",
            "int": "INT",
            "long": "BIGINT",
            "float": "FLOAT",
            "double": "DOUBLE",
            "date": "DATE",
            "timestamp": "TIMESTAMP_NTZ",
            "timestamptz": "TIMESTAMP",
        }
    ),
    decimal="DECIMAL({},{})".format,
)

_DATABRICKS = Dialect(
    name=_SPARK.name,
    key_id=_SPARK.key_id,
    placeholder=lambda name, version: f"unhex(secret('{SECRET_SCOPE}', '{name}-v{version}'))",
    key=_SPARK.key,
    aad=_SPARK.aad,
    decrypt=_SPARK.decrypt,
    text=_SPARK.text,
    types=_SPARK.types,
    decimal=_SPARK.decimal,
)

_BIGQUERY = Dialect(
    name=lambda name: f"`{_google_escapes(name)}`",
    key_id="TO_HEX(SUBSTR({c}, 2, 4))",
    lower=True,
    placeholder=lambda _, __: "KEYS.KEYSET_FROM_JSON(@keyset)",
    key="KEYS.KEYSET_FROM_JSON('{}')".format,
    aad=lambda aad: f"'{_google_escapes(aad)}'",
    decrypt="AEAD.DECRYPT_BYTES({key}, {c}, CAST({aad} AS BYTES))",
    text="AEAD.DECRYPT_STRING({key}, {c}, {aad})",
    types=MappingProxyType(
        {
            "boolean": "BOOL",
            "byte": "INT64",
            "short": "INT64",
            "int": "INT64",
            "long": "INT64",
            "float": "FLOAT64",
            "double": "FLOAT64",
            "date": "DATE",
            "time": "TIME",
            "timestamp": "DATETIME",
            "timestamptz": "TIMESTAMP",
        }
    ),
    # NUMERIC has 29 digits before the point and 9 behind it.
    decimal=lambda precision, scale: "NUMERIC" if scale <= 9 and precision - scale <= 29 else "BIGNUMERIC",
)

_CLICKHOUSE = Dialect(
    name=_escaping,
    key_id="hex(substring({c}, 2, 4))",
    placeholder=lambda _, version: f"unhex({{key_v{version}:String}})",
    key="unhex('{}')".format,
    aad=_text_or_hex("'{}'", "unhex('{}')"),
    decrypt="decrypt('aes-256-gcm', substring({c}, 18), {key}, substring({c}, 6, 12), {aad})",
    text="{bytes}",
    null_first=True,
    cast="CAST({value} AS Nullable({type}))",
    types=MappingProxyType(
        {
            "boolean": "Bool",
            "byte": "Int32",
            "short": "Int32",
            "int": "Int32",
            "long": "Int64",
            "float": "Float32",
            "double": "Float64",
            "date": "Date32",
            "timestamp": "DateTime64(6)",
            "timestamptz": "DateTime64(6, 'UTC')",
        }
    ),
    decimal="Decimal({}, {})".format,
)

_SNOWFLAKE = Dialect(
    name=_doubling('"'),
    member=":",
    key_id="HEX_ENCODE(SUBSTR({c}, 2, 4))",
    placeholder=lambda _, version: f"TO_BINARY($key_v{version}, 'HEX')",
    key="TO_BINARY('{}', 'HEX')".format,
    aad=_text_or_hex("TO_BINARY('{}', 'UTF-8')", "TO_BINARY('{}', 'HEX')"),
    decrypt="DECRYPT_RAW(SUBSTR({c}, 18, LENGTH({c}) - 33), {key}, SUBSTR({c}, 6, 12), {aad}, "
    "'AES-GCM', SUBSTR({c}, LENGTH({c}) - 15))",
    text="TO_VARCHAR({bytes}, 'UTF-8')",
    types=MappingProxyType(
        {
            "boolean": "BOOLEAN",
            "byte": "INTEGER",
            "short": "INTEGER",
            "int": "INTEGER",
            "long": "BIGINT",
            "float": "FLOAT",
            "double": "FLOAT",
            "date": "DATE",
            "time": "TIME(6)",
            "timestamp": "TIMESTAMP_NTZ(6)",
            "timestamptz": "TIMESTAMP_LTZ(6)",
        }
    ),
    decimal="NUMBER({},{})".format,
)

_DUCKDB = Dialect(
    name=_doubling('"'),
    key_id="hex({c}[2:5])",
    placeholder=lambda _, __: "",  # the keys are with the function, not in the statement
    key=lambda _: "",
    aad=_text_or_hex("encode('{}')", "unhex('{}')"),
    decrypt="airberg_decrypt({c}, {aad})",
    text="decode({bytes})",
    types=MappingProxyType(
        {
            "boolean": "BOOLEAN",
            "byte": "INTEGER",
            "short": "INTEGER",
            "int": "INTEGER",
            "long": "BIGINT",
            "float": "FLOAT",
            "double": "DOUBLE",
            "date": "DATE",
            "time": "TIME",
            "timestamp": "TIMESTAMP",
            "timestamptz": "TIMESTAMPTZ",
        }
    ),
    decimal="DECIMAL({},{})".format,
)

DIALECTS: Mapping[Engine, Dialect] = MappingProxyType(
    {
        "spark": _SPARK,
        "databricks": _DATABRICKS,
        "bigquery": _BIGQUERY,
        "clickhouse": _CLICKHOUSE,
        "snowflake": _SNOWFLAKE,
        "duckdb": _DUCKDB,
    }
)
