"""Exported keys and SQL: read back by parsers of each dialect and by DuckDB."""

from __future__ import annotations

import base64
import datetime as dt
import json
import types
from decimal import Decimal
from typing import Any

import duckdb
import pytest
import sqlglot
from cryptography.exceptions import InvalidTag
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from airberg.keys.cipher import ColumnCipher, canonical_text, decrypt_value
from airberg.keys.dialects import DIALECTS
from airberg.keys.export import ENGINES, Engine, ExportedColumn, decrypting_sql, hex_lines, tink_keyset
from airberg.keys.port import DataKey

KEYS = [DataKey("crm", n, 0x1A2B3C00 + n, bytes([n]) * 32) for n in (1, 2, 3)]
EMAIL = ExportedColumn(("shop", "users"), ("email",), "shop.users.email", "string")
SQL_ENGINES = [e for e in ENGINES if e != "duckdb"]

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "it's",
        'a"b',
        "a`b",
        "a\\",
        "\\`",
        "\\'",
        "${env:HOME}",
        ":key_v1",
        "{key_v1:String}",
        "--",
        "/*",
        "&x",
        "t",
    ]
)
associated = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | names
columns = st.builds(
    ExportedColumn,
    st.tuples(names, names),
    st.lists(names, min_size=1, max_size=3).map(tuple),
    associated,
    st.sampled_from(["string", "decimal(12,2)", "date", "timestamptz", "binary", "struct<a: string>"]),
)


def query_of(engine: Engine, text: str) -> str:
    """The SQL of an export: for DuckDB that of the module."""
    return str(module_of(text).SQL) if engine == "duckdb" else text


def module_of(text: str) -> Any:
    """The Python module that a text is."""
    module = types.ModuleType("exported")
    exec(text, module.__dict__)  # noqa: S102 - what is tested
    return module


