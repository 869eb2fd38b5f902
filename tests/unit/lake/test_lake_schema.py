"""Types both ways, and the rules of evolution."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import (
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    UUIDType,
)

from airberg.columns.targets import cast_problem, parse_target_type
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
    stored_type,
)
from airberg.errors import ConfigurationFailed
from airberg.lake.schema import (
    AddedColumn,
    PromotedColumn,
    column_paths,
    column_type_of,
    iceberg_schema,
    iceberg_type,
    schema_changes,
)
from airberg.quoted import quoted

PRIMITIVES = [BOOLEAN, INT, LONG, FLOAT, DOUBLE, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, STRING, BINARY]
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="."), min_size=1, max_size=6)


def structs(inner: st.SearchStrategy[ColumnType]) -> st.SearchStrategy[ColumnType]:
    """Structs and lists of what is inside."""
    fields = st.lists(st.tuples(NAMES, inner), min_size=1, max_size=4, unique_by=lambda f: f[0].casefold())
    return st.one_of(inner.map(List), fields.map(lambda fs: Struct(tuple(Field(n, t) for n, t in fs))))


DECIMALS = st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: Decimal(p, s)))
TYPES = st.recursive(st.one_of(st.sampled_from(PRIMITIVES), DECIMALS), structs, max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(type_=TYPES)
def test_a_type_survives_the_way_to_iceberg_and_back(type_: ColumnType) -> None:
    """Every type that the plan knows, nested as it may be, is itself again."""
    assert column_type_of(iceberg_type(type_)) == type_


@settings(max_examples=60, deadline=None)
@given(type_=TYPES)
def test_a_table_with_the_same_columns_needs_no_change(type_: ColumnType) -> None:
    """Evolution is idempotent."""
    fields = (Field("x", type_, "doc"), Field("y", JSON))
    assert schema_changes(iceberg_schema(fields), fields) == ()


def test_json_is_a_string_and_keeps_its_doc() -> None:
    """JSON text has no type of its own in Iceberg."""
    schema = iceberg_schema((Field("data", JSON, "free form"),))
    assert schema.find_type("data") == StringType()
    assert schema.find_field("data").doc == "free form"


def test_a_type_that_we_do_not_write_is_refused() -> None:
    """A uuid column of another engine has no counterpart."""
    with pytest.raises(ConfigurationFailed, match="uuid"):
        column_type_of(UUIDType())


def test_added_and_widened_at_every_depth() -> None:
    """New fields of structs and of items of lists are added, narrower types widened."""
    old = iceberg_schema(
        (
            Field("id", INT),
            Field("box", Struct((Field("price", Decimal(9, 2)),))),
            Field("items", List(Struct((Field("n", FLOAT),)))),
            Field("ids", List(List(INT))),
        )
    )
    new = (
        Field("id", LONG),
        Field("box", Struct((Field("price", Decimal(20, 2)), Field("tax", DOUBLE, "in percent")))),
        Field("items", List(Struct((Field("n", DOUBLE), Field("m", STRING))))),
        Field("ids", List(List(LONG))),
        Field("extra", BINARY),
    )
    assert schema_changes(old, new) == (
        PromotedColumn(("id",), INT, LONG),
        PromotedColumn(("box", "price"), Decimal(9, 2), Decimal(20, 2)),
        AddedColumn(("box", "tax"), DOUBLE, "in percent"),
        PromotedColumn(("items", "element", "n"), FLOAT, DOUBLE),
        AddedColumn(("items", "element", "m"), STRING),
        PromotedColumn(("ids", "element", "element"), INT, LONG),
        AddedColumn(("extra",), BINARY),
    )


def test_a_column_that_disappears_stays() -> None:
    """The table is not narrowed; the source may send it again."""
    assert schema_changes(iceberg_schema((Field("a", LONG), Field("b", LONG))), (Field("a", LONG),)) == ()


@pytest.mark.parametrize(
    ("table", "source"),
    [
        (LONG, INT),
        (DOUBLE, FLOAT),
        (DOUBLE, INT),
        (Decimal(20, 2), Decimal(9, 2)),
        (Decimal(38, 9), Decimal(12, 4)),
        (Decimal(38, 0), LONG),
        (Decimal(12, 2), INT),
    ],
)
def test_a_wider_type_is_accepted_as_it_is(table: ColumnType, source: ColumnType) -> None:
    """A column that takes every value of the source is left alone."""
    assert schema_changes(iceberg_schema((Field("x", table),)), (Field("x", source),)) == ()


@pytest.mark.parametrize(
    ("table", "source"),
    [
        (STRING, LONG),
        (LONG, STRING),
        (LONG, DOUBLE),
        (DOUBLE, LONG),
        (FLOAT, INT),
        (INT, DOUBLE),
        (DATE, TIMESTAMP),
        (TIMESTAMP, TIMESTAMPTZ),
        (STRING, BINARY),
        (BINARY, STRING),
        (Decimal(10, 2), Decimal(12, 4)),
        (Decimal(12, 2), LONG),
        (INT, Decimal(10, 0)),
        (LONG, Struct((Field("a", LONG),))),
        (Struct((Field("a", LONG),)), JSON),
        (List(LONG), LONG),
        (STRING, Struct((Field("a", LONG),))),
        (List(LONG), JSON),
        (STRING, List(LONG)),
        (List(STRING), Struct((Field("a", LONG),))),
        (LONG, Decimal(38, 0)),
        (DOUBLE, Decimal(38, 9)),
        (BOOLEAN, STRING),
        (TIMESTAMPTZ, LONG),
        (TIME, STRING),
    ],
)
def test_other_changes_are_refused_with_the_ways_out(table: ColumnType, source: ColumnType) -> None:
    """The message names the column, the old and the new type; the guidance what can be done."""
    with pytest.raises(ConfigurationFailed) as caught:
        schema_changes(
            iceberg_schema((Field("box", Struct((Field("x", table),))),)),
            (Field("box", Struct((Field("x", source),))),),
        )
    for part in ("box.x", str(table), str(source)):
        assert part in caught.value.message
    assert caught.value.code == "column-type-changed"
    guidance = caught.value.guidance
    for way in ("ename it", "new table"):
        assert way in guidance
    # A cast that is proposed is one that can be asked for, and after it the column fits.
    proposed = re.match(r"Cast the column to (\S+), ", guidance)
    possible = not isinstance(table, Struct | List) and cast_problem(source, table) is None
    assert (proposed is not None) == possible
    if proposed:
        target = stored_type(parse_target_type(proposed[1]))
        assert schema_changes(iceberg_schema((Field("x", table),)), (Field("x", target),)) == ()


@pytest.mark.parametrize(
    ("table", "source", "at"),
    [
        (List(LONG), List(DOUBLE), "box.x.element"),
        (List(Struct((Field("n", LONG),))), List(Struct((Field("n", STRING),))), "box.x.element.n"),
        (List(List(LONG)), List(List(JSON)), "box.x.element.element"),
        (List(Struct((Field("n", List(LONG)),))), List(Struct((Field("n", LONG),))), "box.x.element.n"),
    ],
)
def test_a_change_inside_a_list_is_refused_with_what_can_be_done(
    table: ColumnType, source: ColumnType, at: str
) -> None:
    """What is in a list cannot be cast: only the list as a whole can get another name."""
    with pytest.raises(ConfigurationFailed) as caught:
        schema_changes(
            iceberg_schema((Field("box", Struct((Field("x", table),))),)),
            (Field("box", Struct((Field("x", source),))),),
        )
    assert quoted(at) in caught.value.message
    assert 'Rename the list "box.x"' in caught.value.guidance
    assert "Cast" not in caught.value.guidance


def test_the_paths_of_a_table() -> None:
    """Every column at every depth, items of lists and maps too."""
    item = Struct((Field("a.b", LONG),))
    schema = iceberg_schema((Field("l", List(List(item))), Field("s", item)))
    assert column_paths(schema) == {
        ("l",),
        ("l", "element"),
        ("l", "element", "element"),
        ("l", "element", "element", "a.b"),
        ("s",),
        ("s", "a.b"),
    }
    mapped = Schema(NestedField(1, "m", MapType(2, StringType(), 3, LongType(), False), required=False))
    assert column_paths(mapped) == {("m",), ("m", "key"), ("m", "value")}


def test_names_that_differ_only_in_case_are_refused() -> None:
    """With the table, within the source, and inside structs."""
    table = iceberg_schema((Field("Id", LONG),))
    with pytest.raises(ConfigurationFailed, match="only in case"):
        schema_changes(table, (Field("id", LONG),))
    for fields in [
        (Field("a", LONG), Field("A", LONG)),
        (Field("x", Struct((Field("straße", LONG), Field("STRASSE", LONG)))),),
        (Field("x", List(List(Struct((Field("a", LONG), Field("A", LONG)))))),),
    ]:
        with pytest.raises(ConfigurationFailed, match="only in case"):
            iceberg_schema(fields)
    with pytest.raises(ConfigurationFailed, match="twice"):
        iceberg_schema((Field("a", LONG), Field("a", LONG)))


def test_names_that_meet_in_icebergs_dotted_form_are_refused() -> None:
    """A column `a.b` beside a struct `a` with a field `b`."""
    with pytest.raises(ConfigurationFailed, match="one name"):
        iceberg_schema((Field("a.b", LONG), Field("a", Struct((Field("b", LONG),)))))


def test_required_columns_and_maps_of_other_engines_are_refused() -> None:
    """A source may leave out anything, so we cannot promise what another engine declared."""
    required = Schema(NestedField(1, "a", LongType(), required=True))
    with pytest.raises(ConfigurationFailed, match="required"):
        schema_changes(required, (Field("a", LONG),))
    items = Schema(NestedField(1, "a", ListType(2, IntegerType(), element_required=True), required=False))
    with pytest.raises(ConfigurationFailed, match="items are required"):
        schema_changes(items, (Field("a", List(INT)),))
    mapped = Schema(NestedField(1, "a", MapType(2, StringType(), 3, LongType(), False), required=False))
    with pytest.raises(ConfigurationFailed, match="map<string, long>"):
        schema_changes(mapped, (Field("a", Struct((Field("k", LONG),))),))
    nested = Schema(
        NestedField(1, "a", StructType(NestedField(2, "b", LongType(), required=True)), required=False)
    )
    with pytest.raises(ConfigurationFailed, match=r"a\.b"):
        schema_changes(nested, (Field("a", Struct(())),))
