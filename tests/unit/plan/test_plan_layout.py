"""Partitions and sort order of new tables: how expressions are read, what fits, what encryption does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pyiceberg.transforms import parse_transform

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
    Struct,
)
from airberg.errors import InvalidRequest
from airberg.lake.schema import iceberg_type
from airberg.plan.layout import TRANSFORMS, fitting_transforms
from airberg.plan.model import (
    IngestRequest,
    JobPlan,
    StreamPlan,
    TableRequest,
    Transformation,
    decode_plan,
    encode_plan,
)
from airberg.plan.planner import Connector, build_plan
from airberg.plan.transformations import columns_as_builtins
from support.key_directory import keys_named

USERS: dict[str, Any] = {
    "name": "users",
    "json_schema": {
        "properties": {
            "id": {"type": "integer"},
            "name": {"type": "string"},
            "price": {"type": "number"},
            "open": {"type": "boolean"},
            "created_at": {"type": "string", "format": "date-time"},
            "born": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "free": {"type": "object"},
            "address": {"type": "object", "properties": {"city": {"type": "string"}}},
            "day(x)": {"type": "integer"},
            "id desc": {"type": "integer"},
            "a, b": {"type": "string"},
        }
    },
    "supported_sync_modes": ["full_refresh"],
    "source_defined_primary_key": [["id"]],
}


def plan(
    partition_by: tuple[str, ...] = (), sort_by: tuple[str, ...] = (), stream: str = "users", **changes: Any
) -> JobPlan:
    """Plan a request with one member of `tables`."""
    base: dict[str, Any] = {"name": "n", "source_name": "source-x", "schema_name": "shop", "mode": "append"}
    table = TableRequest(stream=stream, partition_by=partition_by, sort_by=sort_by)
    request = IngestRequest(**({**base, "tables": (table,)} | changes))
    keys = keys_named("default")
    return build_plan(request, Connector("source-x", "1.0", [USERS], 1.0), keys)


def users(*args: Any, **changes: Any) -> StreamPlan:
    """The plan of the stream."""
    return plan(*args, **changes).streams[0]


def texts(terms: tuple[Any, ...]) -> list[str]:
    """Terms as people read them."""
    return [str(term) for term in terms]


def rule(column: str, kind: str, **members: Any) -> Transformation:
    """One transformation."""
    return Transformation(column=column, transformation_type=kind, **members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("id", "id"),
        (" identity( id ) ", "id"),
        ("bucket(16, id)", "bucket(16, id)"),
        ("BUCKET(16,id)", "bucket(16, id)"),
        ("truncate(4, name)", "truncate(4, name)"),
        ("year(born)", "year(born)"),
        ("month(born)", "month(born)"),
        ("day(created_at)", "day(created_at)"),
        ("hour(created_at)", "hour(created_at)"),
        ("void(price)", "void(price)"),
        ("address.city", "address.city"),
        ("bucket(3, address.city)", "bucket(3, address.city)"),
        ("day(x)", "day(x)"),  # there is a column of just that name
        ("identity(day(x))", "day(x)"),
        ("bucket(7, a, b)", "bucket(7, a, b)"),
        ("day(_airbyte_extracted_at)", "day(_airbyte_extracted_at)"),
        ("_airbyte_meta.sync_id", "_airbyte_meta.sync_id"),
    ],
)
def test_partition_expressions(text: str, read: str) -> None:
    """All transforms, any case and spaces, nested and metadata columns, columns of strange names."""
    assert texts(users((text,)).partition_by) == [read]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("id", "id asc nulls first"),
        ("id asc", "id asc nulls first"),
        ("name DESC nulls FIRST", "name desc nulls first"),
        ("id nulls last", "id asc nulls last"),
        ("bucket(16, id) desc", "bucket(16, id) desc nulls last"),
        ("created_at desc nulls last", "created_at desc nulls last"),
        ("name desc", "name desc nulls last"),
        ("id desc", "id desc asc nulls first"),  # there is a column of just that name
        ("identity(id) desc", "id desc nulls last"),
        ("price", "price asc nulls first"),
    ],
)
def test_sort_expressions(text: str, read: str) -> None:
    """Direction and place of nulls, by default as Iceberg has them."""
    assert texts(users((), (text,)).sort_by) == [read]


PROBLEMS = [
    ("dya(created_at)", "unknown-transform", '"day"'),
    ("zorder(id)", "unknown-transform", "Known: "),
    ("day(create_at)", "unknown-column", '"created_at"'),
    ("idd", "unknown-column", '"id"'),
    ("address.town", "unknown-column", "address.city"),
    ("address.city.x", "unknown-column", "Known"),
    ("bucket(id)", "bad-expression", "bucket(16, id)"),
    ("bucket(0, id)", "bad-expression", "bucket(16, id)"),
    ("bucket(2147483648, id)", "bad-expression", "bucket(16, id)"),
    ("bucket(-1, id)", "bad-expression", "bucket(16, id)"),
    ("truncate(99999999999, name)", "bad-expression", "truncate(16, id)"),
    ("day(", "bad-expression", "day(created_at)"),
    ("day()", "bad-expression", "day(created_at)"),
    ("", "bad-expression", "day(created_at)"),
    ("hour(born)", "transform-does-not-fit", "cast"),
    ("day(name)", "transform-does-not-fit", "cast"),
    ("bucket(4, open)", "transform-does-not-fit", "cast"),
    ("truncate(4, created_at)", "transform-does-not-fit", "cast"),
    ("price", "transform-does-not-fit", "cast"),
    ("tags", "transform-does-not-fit", "cast"),
    ("address", "transform-does-not-fit", "cast"),
    ("_airbyte_meta", "transform-does-not-fit", "cast"),
]


@pytest.mark.parametrize(("text", "code", "guidance"), PROBLEMS)
def test_what_is_wrong_is_told(text: str, code: str, guidance: str) -> None:
    """With a pointer to the expression, and a way out."""
    with pytest.raises(InvalidRequest) as caught:
        plan(("id", text))
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/tables/users/partition_by/1", code)
    assert guidance in problem.guidance


FIT_DATES = "identity, bucket, year, month, day"


def test_the_fitting_transforms_are_named() -> None:
    """What does not fit says what would."""
    with pytest.raises(InvalidRequest) as caught:
        plan(("hour(born)",), ("void(id)", "tags desc"))
    assert [(p.pointer, p.message) for p in caught.value.problems] == [
        (
            "/tables/users/partition_by/0",
            f'hour(born) does not fit "born" of "users": it is a date, and what fits that is {FIT_DATES}.',
        ),
        (
            "/tables/users/sort_by/0",
            'void(id) does not fit "id" of "users": void orders nothing.',
        ),
        (
            "/tables/users/sort_by/1",
            'tags does not fit "tags" of "users": nothing fits its type, list<string>.',
        ),
    ]


TYPES: list[ColumnType] = [
    BOOLEAN,
    INT,
    LONG,
    FLOAT,
    DOUBLE,
    Decimal(9, 2),
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    STRING,
    BINARY,
    JSON,
    List(LONG),
    Struct((Field("a", LONG),)),
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("name", [t for t in TRANSFORMS if t != "void"])
def test_what_fits_is_what_pyiceberg_says(type_: ColumnType, name: str) -> None:
    """One exception: floating-point numbers sort, but do not partition."""
    transform = parse_transform(f"{name}[4]" if name in ("bucket", "truncate") else name)
    fits = transform.can_transform(iceberg_type(type_))
    assert (name in fitting_transforms(type_, partition=False)) == fits
    assert (name in fitting_transforms(type_, partition=True)) == (fits and type_ not in (FLOAT, DOUBLE))


@pytest.mark.parametrize(
    ("expressions", "code"),
    [
        (("id", "id"), "redundant-expression"),
        (("year(created_at)", "day(created_at)"), "redundant-expression"),
        (("bucket(4, id)", "bucket(4, id)"), "redundant-expression"),
        (("bucket(4, id)", "bucket(8, id)"), None),
        (("day(created_at)", "day(born)"), None),
        (("id", "bucket(4, id)"), None),
    ],
)
def test_what_says_nothing_new(expressions: tuple[str, ...], code: str | None) -> None:
    """Iceberg refuses the same field twice, and two units of time of one column."""
    if code is None:
        assert texts(users(expressions).partition_by) == list(expressions)
        return
    with pytest.raises(InvalidRequest) as caught:
        plan(expressions)
    assert [(p.pointer, p.code) for p in caught.value.problems] == [("/tables/users/partition_by/1", code)]


def test_an_order_has_a_key_once() -> None:
    """Also in another direction."""
    with pytest.raises(InvalidRequest) as caught:
        plan((), ("name", "name desc"))
    assert [(p.pointer, p.code) for p in caught.value.problems] == [
        ("/tables/users/sort_by/1", "redundant-expression")
    ]


def test_streams_that_are_not_there() -> None:
    """The pointer is escaped; the nearest stream is named."""
    with pytest.raises(InvalidRequest) as caught:
        plan(("id",), stream="us/ers~")
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/tables/us~1ers~0", "unknown-stream")
    assert '"users"' in problem.guidance


def test_one_table_is_described_once() -> None:
    """A stream has two names; its table is described under one of them."""
    tables = tuple(TableRequest(stream=name, partition_by=("id",)) for name in ("users", "public.users"))
    request = IngestRequest(name="n", source_name="source-x", schema_name="s", mode="append", tables=tables)
    connector = Connector("source-x", "1.0", [USERS | {"namespace": "public"}], 1.0)
    with pytest.raises(InvalidRequest) as caught:
        build_plan(request, connector, keys_named("default"))
    assert [(p.pointer, p.code) for p in caught.value.problems] == [
        ("/tables/public.users", "conflicting-tables")
    ]


def test_renames_and_casts() -> None:
    """Columns are named as in the source; what fits is decided by the type after the cast."""
    rules = (
        rule("created_at", "rename", new_name="made"),
        rule("name", "cast", target_type="date"),
        rule("address.city", "rename", new_name="town"),
    )
    stream = users(("day(created_at)", "year(name)", "address.city"), column_transformations=rules)
    assert texts(stream.partition_by) == ["day(made)", "year(name)", "address.town"]
    assert [term.source for term in stream.partition_by] == [("created_at",), ("name",), ("address", "city")]
    with pytest.raises(InvalidRequest) as caught:
        plan(("day(made)", "truncate(3, name)"), column_transformations=rules)
    assert [p.code for p in caught.value.problems] == ["unknown-column", "transform-does-not-fit"]


@pytest.mark.parametrize(
    "rules",
    [
        (rule("address", "cast", target_type="json"),),
        (rule("address", "encrypt"),),
        (rule("address", "drop"),),
        (rule("address.city", "drop"),),
    ],
)
def test_columns_that_the_table_does_not_have(rules: tuple[Transformation, ...]) -> None:
    """A column that is dropped, or goes into a whole, is no column to partition by."""
    with pytest.raises(InvalidRequest) as caught:
        plan(("address.city",), ("address.city",), column_transformations=rules)
    assert [(p.pointer, p.code) for p in caught.value.problems] == [
        ("/tables/users/partition_by/0", "partition-column-lost"),
        ("/tables/users/sort_by/0", "partition-column-lost"),
    ]


def test_metadata_columns_only_where_there_are_some() -> None:
    """Without metadata columns they are unknown."""
    with pytest.raises(InvalidRequest) as caught:
        plan(("day(_airbyte_extracted_at)",), add_ingestion_metadata=False)
    assert [p.code for p in caught.value.problems] == ["unknown-column"]


def modes(stream: StreamPlan) -> dict[str, str]:
    """Column → mode of its encryption, as the plan shows it."""
    shown: list[dict[str, Any]] = columns_as_builtins(stream.columns)
    return {
        c["column"]: c["transformations"]["encrypt"]["mode"]
        for c in shown
        if "encrypt" in c["transformations"]
    }


def test_encrypted_columns_become_deterministic() -> None:
    """Never at random where partitions or order need equal values; the plan shows it and says so."""
    rules = tuple(rule(column, "encrypt") for column in ("id", "name", "born", "free"))
    made = plan(("bucket(4, id)", "void(born)"), ("name desc",), column_transformations=rules)
    assert modes(made.streams[0]) == {
        "id": "deterministic",
        "name": "deterministic",
        "born": "random",
        "free": "random",
    }
    assert [w.split(" is encrypted")[0] for w in made.warnings if "deterministically" in w] == [
        'users: "id"',
        'users: "name"',
    ]


@pytest.mark.parametrize("text", ["truncate(4, name)", "day(name)"])
def test_ciphertext_has_no_parts(text: str) -> None:
    """Of an encrypted column only equality is left."""
    with pytest.raises(InvalidRequest) as caught:
        plan((text,), column_transformations=(rule("name", "encrypt"),))
    (problem,) = caught.value.problems
    assert problem.code == "transform-does-not-fit"
    assert "what fits ciphertext is identity and bucket" in problem.message


@pytest.mark.parametrize(
    ("target", "width", "fits"),
    [
        ("decimal(2,0)", 10, True),
        ("decimal(2,0)", 60, True),
        ("decimal(2,0)", 70, False),
        ("decimal(2,0)", 100, True),
        ("decimal(9,2)", 50, True),
        ("decimal(38,0)", 2147483647, True),
        ("decimal(5,0)", 2147483647, False),
    ],
)
def test_widths_that_take_decimals_out_of_their_bytes(target: str, width: int, fits: bool) -> None:
    """Truncation goes down; what a manifest could not hold is refused before anything is written."""
    rules = (rule("price", "cast", target_type=target),)
    if fits:
        stream = users((f"truncate({width}, price)",), column_transformations=rules)
        precision = int(target[8:].split(",")[0])
        lowest = -(10**precision - 1) // width * width
        assert stream.partition_by[0].argument == width
        size = (10**precision - 1).bit_length() // 8 + 1
        assert lowest.to_bytes(size, "big", signed=True)
        return
    with pytest.raises(InvalidRequest) as caught:
        plan((f"truncate({width}, price)",), column_transformations=rules)
    assert caught.value.problems[0].code == "transform-does-not-fit"


def test_plans_are_stored_and_old_ones_still_read() -> None:
    """Partitions and order survive the store; a plan or request from before has none."""
    made = plan(("bucket(16, id)",), ("name desc",))
    assert decode_plan(encode_plan(made)) == made
    old = msgspec.json.decode(encode_plan(made))
    for stream in old["streams"]:
        del stream["partition_by"], stream["sort_by"]
    again = decode_plan(msgspec.json.encode(old).decode())
    assert again.streams[0].partition_by == again.streams[0].sort_by == ()
    request = {"name": "n", "source_name": "s", "schema_name": "s", "mode": "append"}
    assert msgspec.json.decode(msgspec.json.encode(request), type=IngestRequest).tables == ()