@pytest.fixture(autouse=True)
def _keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the module for DuckDB looks for keys."""
    for key in KEYS:
        monkeypatch.setenv(f"AIRBERG_KEY_V{key.version}", key.raw.hex())


def names_in(tree: exp.Expression) -> list[str]:
    """All names that stand in quotes, whatever part they have."""
    fields = [str(part.this) for part in tree.find_all(exp.JSONPathKey)]
    return [i.name for i in tree.find_all(exp.Identifier) if i.args.get("quoted")] + fields


def texts_in(tree: exp.Expression) -> set[bytes]:
    """All texts and bytes that stand in a statement."""
    literals = {n.name.encode() for n in tree.find_all(exp.Literal) if n.is_string}
    as_hex = {bytes.fromhex(n.name) for n in tree.find_all(exp.HexString)}
    return literals | as_hex | {bytes.fromhex(x.decode()) for x in literals if _is_hex(x)}


def _is_hex(text: bytes) -> bool:
    try:
        bytes.fromhex(text.decode())
    except (ValueError, UnicodeDecodeError):
        return False
    return True


# ---- key material ------------------------------------------------------------------------------------------


def test_hex_names_version_id_and_key() -> None:
    """A line each, for `cut` and `awk`."""
    assert hex_lines(KEYS[:2]) == f"1 1a2b3c01 {'01' * 32}\n2 1a2b3c02 {'02' * 32}\n"


def test_a_keyset_has_all_versions_and_the_newest_is_primary() -> None:
    """As Tink writes it: type, protobuf message with the key, id, prefix."""
    keyset = json.loads(tink_keyset(KEYS))
    assert keyset["primaryKeyId"] == KEYS[2].key_id
    assert [e["keyId"] for e in keyset["key"]] == [k.key_id for k in KEYS]
    for entry, key in zip(keyset["key"], KEYS, strict=True):
        data = entry["keyData"]
        assert (entry["status"], entry["outputPrefixType"]) == ("ENABLED", "TINK")
        assert (data["typeUrl"], data["keyMaterialType"]) == (
            "type.googleapis.com/google.crypto.tink.AesGcmKey",
            "SYMMETRIC",
        )
        message = base64.b64decode(data["value"])
        assert message[:2] == bytes([3 << 3 | 2, 32])  # protobuf: field 3, length-delimited, 32 bytes
        assert message[2:] == key.raw


# ---- SQL of all engines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@given(column=columns, several=st.booleans(), skip=st.booleans(), with_key=st.booleans())
@example(ExportedColumn(("s", "t"), ("x' OR 1=1 --",), "\\' OR 1=1 --", "string"), False, False, False)
@settings(max_examples=60, deadline=None)
def test_names_and_texts_arrive_as_they_are(
    engine: Engine, column: ExportedColumn, several: bool, skip: bool, with_key: bool
) -> None:
    """A parser of the dialect finds one query, the names and the associated data, and no other names."""
    # BigQuery takes a dot inside of quotes for one between names; its tables and columns cannot have any.
    assume(engine != "bigquery" or not any("." in name for name in (*column.table, *column.path)))
    versions = KEYS if several else KEYS[:1]
    text = decrypting_sql(engine, column, "crm", versions, with_key=with_key, skip_unreadable=skip)
    [tree] = sqlglot.parse(query_of(engine, text), read=engine)
    assert isinstance(tree, exp.Select)
    [shown] = tree.expressions
    assert shown.alias == column.path[-1]
    assert set(names_in(tree)) == {*column.path, *column.table}
    assert column.aad.encode() in texts_in(tree)
    found = tree.find(exp.Table)
    assert found is not None
    assert (found.db, found.name) == column.table
    secrets = [k.raw.hex() for k in versions] + [base64.b64encode(k.raw).decode()[8:20] for k in versions]
    assert any(s in text for s in secrets) == with_key


@pytest.mark.parametrize("engine", SQL_ENGINES)
def test_the_version_is_chosen_by_the_key_id(engine: Engine) -> None:
    """With several versions the id in the head decides; ids that are not known get the newest, and fail."""
    tree = sqlglot.parse_one(decrypting_sql(engine, EMAIL, "crm", KEYS, with_key=True), read=engine)
    if engine == "bigquery":
        assert "TO_HEX" not in tree.sql("bigquery")
        [keyset] = [t for t in texts_in(tree) if t.startswith(b"{")]
        assert [k["keyId"] for k in json.loads(keyset)["key"]] == [k.key_id for k in KEYS]
        return
    choice = next(c for c in tree.find_all(exp.Case) if c.args.get("this"))
    ids = [int(branch.this.name, 16) for branch in choice.args["ifs"]]
    assert ids == [k.key_id for k in KEYS[:-1]]
    keys = [*(branch.args["true"] for branch in choice.args["ifs"]), choice.args["default"]]
    assert [k.raw in texts_in(expression) for k, expression in zip(KEYS, keys, strict=True)] == [True] * 3


PLACEHOLDERS: dict[Engine, list[str]] = {
    "spark": ["unhex(:key_v2)", "unhex(:key_v3)"],
    "databricks": ["unhex(secret('airberg', 'crm-v2'))", "unhex(secret('airberg', 'crm-v3'))"],
    "bigquery": ["KEYS.KEYSET_FROM_JSON(@keyset)"],
    "clickhouse": ["unhex({key_v2:String})", "unhex({key_v3:String})"],
    "snowflake": ["TO_BINARY($key_v2, 'HEX')", "TO_BINARY($key_v3, 'HEX')"],
    "duckdb": ['"1a2b3c02": os.environ["AIRBERG_KEY_V2"]', '"1a2b3c03": os.environ["AIRBERG_KEY_V3"]'],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_keys_are_placeholders_by_default(engine: Engine) -> None:
    """Of the versions that were given, by the engine's own means."""
    text = decrypting_sql(engine, EMAIL, "crm", KEYS[1:])
    assert [p in text for p in PLACEHOLDERS[engine]] == [True] * len(PLACEHOLDERS[engine])
    assert "v1" not in text.replace("key_v1=", "").replace("SET key_v1", "")


@pytest.mark.parametrize("engine", ["spark", "databricks"])
def test_names_that_spark_would_replace_come_with_a_warning(engine: Engine) -> None:
    """Spark replaces `${...}` even inside of quoted names."""
    said = "spark.sql.variable.substitute"
    odd = ExportedColumn(("s", "t"), ("${env:HOME}",), "a", "string")
    assert said in decrypting_sql(engine, odd, "crm", KEYS)
    assert said not in decrypting_sql(engine, EMAIL, "crm", KEYS)


