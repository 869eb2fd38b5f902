"""Batches of records: the same as value by value, with metadata, whatever records look like."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import arrow_schema, arrow_type, table_fields
from airberg.columns.json_schema import stream_fields
from airberg.columns.json_text import json_text, parse_exact
from airberg.columns.targets import parse_target_type
from airberg.columns.types import (
    BINARY,
    DOUBLE,
    JSON,
    LONG,
    STRING,
    ColumnType,
    Field,
    List,
    Struct,
    stored_type,
)
from airberg.errors import TransientFailed
from airberg.keys.cipher import decrypt_value
from airberg.plan.model import ColumnPlan, EncryptRule
from support.column_batches import builder, by_value, rows_of
from support.column_values import KEY
from support.record_builders import WAYS, built_by

NULLED_CAST = {"change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR"}


def column(
    source: str,
    kind: ColumnType,
    *,
    name: str | None = None,
    cast: str | None = None,
    encrypt: bool = False,
    children: Sequence[ColumnPlan] = (),
) -> ColumnPlan:
    """The plan of a column, as the planner would make it."""
    target = parse_target_type(cast) if cast else None
    rule = EncryptRule(key_name="k", mode="deterministic", aad="k") if encrypt else None
    stored = stored_type(target) if target else kind
    if children:
        stored = Struct(tuple(Field(c.name, c.type) for c in children))
    elif isinstance(kind, Struct) and not cast and not encrypt:
        children = [column(f.name, f.type) for f in kind.fields]
    return ColumnPlan(
        source=source,
        name=name or source,
        source_type=kind,
        type=BINARY if rule else stored,
        cast_to=target,
        encrypt=rule,
        children=tuple(children),
    )


@pytest.fixture(autouse=True, params=WAYS)
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test is about both builders."""
    with built_by(request.param):
        yield


def fields(**schemas: object) -> list[ColumnPlan]:
    """Columns by JSON schema, as they are."""
    return [column(f.name, f.type) for f in stream_fields({"properties": schemas})]


def typed(name: str, **more: object) -> dict[str, object]:
    """A schema of a type."""
    return {"type": name, **more}


TZ = typed("string", format="date-time")
NTZ = typed("string", format="date-time", airbyte_type="timestamp_without_timezone")


# ---- records -----------------------------------------------------------------------------------------------


def test_order_missing_and_undeclared_properties() -> None:
    """Properties come in any order, may be missing, and more than declared are ignored."""
    made = builder(fields(a=typed("integer"), b=typed("string")))
    records = [b'{"b":"x","a":1}', b"{}", b'{"z":{"a":9},"a":2,"b":null}', b' {"a":null} ']
    assert rows_of(made, records) == [
        {"a": 1, "b": "x"},
        {"a": None, "b": None},
        {"a": 2, "b": None},
        {"a": None, "b": None},
    ]
    assert made.values_nulled == 0


def test_raw_records_and_any_names() -> None:
    """A record may be a slice of a message, and properties may have any name."""
    made = builder([column("My col.é", parse_target_type("long"), name="x"), column("class", arrow_long())])
    line = b'{"data":{"My col.\\u00e9":1,"class":2}}'
    message = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    made.add(message["data"], 0)
    assert made.flush().to_pylist() == [{"x": 1, "class": 2}]


def arrow_long() -> ColumnType:
    """The long type."""
    return parse_target_type("long")


