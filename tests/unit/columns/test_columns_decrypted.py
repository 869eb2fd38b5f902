"""Encrypting a column and decrypting it gives what the column would have been without: for every type."""

from __future__ import annotations

import json
import math
from decimal import Decimal as Number
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import python_values
from airberg.columns.convert import untouched
from airberg.columns.decrypted import original_array
from airberg.columns.encryption import (
    ColumnEncryption,
    decode_encryption,
    encode_encryption,
    random_columns,
)
from airberg.columns.json_text import json_text, parse_exact
from airberg.columns.targets import TARGET_TYPES, cast_problem
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
    List,
    Primitive,
    PrimitiveName,
    Struct,
    stored_type,
)
from airberg.columns.vectors import ChangeLog, vector
from airberg.errors import ConfigurationFailed
from airberg.keys.cipher import canonical_text, decrypt_value
from airberg.plan.model import EncryptRule
from support.column_values import KEY, cipher_for, plan

LEAVES: tuple[ColumnType, ...] = (
    *(BOOLEAN, INT, LONG, FLOAT, DOUBLE, Decimal(38, 9), Decimal(9, 2), Decimal(38, 0)),
    *(DATE, TIME, TIMESTAMP, TIMESTAMPTZ, STRING, BINARY, JSON),
)
ADDRESS = Struct(
    (
        Field("since", DATE),
        Field("at", TIMESTAMPTZ),
        Field(
            "lines", List(Struct((Field("no", LONG), Field("no_2", STRING, source="NO"), Field("x", JSON))))
        ),
        Field("rate", Decimal(20, 3)),
    )
)
NESTED = (List(STRING), List(List(DOUBLE)), List(BINARY), ADDRESS, Struct((Field("a: b, c<", BOOLEAN),)))

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
YEARS = st.sampled_from(["-4712", "-0001", "0000", "0001", "1582", "1969", "2026", "9999", "12026", "99999"])
DAYS = st.builds("{}-{:02}-{:02}".format, YEARS, st.integers(1, 12), st.integers(1, 28))
CLOCKS = st.times().map(lambda t: t.isoformat(timespec="microseconds"))
MOMENTS = st.builds("{}T{}{}".format, DAYS, CLOCKS, st.sampled_from(["", "Z", "+05:30", "-11:00"]))
NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([-(2**31), 2**31 - 1, 0, 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-(10**20), 10**20, places=3)
    | st.sampled_from([5e-324, 1.7976931348623157e308, -0.0, 1e16, Number("0.000000001"), Number("1.50")])
)
SCALARS = (
    *(st.none(), st.booleans(), NUMBERS, TEXTS, DAYS, CLOCKS, MOMENTS),
    st.sampled_from(["", "null", "true", "1.50", "-7", "AP8=", '{"b":[1,{}]}', "x" * 3000]),
)
VALUES = st.recursive(
    st.one_of(SCALARS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "at", "lines", "no", "NO", "rate", "since", "x"]), inner, max_size=4
        ).map(lambda found: dict(sorted(found.items())))  # the text that is encrypted has sorted keys
    ),
    max_leaves=6,
)


def array_of(column: Any, values: list[Any]) -> pa.Array:
    """The array that a column's values become in a run, which reads them with all digits."""
    sent = parse_exact(json_text(values).encode())
    return vector(column, cipher_for).array(sent, range(len(sent)), ChangeLog(), exact=True)


def decrypted(ciphertexts: pa.Array) -> pa.Array:
    """The plaintexts of an encrypted column of these tests."""
    found = [v if v is None else decrypt_value([KEY], v, b"a.b.c") for v in ciphertexts.to_pylist()]
    return pa.array(found, pa.binary())


def same(one: pa.Array, other: pa.Array) -> bool:
    """Equal in type and values."""
    return one.type == other.type and python_values(one) == python_values(other)


def there_and_back(source: ColumnType, cast: str | None, values: list[Any]) -> tuple[pa.Array, pa.Array]:
    """The column without encryption, and the one that was encrypted and decrypted."""
    plain = array_of(plan(source, cast), values)
    column = plan(source, cast, protect="random")
    assert column.encrypt is not None
    encryption = ColumnEncryption.of(column.encrypt, column.cast_to or source)
    read = decode_encryption("c", encode_encryption(encryption))
    return plain, original_array(read.plain_type, decrypted(array_of(column, values)), "c")


@pytest.mark.parametrize("kind", [*LEAVES, *NESTED], ids=str)
def test_decrypting_undoes_encrypting(kind: ColumnType) -> None:
    """Of any values that a source may send, fitting or not."""

    @settings(max_examples=40, deadline=None)
    @given(st.lists(VALUES, max_size=6))
    def check(values: list[Any]) -> None:
        plain, back = there_and_back(kind, None, values)
        assert same(plain, back)

    check()


@pytest.mark.parametrize("target", [*TARGET_TYPES, "decimal(12,2)"])
def test_decrypting_undoes_encrypting_after_a_cast(target: str) -> None:
    """The type that comes back is the one that was cast to, `byte` and `short` as the table has them."""
    wanted = TARGET_TYPES.get(target, Decimal(12, 2))
    sources = [kind for kind in LEAVES if cast_problem(kind, wanted) is None]

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(sources), st.lists(st.one_of(SCALARS), max_size=6))
    def check(source: ColumnType, values: list[Any]) -> None:
        plain, back = there_and_back(source, target, values)
        assert same(plain, back)

    check()