def test_keys_that_are_not_there_cannot_be_shown() -> None:
    """Neither no version at all, nor numbers without keys."""

    class Number:
        version, key_id = 1, 5

    with pytest.raises(ValueError, match="no version"):
        decrypting_sql("spark", EMAIL, "crm", [])
    with pytest.raises(ValueError, match="not there"):
        decrypting_sql("spark", EMAIL, "crm", [Number(), *KEYS], with_key=True)


TYPES: dict[str, tuple[str, str, str, str, str]] = {
    # spark and databricks, bigquery, clickhouse, snowflake, duckdb
    "boolean": ("BOOLEAN", "BOOL", "Bool", "BOOLEAN", "BOOLEAN"),
    "short": ("INT", "INT64", "Int32", "INTEGER", "INTEGER"),
    "long": ("BIGINT", "INT64", "Int64", "BIGINT", "BIGINT"),
    "decimal(12,2)": ("DECIMAL(12,2)", "NUMERIC", "Decimal(12, 2)", "NUMBER(12,2)", "DECIMAL(12,2)"),
    "decimal(38,9)": ("DECIMAL(38,9)", "NUMERIC", "Decimal(38, 9)", "NUMBER(38,9)", "DECIMAL(38,9)"),
    "decimal(38,0)": ("DECIMAL(38,0)", "BIGNUMERIC", "Decimal(38, 0)", "NUMBER(38,0)", "DECIMAL(38,0)"),
    "decimal(38,18)": ("DECIMAL(38,18)", "BIGNUMERIC", "Decimal(38, 18)", "NUMBER(38,18)", "DECIMAL(38,18)"),
    "date": ("DATE", "DATE", "Date32", "DATE", "DATE"),
    "timestamp": ("TIMESTAMP_NTZ", "DATETIME", "DateTime64(6)", "TIMESTAMP_NTZ(6)", "TIMESTAMP"),
    "timestamptz": ("TIMESTAMP", "TIMESTAMP", "DateTime64(6, 'UTC')", "TIMESTAMP_LTZ(6)", "TIMESTAMPTZ"),
    "time": ("", "TIME", "", "TIME(6)", "TIME"),
    "string": ("", "", "", "", ""),
    "json": ("", "", "", "", ""),
    "list<long>": ("", "", "", "", ""),
}


@pytest.mark.parametrize("type_name", TYPES)
def test_values_get_their_type_back(type_name: str) -> None:
    """Each engine casts to its own type; what it has no type for stays text."""
    spark, *others = TYPES[type_name]
    wanted = dict(zip(ENGINES, [spark, spark, *others], strict=True))
    assert {e: DIALECTS[e].type_for(type_name) or "" for e in ENGINES} == wanted
    for engine in ENGINES:
        column = ExportedColumn(EMAIL.table, EMAIL.path, EMAIL.aad, type_name)
        query = query_of(engine, decrypting_sql(engine, column, "crm", KEYS))
        written = wanted[engine]
        if engine == "clickhouse":  # a cast of null to a type that is not nullable is an error
            written = f"Nullable({written})" if written else ""
        assert (f"AS {written}) " in query) if written else query.count(" AS ") <= 3


# ---- DuckDB ------------------------------------------------------------------------------------------------

VALUES: list[tuple[str, list[Any]]] = [
    ("string", ["alice@example.com", "", "ünï", "it's \\ `"]),
    ("json", ['{"a":[1]}']),
    ("int", [0, -(2**31)]),
    ("long", [2**63 - 1]),
    ("boolean", [True, False]),
    ("double", [1e-7, 1.7976931348623157e308, float("inf")]),
    ("decimal(12,2)", [Decimal("123.40"), Decimal("-9999999999.99")]),
    ("decimal(38,0)", [Decimal("9" * 38)]),
    ("date", [dt.date(2026, 1, 2), dt.date(1, 1, 1)]),
    ("timestamp", [dt.datetime(2026, 1, 2, 3, 4, 5, 123456)]),
    ("time", [dt.time(3, 4, 5, 6)]),
    ("binary", [b"\x00\xff'"]),
]
HOSTILE = ["email", "it's", 'a"b', "back\\slash", "a.b", "{x}", "t", "select", "ü"]


