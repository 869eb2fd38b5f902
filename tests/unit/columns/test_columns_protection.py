"""Protected columns of whole batches: of the texts of the plain ones, whoever reads and whoever encrypts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import python_values
from airberg.columns.json_schema import stream_fields
from airberg.columns.json_text import parse_exact
from airberg.columns.targets import parse_target_type
from airberg.columns.types import LONG, STRING, ColumnType, Field, Struct
from airberg.keys.arrays import decrypt_array
from airberg.keys.cipher import canonical_json, canonical_text
from airberg.keys.hashing import ColumnHash
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule
from airberg.plan.protection import protected_type
from support.ciphers import CIPHER_WAYS, ciphered_by
from support.column_batches import builder, by_value, rows_of
from support.column_values import KEY
from support.record_builders import WAYS, built_by

AAD = "a.b.c"
KINDS: dict[str, dict[str, object]] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "day": {"type": "string", "format": "date"},
    "clock": {"type": "string", "format": "time"},
    "at": {"type": "string", "format": "date-time"},
    "naive": {
        "type": "string",
        "format": "date-time",
        "airbyte_type": "timestamp_without_timezone",
    },
    "big": {"type": "integer", "airbyte_type": "big_integer"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "any": {"type": ["string", "integer"]},
    "free": {"type": "object"},
    "person": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}},
    "tags": {"type": "array", "items": {"type": "string"}},
}
WHOLE = ("person", "tags")
"""What is encrypted as one text, while the plain columns have parts."""

CASTS = {
    "text": ("decimal(9,2)", "date", "json"),
    "whole": ("string", "float", "timestamp"),
    "at": ("date", "string"),
}
TYPES = {f.name: f.type for f in stream_fields({"properties": KINDS})}


@pytest.fixture(
    autouse=True, scope="module", params=[(w, c) for w in WAYS for c in CIPHER_WAYS], ids="-".join
)
def _ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test is about both builders, with both ciphers."""
    reader, cipher = request.param
    with built_by(reader), ciphered_by(cipher):
        yield


Mode = Literal["random", "deterministic", "hash", "mask"]


def column(name: str, mode: Mode | None, cast: str | None = None) -> ColumnPlan:
    """A column of one of the kinds; a cast has a property of its own in the record."""
    target = parse_target_type(cast) if cast else None
    shown = property_of(name, cast) if cast else name
    made = ColumnPlan(
        source=shown,
        name=shown,
        source_type=TYPES[name],
        type=target or TYPES[name],
        cast_to=target,
        encrypt=EncryptRule(key_name="k", mode=mode, aad=AAD)
        if mode in ("random", "deterministic")
        else None,
        hash=HashRule(key_name="k") if mode == "hash" else None,
        mask=MaskRule(keep_last=3, mask_char="é") if mode == "mask" else None,
    )
    return msgspec.structs.replace(made, type=protected_type(made.protection) or made.type)


def property_of(name: str, cast: str) -> str:
    """What a column with a cast is called."""
    return f"{name}_{cast.partition('(')[0]}"


def columns(mode: Mode | None, within: bool) -> list[ColumnPlan]:
    """All kinds, and their casts; of an object that is all there is, or by themselves."""
    left_out = WHOLE if mode is None else ("bytes",) if mode == "mask" else ()
    made = [column(name, mode) for name in KINDS if name not in left_out]
    made += [column(name, mode, cast) for name, casts in CASTS.items() for cast in casts]
    if not within:
        return made
    inside = Struct(tuple(Field(c.source, c.source_type) for c in made))
    outside = Struct(tuple(Field(c.name, c.type) for c in made))
    return [ColumnPlan(source="o", name="o", source_type=inside, type=outside, children=tuple(made))]


def decrypted(sealed: pa.Array) -> list[bytes | None]:
    """The plaintexts of a column."""
    texts: list[bytes | None] = decrypt_array([KEY], sealed, AAD.encode()).to_pylist()
    return texts


def json_of(text: str) -> bytes | None:
    """The canonical form of JSON text; none where half a surrogate pair is in it, which has no UTF-8."""
    try:
        return canonical_json(parse_exact(text.encode()))
    except UnicodeEncodeError:
        return None


TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(
    [
        *("", "a@b.c", "-0.00", "1.10", "12", "\ud800", "AP8=", '{"b": 1, "a": -0.0}', "03:04:05"),
        *("2024-02-29", "0001-01-01", "0044-03-15 BC", "12026-01-02T03:04:05Z"),
        *("2024-01-01T10:00:00.5+05:30", "2024-01-01 10:00:00"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=2) | st.dictionaries(TEXTS, c, max_size=2), max_leaves=4
)
FITTING = {
    "whole": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    "flag": st.booleans(),
    "day": st.dates().map(str),
    "at": st.datetimes().map(lambda d: d.isoformat() + "Z"),
    "person": st.fixed_dictionaries({"a": TEXTS, "b": st.integers(0, 9)}),
}
PROPERTIES = {name: name for name in KINDS} | {
    property_of(n, c): n for n, casts in CASTS.items() for c in casts
}
RECORDS = st.lists(
    st.fixed_dictionaries({}, optional={p: FITTING.get(n, TEXTS) | VALUES for p, n in PROPERTIES.items()}),
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(records=RECORDS, within=st.booleans())
def test_an_encrypted_column_has_the_texts_of_the_plain_one(
    records: list[dict[str, Any]], within: bool
) -> None:
    """Any values, those that do not fit too: the same rows are null, with the same changes."""
    data = [json.dumps({"o": r} if within else r).encode() for r in records]
    plain, sealed = (builder(columns(mode, within), add_metadata=True) for mode in (None, "deterministic"))
    for record in data:
        plain.add(record, 0)
        sealed.add(record, 0)
    one, other = plain.flush(), sealed.flush()
    other.validate(full=True)
    if within:
        one, other = (pa.RecordBatch.from_struct_array(batch.column("o")) for batch in (one, other))
    for name in one.schema.names:
        if not name.startswith("_airbyte"):
            text = json_of if name in ("any", "free", "text_json") else canonical_text
            expected = [None if v is None else text(v) for v in python_values(one.column(name))]
            assert decrypted(other.column(name)) == expected, name


@settings(max_examples=40, deadline=None)
@given(records=RECORDS, within=st.booleans(), mode=st.sampled_from(["deterministic", "hash", "mask"]))
def test_whole_batches_are_protected_as_single_values_are(
    records: list[dict[str, Any]], within: bool, mode: Mode
) -> None:
    """Bytes and changes are those of the converter of single values, also of JSON, objects and lists."""
    data = [json.dumps({"o": r} if within else r).encode() for r in records]
    plans = columns(mode, within)
    made = builder(plans, add_metadata=True)
    rows = rows_of(made, data)
    expected, changes = by_value(plans, data)
    names = [plan.name for plan in plans]
    assert [{name: row[name] for name in names} for row in rows] == expected
    assert [row["_airbyte_meta"]["changes"] for row in rows] == changes
    assert made.values_nulled == sum(map(len, changes))


@pytest.mark.parametrize("mode", ["random", "deterministic", "hash", "mask"])
def test_nothing_of_a_value_is_in_the_batch(mode: Mode) -> None:
    """Neither of one that is protected, nor of one that could not be: in no buffer, and in no change."""
    secret = "canary-3f9a"
    plans = [column("text", mode), column("whole", mode), column("any", mode), column("free", mode)]
    plans.append(column("text", mode, "date"))
    made = builder(plans, add_metadata=True)
    for value in (secret, {secret: secret}, [secret], 7):
        made.add(json.dumps(dict.fromkeys([plan.source for plan in plans], value)).encode(), 0)
    batch = made.flush()
    assert made.values_nulled == 7
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    assert secret.encode() not in sink.getvalue().to_pybytes()
    if mode in ("random", "deterministic"):
        assert decrypted(batch.column("text"))[0] == secret.encode()


def test_random_ciphertexts_differ_and_deterministic_ones_repeat() -> None:
    """Of values that repeat, in one batch and in the next."""
    records = [b'{"text":"x"}'] * 3000
    for mode, distinct in (("random", 6000), ("deterministic", 1)):
        made = builder([column("text", mode)])  # type: ignore[arg-type]  # one of the modes
        found = [row["text"] for _ in range(2) for row in rows_of(made, records)]
        assert len(set(found)) == distinct


def test_hash_and_mask() -> None:
    """Columns, members of structs and whole objects; nulls stay null, what does not fit is told."""

    def made_of(name: str, kind: ColumnType, **members: Any) -> ColumnPlan:
        plan = ColumnPlan(source=name, name=name, source_type=kind, type=kind, **members)
        return msgspec.structs.replace(plan, type=protected_type(plan.protection) or plan.type)

    hashed, mask = HashRule(key_name="k"), MaskRule(keep_last=2, mask_char="#")
    person = Struct((Field("mail", STRING), Field("age", STRING)))
    members = (made_of("mail", STRING, hash=hashed), made_of("age", STRING))
    made = builder(
        [
            made_of("id", LONG, hash=hashed),
            made_of("as_text", STRING, hash=hashed),
            made_of("card", STRING, mask=mask),
            made_of("day", STRING, cast_to=parse_target_type("date"), mask=MaskRule()),
            made_of("who", person, children=members),
            made_of("whole", person, hash=hashed),
            made_of("n", LONG, hash=hashed),
        ]
    )
    assert {str(made.schema.field(name).type) for name in ("id", "card", "day", "whole")} == {"string"}
    values = {"id": 7, "as_text": "7", "card": "12345é", "day": "2026-1-2", "n": "x"}
    objects = {"who": {"mail": "a@b.c", "age": "7"}, "whole": {"b": 1, "a": 2}}
    nulls = b'{"id":null,"card":"12","day":"never","who":null}'
    first, second = rows_of(made, [json.dumps(values | objects).encode(), nulls])
    hash_of = ColumnHash(KEY).hash_value
    assert first == {
        "id": hash_of(b"7"),
        "as_text": hash_of(b"7"),
        "card": "####5é",
        "day": "******1-02",
        "who": {"mail": hash_of(b"a@b.c"), "age": "7"},
        "whole": hash_of(b'{"a":2,"b":1}'),
        "n": None,
    }
    assert second == dict.fromkeys(first) | {"card": "##"}
    assert made.values_nulled == 2