@pytest.mark.parametrize(
    "name",
    ['say "x"', "back\\slash", "nul\x00", "line\n", "", "名前", "a.b", "🙂", "c0", "k" * 10_000, "\x7f", "é"],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_names_of_properties_are_found_however_they_are_written(name: str, ascii_only: bool) -> None:
    """Escaped or not, with quotes, control characters or none at all; the others of the record too."""
    columns = [column("c1", STRING), column(name, LONG, name="x"), column("f", DOUBLE), column("j", JSON)]
    record = {
        "c0": "no",
        "c1": "t",
        "u" * 10_000: 1,
        "f": 1.5,
        "j": [1, 1.10],
        name: 3,
        "undeclared": {name: 4},
    }
    text = json.dumps(record, ensure_ascii=ascii_only).encode()
    made = rows_of(builder(columns), [text, b'{"c1": "later"}'])
    assert [(r["c1"], r["x"], r["f"]) for r in made] == [("t", 3, 1.5), ("later", None, None)]
    assert json.loads(made[0]["j"]) == [1, 1.1]


def test_names_inside_structs_and_lists() -> None:
    """Members of objects are found under the names of the source, and written under those of the table."""
    inside = Struct((Field('a"b', LONG), Field("id_x", LONG, source="id"), Field("Id", LONG)))
    columns = [column("l", List(inside))]
    record = b'{"l": [{"a\\"b": 1, "id": 2, "Id": 3, "id_x": 4}, {"Id": "?"}]}'
    made = builder(columns, add_metadata=True)
    [row] = rows_of(made, [record])
    assert row["l"] == [{'a"b': 1, "id_x": 2, "Id": 3}, {'a"b': None, "id_x": None, "Id": None}]
    assert [c["field"] for c in row["_airbyte_meta"]["changes"]] == ["l.element.Id"]


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    """As in most readers of JSON, whichever decoder reads it."""
    columns = [column("a", LONG), column("o", Struct((Field("b", LONG),))), column("t", JSON)]
    twice = b'{"a": 1, "o": {"b": 1, "b": 2}, "t": 1, "t": 2, "a": 3%s}'
    for text in (twice % b"", twice % b', "x": 1e999999999999', twice % b', "x": "\\ud800"'):
        assert rows_of(builder(columns), [text]) == [{"a": 3, "o": {"b": 2}, "t": "2"}]


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"x"', b"", b"{", b'{"a":}', b"\xff"])
def test_what_is_not_an_object_fails_the_run(data: bytes) -> None:
    """Such a record fails the run, without its content; the batch is as before."""
    made = builder(fields(a=typed("integer")))
    made.add(b'{"a":1}', 0)
    with pytest.raises(TransientFailed, match="A record is not an object") as e:
        made.add(data, 0)
    assert e.value.__cause__ is None
    assert len(made) == 1
    assert made.flush().to_pylist() == [{"a": 1}]


def test_length_size_and_flush() -> None:
    """The builder counts what it holds and is empty after a flush; an empty flush is an empty batch."""
    made = builder(fields(a=typed("integer")), add_metadata=True)
    assert (len(made), made.nbytes) == (0, 0)
    made.add(b'{"a":1}', 0)
    small = made.nbytes
    made.add(b'{"a":1,"pad":"' + b"x" * 1000 + b'"}', 0)
    assert len(made) == 2
    assert made.nbytes > small + 1000
    assert made.flush().num_rows == 2
    assert (len(made), made.nbytes) == (0, 0)
    empty = made.flush()
    assert empty.num_rows == 0
    assert empty.schema == made.schema
    assert rows_of(made, [b'{"a":3}'])[0]["a"] == 3


def test_what_only_the_lenient_decoder_reads() -> None:
    """A number out of range, half a surrogate pair: one value is nulled, or kept where text is enough."""
    schema = {
        "i": typed("integer"),
        "n": typed("number"),
        "s": typed("string"),
        "j": typed("object"),
        "big": typed("string", airbyte_type="big_integer"),
    }
    made = builder(fields(**schema))
    rows = rows_of(
        made,
        [
            b'{"i":1,"n":1e400,"s":"a","j":{"x":1.10},"big":7}',
            b'{"i":2,"n":1.5,"s":"\\ud800","j":"\\ud800","big":1e2}',
            b'{"i":' + b"9" * 5000 + b',"n":2,"s":"b","j":null}',
        ],
    )
    assert rows == [
        {"i": 1, "n": None, "s": "a", "j": '{"x":1.10}', "big": D(7)},
        {"i": 2, "n": 1.5, "s": None, "j": '"\\ud800"', "big": D(100)},
        {"i": None, "n": 2.0, "s": "b", "j": None, "big": None},
    ]
    assert made.values_nulled == 3


def test_numbers_keep_their_digits() -> None:
    """Decimals, JSON and text have the digits that the source sent; big integers survive."""
    schema = {
        "big": typed("integer", airbyte_type="big_integer"),
        "any": typed("number", airbyte_type="big_number"),
        "text": typed("string"),
        "free": typed("object"),
        "inner": typed("object", properties={"t": typed("string"), "j": {}}),
    }
    made = builder([*fields(**schema), column("cast", parse_target_type("double"), cast="decimal(38,20)")])
    number = b"12345678901234567890.12345678901234567890"
    record = b'{"big":99999999999999999999999999999999999999,"any":%b,"text":[1.10,%b],"free":{"a": %b},'
    record += b'"inner":{"t":%b,"j":[%b]},"cast":1.00000000000000000001}'
    row = rows_of(made, [record.replace(b"%b", number), b'{"text":"x"}'])[0]
    text = number.decode()
    assert row == {
        "big": D("9" * 38),
        "any": text,
        "text": f"[1.10,{text}]",
        "free": '{"a": ' + text + "}",
        "inner": {"t": text, "j": f"[{text}]"},
        "cast": D("1.00000000000000000001"),
    }
    assert made.values_nulled == 0


def test_integers_written_as_fractions_keep_their_digits() -> None:
    """A whole number with an exponent or a point is read exactly, beyond what a double holds too."""
    made = builder(fields(i=typed("integer")))
    records = [b'{"i":69685606277027861.0}', b'{"i":6.968560627702786e16}', b'{"i":3.0}']
    assert [r["i"] for r in rows_of(made, records)] == [69685606277027861, 69685606277027860, 3]


def test_json_text_is_kept_as_the_source_wrote_it() -> None:
    """A JSON column is a copy of the source's text; only null is null."""
    made = builder(fields(j=typed("object")))
    records = [b'{"j": {"b": 1,  "a":"\\u00e9"}}', b'{"j":null}', b'{"j":"null"}', b'{"j":[ ]}']
    expected = ['{"b": 1,  "a":"\\u00e9"}', None, '"null"', "[ ]"]
    assert [r["j"] for r in rows_of(made, records)] == expected


def test_bytes_that_are_not_utf8() -> None:
    """In a JSON column one such value is nulled."""
    made = builder(fields(j=typed("object"), a=typed("integer")))
    assert rows_of(made, [b'{"j":"\xff","a":1}', b'{"j":"ok","a":2}']) == [
        {"j": None, "a": 1},
        {"j": '"ok"', "a": 2},
    ]
    assert made.values_nulled == 1


@pytest.mark.parametrize(
    "texts",
    [
        ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+05:00", None],
        ["2003-03-21T21:46:36.926569", "2003-03-21 21:46:36", None],
        ["2003-03-21T21:46:36", "2003-03-21T21:46:36Z"],
        ["2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05Z"],
        ["0000-01-01T00:00:00Z", "2026-01-02T03:04:05Z"],
        ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.999999Z"],
        ["0000-12-31T23:59:59", "0001-01-01T00:00:00"],
        ["", "2026-02-30T00:00:00Z", "2026-01-02T03:04:60Z"],
        ["0044-03-15T12:00:00Z BC", "2026-01-02T03:04:05Z", None],
        ["-0043-03-15", "12026-01-01", "0044-03-15 BC", "0000-01-01", "2026-01-02"],
        ["+012026-01-01T00:00:00Z", "-0001-12-31T23:59:59", "10000-01-01T00:00:00"],
    ],
)
def test_timestamps_by_column_are_those_by_value(texts: list[str | None]) -> None:
    """Whether all, some or none have an offset or fit, the column reads as each value alone."""
    schema = {"tz": TZ, "ntz": NTZ, "d": typed("string", format="date")}
    columns = fields(**schema)
    records = [json.dumps(dict.fromkeys(schema, t)).encode() for t in texts]
    rows = rows_of(builder(columns), records)
    assert rows == by_value(columns, records)[0]


# ---- transformations ---------------------------------------------------------------------------------------


def test_cast_rename_drop_and_encrypt() -> None:
    """Columns and members of structs are transformed as planned."""
    string, long = parse_target_type("string"), arrow_long()
    person = Struct((Field("mail", string), Field("age", string), Field("secret", string)))
    columns = [
        column("id", long, name="key", encrypt=True),
        column("n", string, cast="byte"),
        column(
            "who",
            person,
            name="person",
            children=[column("mail", string, encrypt=True), column("age", string, name="years", cast="int")],
        ),
        column("whole", person, encrypt=True),
    ]
    made = builder(columns)
    assert str(made.schema.field("n").type) == "int32"
    who = b'{"mail":"a@b.c","age":" 7 ","secret":"x"}'
    rows = rows_of(
        made,
        [
            b'{"id":1,"n":"128","who":' + who + b',"whole":{"b":1.10}}',
            b'{"id":1,"n":"127","who":null}',
        ],
    )
    first, second = rows
    assert first["key"] == second["key"]
    assert decrypt_value([KEY], first["key"], b"k") == b"1"
    assert (first["n"], second["n"]) == (None, 127)
    assert decrypt_value([KEY], first["person"]["mail"], b"k") == b"a@b.c"
    assert first["person"]["years"] == 7
    assert list(first["person"]) == ["mail", "years"]
    assert second["person"] is None
    assert decrypt_value([KEY], first["whole"], b"k") == b'{"b":1.10}'
    assert made.values_nulled == 1


# ---- metadata ----------------------------------------------------------------------------------------------


def test_metadata_columns() -> None:
    """Each row has its id, time, sync, generation, and the changes of source and destination."""
    made = builder([column("a", arrow_long(), name="b")], add_metadata=True)
    assert [f.name for f in made.fields] == [
        "_airbyte_raw_id",
        "_airbyte_extracted_at",
        "_airbyte_meta",
        "_airbyte_generation_id",
        "b",
    ]
    sent = {"field": "a.x", "change": "TRUNCATED", "reason": "SOURCE_FIELD_SIZE_LIMITATION"}
    made.add(b'{"a":1}', 1_767_323_045_123)
    made.add(b'{"a":"x"}', 0, [sent])
    made.add(b'{"a":2}', 10**18)
    made.add(b'{"a":3}', 1, [SourceChange("zz", "NULLED", "R")])
    batch = made.flush()
    batch.validate(full=True)
    rows = batch.to_pylist()
    assert len({UUID(r["_airbyte_raw_id"]) for r in rows}) == 4
    assert [r["_airbyte_extracted_at"] for r in rows] == [
        dt.datetime(2026, 1, 2, 3, 4, 5, 123000, tzinfo=dt.UTC),
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        None,
        dt.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=dt.UTC),
    ]
    assert {r["_airbyte_generation_id"] for r in rows} == {2}
    assert {r["_airbyte_meta"]["sync_id"] for r in rows} == {5}
    assert [r["_airbyte_meta"]["changes"] for r in rows] == [
        [],
        [{**sent, "field": "b.x"}, {"field": "b", **NULLED_CAST}],
        [],
        [{"field": "zz", "change": "NULLED", "reason": "R"}],
    ]
    assert made.values_nulled == 1