def in_duckdb(column: ExportedColumn, ciphertexts: list[bytes | None], **how: Any) -> list[Any]:
    """What the exported query answers.

    The exported function decrypts; DuckDB calls it through a table of its answers, since it takes functions
    of Python only together with numpy.
    """
    module = module_of(decrypting_sql("duckdb", column, "crm", KEYS[:2], **how))
    quote = DIALECTS["duckdb"].name
    kind = "BLOB"
    for field in reversed(column.path[1:]):
        kind = f"STRUCT({quote(field)} {kind})"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE SCHEMA {quote(column.table[0])}")
        place = ".".join(map(quote, column.table))
        connection.execute(f"CREATE TABLE {place} ({quote(column.path[0])} {kind})")
        connection.execute("CREATE TABLE answers (value BLOB, aad BLOB, plaintext BLOB)")
        for ciphertext in ciphertexts:
            row: Any = ciphertext
            for field in reversed(column.path[1:]):
                row = {field: row}
            connection.execute(f"INSERT INTO {place} VALUES (?)", [row])
            if ciphertext is not None and (not how.get("skip_unreadable") or ciphertext[4] != 3):
                aad = column.aad.encode()
                answer = module.airberg_decrypt(ciphertext, aad)
                connection.execute("INSERT INTO answers VALUES (?, ?, ?)", [ciphertext, aad, answer])
        connection.execute(
            "CREATE MACRO airberg_decrypt(v, a) AS "
            "(SELECT any_value(plaintext) FROM answers WHERE value = v AND aad = a)"
        )
        relation = connection.sql(module.SQL)
        assert relation.columns == [column.path[-1]]
        return [row for (row,) in relation.fetchall()]


def encrypted(value: Any, aad: str, key: DataKey = KEYS[0]) -> bytes:
    """A ciphertext, as a job writes it."""
    return ColumnCipher(key, aad.encode(), "random").encrypt_value(canonical_text(value))


@pytest.mark.parametrize(("type_name", "values"), VALUES)
def test_duckdb_answers_the_values(type_name: str, values: list[Any]) -> None:
    """Values of both versions, and null, come back in the type that they had."""
    column = ExportedColumn(EMAIL.table, EMAIL.path, EMAIL.aad, type_name)
    sent = [encrypted(v, column.aad, KEYS[i % 2]) for i, v in enumerate(values * 2)]
    assert in_duckdb(column, [*sent, None]) == [*values, *values, None]
    assert in_duckdb(column, [*sent, None], with_key=True) == [*values, *values, None]


@pytest.mark.parametrize("name", HOSTILE)
def test_duckdb_finds_columns_with_any_name(name: str) -> None:
    """At the top and inside of structs, with any associated data."""
    for path in [(name,), ("outer", name), (name, "inner"), (name, name, name)]:
        column = ExportedColumn((f"s{name}", name), path, f"s.{name}\n", "int")
        assert in_duckdb(column, [encrypted(5, column.aad), None]) == [5, None]


def test_values_of_other_versions_are_null_only_when_that_is_asked_for() -> None:
    """Otherwise they are an error: a query that was exported before a rotation must not leave out rows."""
    sent = [encrypted("a", EMAIL.aad), encrypted("b", EMAIL.aad, KEYS[2]), None]
    assert in_duckdb(EMAIL, sent, skip_unreadable=True) == ["a", None, None]
    with pytest.raises(KeyError):
        in_duckdb(EMAIL, sent)


def test_the_module_for_duckdb_reads_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the version decrypts; another key, or other associated data, does not."""
    text = decrypting_sql("duckdb", EMAIL, "crm", KEYS[:1])
    value, aad = encrypted("a", EMAIL.aad), EMAIL.aad.encode()
    assert module_of(text).airberg_decrypt(value, aad) == decrypt_value(KEYS, value, aad) == b"a"
    with pytest.raises(InvalidTag):
        module_of(text).airberg_decrypt(value, b"shop.users.phone")
    monkeypatch.setenv("AIRBERG_KEY_V1", KEYS[1].raw.hex())
    with pytest.raises(InvalidTag):
        module_of(text).airberg_decrypt(value, aad)