EXACT: dict[ColumnType, st.SearchStrategy[Any]] = {
    DOUBLE: st.floats(),
    FLOAT: st.floats(width=32),
    LONG: st.integers(-(2**63), 2**63 - 1),
    Decimal(38, 9): st.decimals(-(10**28), 10**28, places=9),
    BINARY: st.binary(),
    TIME: st.times(),
    DATE: st.dates(),
    TIMESTAMP: st.datetimes(),
}


@pytest.mark.parametrize("kind", EXACT, ids=str)
def test_every_value_of_a_type_has_a_text(kind: ColumnType) -> None:
    """Also those that no JSON can hold, such as NaN: they come back to the last bit."""

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.none() | EXACT[kind], max_size=6))
    def check(values: list[Any]) -> None:
        texts = pa.array([v if v is None else canonical_text(v) for v in values], pa.binary())
        back = original_array(kind, texts, "c").to_pylist()
        assert [sign_of(v) for v in back] == [sign_of(v) for v in values]

    check()


def sign_of(value: Any) -> Any:
    """The value, comparable: NaN equals itself, and the zeros differ."""
    if not isinstance(value, float):
        return value
    return "nan" if math.isnan(value) else (value, math.copysign(1, value))


# ---- what the table says -----------------------------------------------------------------------------------

RULE = EncryptRule(key_name="crm", mode="deterministic", aad="crm")


@pytest.mark.parametrize("kind", [*map(Primitive, get_args(PrimitiveName)), *LEAVES, *NESTED], ids=str)
def test_a_table_says_the_whole_type(kind: ColumnType) -> None:
    """Whatever names an object's members have."""
    said = ColumnEncryption.of(RULE, kind)
    assert decode_encryption("c", encode_encryption(said)).plain_type == kind


def test_what_a_plain_column_says() -> None:
    """Five members, as they always were; only objects and lists have their schema besides."""
    said = json.loads(encode_encryption(ColumnEncryption.of(RULE, stored_type(LONG))))
    assert said == {
        "key": "crm",
        "mode": "deterministic",
        "alg": "AES256-GCM/tink",
        "aad": "crm",
        "type": "long",
    }
    nested = json.loads(encode_encryption(ColumnEncryption.of(RULE, List(LONG))))
    assert nested.keys() - said.keys() == {"schema"}


@pytest.mark.parametrize("text", ["struct<a: long>", "list<string>"])
def test_nested_types_of_an_earlier_version_are_json(text: str) -> None:
    """Their text alone does not say everything."""
    said = ColumnEncryption(key="k", mode="random", alg="AES256-GCM/tink", aad="a", type=text)
    assert said.plain_type == JSON


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "no json",
        '{"key": "k", "mode": "random", "alg": "ROT13", "aad": "a", "type": "long"}',
        '{"key": "k", "mode": "sometimes", "alg": "AES256-GCM/tink", "aad": "a", "type": "long"}',
    ],
)
def test_a_property_of_something_else(text: str) -> None:
    """It is named, with a way out."""
    with pytest.raises(ConfigurationFailed, match=r"airberg\.encryption\.contact\.phone") as caught:
        decode_encryption("contact.phone", text)
    assert caught.value.code == "unknown-encryption"


def test_columns_that_are_random() -> None:
    """As far as can be told: others may have written such properties, too."""
    random = EncryptRule(key_name="crm", mode="random", aad="a")
    properties = {
        "airberg.encryption.email": encode_encryption(ColumnEncryption.of(random, STRING)),
        "airberg.encryption.a.b": encode_encryption(ColumnEncryption.of(random, LONG)),
        "airberg.encryption.id": encode_encryption(ColumnEncryption.of(RULE, LONG)),
        "airberg.encryption.other": "no json",
        "airberg.job": "random",
    }
    assert random_columns(properties) == ("email", "a.b")


def test_an_unknown_type() -> None:
    """A later version may know more."""
    said = ColumnEncryption(key="k", mode="random", alg="AES256-GCM/tink", aad="a", type="geography")
    with pytest.raises(ConfigurationFailed, match="geography"):
        _ = said.plain_type


@pytest.mark.parametrize(
    ("kind", "plaintext"),
    [
        (LONG, b"s3cret"),
        (BOOLEAN, b"s3cret"),
        (Decimal(5, 1), b"1234567.8"),
        (DATE, b"s3cret"),
        (STRING, b"s3cret\xff"),
        (ADDRESS, b"s3cret"),
        (TIME, b"s3cret"),
    ],
)
def test_a_plaintext_of_another_type(kind: ColumnType, plaintext: bytes) -> None:
    """It is an error, never a null, and does not show the value."""
    with pytest.raises(ConfigurationFailed) as caught:
        original_array(kind, pa.array([None, plaintext]), "email")
    assert caught.value.code == "decrypted-type"
    assert "'email'" in caught.value.message
    assert "s3cret" not in caught.value.sentence()


def test_nothing_and_nulls() -> None:
    """An empty array and one of nulls keep the type."""
    for kind in (*LEAVES, *NESTED):
        wanted = array_of(untouched("c", kind), []).type
        assert original_array(kind, pa.array([], pa.binary()), "c").type == wanted
        assert original_array(kind, pa.nulls(2, pa.binary()), "c").to_pylist() == [None, None]