class SourceChange(msgspec.Struct, frozen=True):
    """A change as the protocol decoder gives it."""

    field: str
    change: str
    reason: str


def test_without_metadata_values_are_counted_all_the_same() -> None:
    """Nulled values show in the report also where no column tells of them."""
    made = builder(fields(a=typed("integer")))
    rows_of(made, [b'{"a":"x"}', b'{"a":1}'])
    rows_of(made, [b'{"a":1.5}'])
    assert made.values_nulled == 2
    assert made.schema.names == ["a"]


def test_schema_is_that_of_the_table_fields() -> None:
    """Schema and fields say the same, type by type."""
    columns = fields(a=typed("array", items=typed("object", properties={"x": TZ})), b={})
    schema = arrow_schema(columns, True)
    assert schema.types == [arrow_type(f.type) for f in table_fields(columns, True)]
    assert schema.field("a").type.value_field.name == "element"
    assert schema.field("_airbyte_meta").type == pa.struct(
        [
            pa.field("sync_id", pa.int64()),
            pa.field(
                "changes",
                pa.list_(
                    pa.field("element", pa.struct([(n, pa.string()) for n in ("field", "change", "reason")]))
                ),
            ),
        ]
    )


# ---- by column = by value ----------------------------------------------------------------------------------

EVERY_TYPE = {
    "i": typed("integer"),
    "n": typed("number"),
    "b": typed("boolean"),
    "s": typed("string"),
    "d": typed("string", format="date"),
    "t": typed("string", format="time"),
    "tz": TZ,
    "ntz": NTZ,
    "bin": typed("string", contentEncoding="base64"),
    "big": typed("string", airbyte_type="big_integer"),
    "j": typed("object"),
    "o": typed("object", properties={"i": typed("integer"), "s": typed("string"), "tz": TZ, "j": {}}),
    "l": typed("array", items=typed("number")),
    "lo": typed("array", items=typed("object", properties={"s": typed("string"), "d": TZ})),
    "ll": typed("array", items=typed("array", items=typed("string"))),
}
FITTING = {
    "i": st.integers(-(2**63), 2**63 - 1),
    "n": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    "d": st.dates().map(str) | st.sampled_from(["0044-03-15 BC", "12026-01-01"]),
    "t": st.times().map(str),
    "tz": st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5.5))])).map(str),
    "ntz": st.datetimes().map(dt.datetime.isoformat),
    "bin": st.sampled_from(["", "AP8=", "YWJj"]),
    "big": st.integers(-(10**38), 10**38),
}
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [
            "1",
            "x",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "0000-01-01T00:00:00Z",
            "0044-03-15 BC",
            "\ud800",
            "é",
        ]
    ),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from("istdj"), c, max_size=3),
    max_leaves=5,
)


