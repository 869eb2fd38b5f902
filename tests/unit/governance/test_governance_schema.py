"""Field paths of DataHub and the columns that they belong to."""

from __future__ import annotations

import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    DecimalType,
    IcebergType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
)

from airberg.governance.schema import describe_schema


def test_nested_columns_have_version_2_paths(everything: Table) -> None:
    """Structs, lists of structs, lists of lists, maps and decimals are found below DataHub's own paths."""
    paths = describe_schema(everything.schema()).paths
    root = "[version=2.0].[type=struct]"
    assert paths["email",] == f"{root}.[type=bytes].email"
    assert paths["amount",] == f"{root}.[type=fixed].amount"
    assert (
        paths["address", "geo", "lat"] == f"{root}.[type=struct].address.[type=struct].geo.[type=double].lat"
    )
    assert paths["labels",] == f"{root}.[type=array].[type=string].labels"
    assert paths["lines", "price"] == f"{root}.[type=array].[type=struct].lines.[type=fixed].price"
    assert paths["matrix",] == f"{root}.[type=array].[type=array].[type=double].matrix"
    assert paths["attributes", "value"].endswith(".attributes.[type=long].value")
    assert paths["first name",] == f"{root}.[type=string].first name"


def test_descriptions_and_types_are_kept(everything: Table) -> None:
    """Docs become descriptions, Iceberg types native types, decimals keep precision and scale."""
    fields = {f.fieldPath.rsplit(".", 1)[-1]: f for f in describe_schema(everything.schema()).fields}
    assert (fields["id"].description, fields["id"].nullable) == ("Primary key", False)
    assert fields["city"].description == "Town"
    assert fields["amount"].nativeDataType == "decimal(10, 2)"
    assert json.loads(fields["amount"].jsonProps) == {"logicalType": "decimal", "precision": 10, "scale": 2}


def test_two_descriptions_of_one_schema_are_equal(everything: Table) -> None:
    """Nothing in a description is left to chance: a file written twice is the same file."""
    first, second = (describe_schema(everything.schema()) for _ in range(2))
    assert [f.to_obj() for f in first.fields] == [f.to_obj() for f in second.fields]
    assert first.paths == second.paths


def test_dotted_names_do_not_take_each_others_place() -> None:
    """`a.b` is `b` as in DataHub's source, unless `b`, or another dotted name, is there already."""
    names = ["b", "a.b", "c.d", "e.d", "f."]
    schema = Schema(*(NestedField(i, n, LongType(), required=False) for i, n in enumerate(names, 1)))
    paths = describe_schema(schema).paths
    found = [paths[name,].rsplit(".", 1)[-1] for name in names]
    assert found == ["b", "a_b", "d", "e_d", "f_"]


NAMES = st.text(string.ascii_letters + string.digits + " _-.$@é", min_size=1, max_size=6)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Schemas of any nesting with any names."""
    ids = iter(range(1, 10_000))

    def kind(depth: int) -> IcebergType:
        choice = draw(st.sampled_from("pppd" if depth > 2 else "pdslm"))
        match choice:
            case "s":
                return StructType(*fields(depth + 1))
            case "l":
                return ListType(next(ids), kind(depth + 1), element_required=draw(st.booleans()))
            case "m":
                return MapType(next(ids), StringType(), next(ids), kind(depth + 1), value_required=False)
            case "d":
                return DecimalType(38, 9)
        return draw(st.sampled_from([StringType(), LongType()]))

    def fields(depth: int) -> list[NestedField]:
        names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        return [NestedField(next(ids), name, kind(depth), required=draw(st.booleans())) for name in names]

    return Schema(*fields(0))


@given(schemas())
@settings(max_examples=60, deadline=None)
def test_every_field_has_a_path_of_its_own(schema: Schema) -> None:
    """Whatever the names and the nesting: no field is lost, and no two share a path."""
    described = describe_schema(schema)
    assert len(set(described.paths.values())) == len(described.paths) == len(described.fields)