def records() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Batches where most columns fit, some do not."""
    members = {k: st.none() | FITTING.get(k, ODD) for k in EVERY_TYPE}
    fitting = st.fixed_dictionaries({}, optional=members)
    odd = st.dictionaries(st.sampled_from([*EVERY_TYPE, "unknown"]), ODD, max_size=6)
    return st.lists(fitting, max_size=6) | st.lists(fitting | odd, max_size=6)


@settings(max_examples=100, deadline=None)
@given(records())
def test_columns_at_once_are_the_same_as_value_by_value(batch: list[dict[str, Any]]) -> None:
    """The fast ways of whole columns give what the converter gives, and note the same changes."""
    columns = fields(**EVERY_TYPE)
    data = [json_text(record).encode() for record in batch]
    made = builder(columns, add_metadata=True)
    rows = rows_of(made, data)
    expected, logs = by_value(columns, data)
    for row, one in zip(rows, expected, strict=True):
        for r in (row, one):  # JSON may be kept as it was written or be written anew
            for holder in (r, *([r["o"]] if r["o"] else [])):
                holder["j"] = parse_exact(t.encode()) if (t := holder["j"]) else None
        assert {c.name: row[c.name] for c in columns} == one
    noted = [sorted(map(str, r["_airbyte_meta"]["changes"])) for r in rows]
    assert noted == [sorted(map(str, changes)) for changes in logs]
    assert made.values_nulled == sum(map(len, logs))
