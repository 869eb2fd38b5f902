"""Types of columns as Iceberg types, and what has to change in a table so that it takes new rows.

The rules of evolution are those of the Iceberg specification (Schemas and Data Types, Schema Evolution),
narrowed: what we add is optional, and a type that already takes every value is left alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from airberg.columns.targets import cast_problem, parse_target_type
from airberg.columns.types import ColumnType, Decimal, Field, Json, List, Primitive, Struct
from airberg.errors import ConfigurationFailed
from airberg.quoted import quoted

Path: TypeAlias = tuple[str, ...]

_PRIMITIVES: dict[str, PrimitiveType] = {
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "string": StringType(),
    "binary": BinaryType(),
}
_NAMES = {type_: name for name, type_ in _PRIMITIVES.items()}

_CAST_NAMES: dict[IcebergType, str] = {TimestamptzType(): "timestamp", TimestampType(): "timestamp_ntz"}

# Decimal digits before the point that any value of the type fits into.
_INTEGER_DIGITS = {IntegerType(): 10, LongType(): 19}


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column, or a field of a struct, that the table does not have yet; it will be optional.

    Attributes:
        path: Names from the top down; the item of a list is called `element`, as in Iceberg.
    """

    path: Path
    type: ColumnType
    doc: str | None = None

    def __str__(self) -> str:
        return f"add {'.'.join(self.path)} {self.type}"


@dataclass(frozen=True, slots=True)
class PromotedColumn:
    """A column whose type becomes wider, without rewriting its files."""

    path: Path
    old: ColumnType
    new: ColumnType

    def __str__(self) -> str:
        return f"widen {'.'.join(self.path)} from {self.old} to {self.new}"


SchemaChange: TypeAlias = AddedColumn | PromotedColumn


# ---- types -------------------------------------------------------------------------------------------------


def iceberg_type(type_: ColumnType, ids: Iterator[int] | None = None) -> IcebergType:
    """The Iceberg type of a column type; JSON text is a string.

    Args:
        type_: The column type.
        ids: Where field ids of nested types come from; default counts from 1. Iceberg catalogs give their
            own ids when a table is made, so always work from `table.schema()` afterwards.
    """
    ids = itertools.count(1) if ids is None else ids
    match type_:
        case Primitive(name=name):
            return _PRIMITIVES[name]
        case Decimal(precision=precision, scale=scale):
            return DecimalType(precision, scale)
        case Json():
            return StringType()
        case List(element=element):
            return ListType(
                element_id=next(ids), element_type=iceberg_type(element, ids), element_required=False
            )
        case Struct(fields=fields):
            return StructType(*(_nested_field(field, ids) for field in fields))


def _nested_field(field: Field, ids: Iterator[int]) -> NestedField:
    return NestedField(next(ids), field.name, iceberg_type(field.type, ids), required=False, doc=field.doc)


def iceberg_schema(fields: Sequence[Field], identifier: Sequence[Path] = ()) -> Schema:
    """The schema of a new table with these columns, in this order, all optional but the identifier's.

    Args:
        fields: The columns.
        identifier: Paths of the identifier fields: columns of the top level, which become required.

    Raises:
        ConfigurationFailed: Two columns cannot live in one table.
    """
    _check_names(fields, ())
    ids = itertools.count(1)
    nested = [_nested_field(field, ids) for field in fields]
    named = {path[0] for path in identifier}
    for place, field in enumerate(nested):
        if field.name in named:
            nested[place] = field.model_copy(update={"required": True})
    try:
        return Schema(*nested, identifier_field_ids=[f.field_id for f in nested if f.name in named])
    # Iceberg names fields with dots, and there a column `a.b` meets a field `b` of a struct `a`.
    except ValueError as error:
        raise ConfigurationFailed(
            f"Two columns have one name in Iceberg: {error}",
            guidance="Rename one of them.",
            code="column-name-collision",
        ) from None


def column_type_of(type_: IcebergType) -> ColumnType:
    """The column type of an Iceberg type: the reverse of `iceberg_type`, but strings never become JSON.

    Raises:
        ConfigurationFailed: The type has no counterpart (maps, uuid, fixed, nanoseconds).
    """
    if isinstance(type_, PrimitiveType) and type_ in _NAMES:
        return Primitive(_NAMES[type_])  # type: ignore[arg-type]  # the keys are the literal's values
    if isinstance(type_, DecimalType):
        return Decimal(type_.precision, type_.scale)
    if isinstance(type_, ListType):
        return List(column_type_of(type_.element_type))
    if isinstance(type_, StructType):
        return Struct(tuple(Field(f.name, column_type_of(f.field_type), f.doc) for f in type_.fields))
    raise ConfigurationFailed(
        f"The Iceberg type {type_} is not one that Airberg writes.",
        guidance="Write to a new table, or leave this column out.",
        code="unsupported-type",
    )


def column_paths(schema: Schema) -> frozenset[Path]:
    """The paths of all columns of a table, nested ones too; items of lists are called `element`."""
    return frozenset(_paths(schema.as_struct(), ()))


def _paths(type_: IcebergType, path: Path) -> Iterator[Path]:
    members: Sequence[tuple[str, IcebergType]] = ()
    match type_:
        case StructType():
            members = [(field.name, field.field_type) for field in type_.fields]
        case ListType():
            members = [("element", type_.element_type)]
        case MapType():
            members = [("key", type_.key_type), ("value", type_.value_type)]
    for name, inside in members:
        yield (*path, name)
        yield from _paths(inside, (*path, name))


# ---- evolution ---------------------------------------------------------------------------------------------


def schema_changes(existing: Schema, wanted: Sequence[Field]) -> tuple[SchemaChange, ...]:
    """What has to change in a table so that it takes rows with the columns `wanted`.

    A column that `wanted` lacks stays and is null from then on; a type that is wider already is accepted.
    Identifier fields are required: `wanted` must have them, and rows without a value in one are refused when
    they are written.

    Raises:
        ConfigurationFailed: A column cannot become what is wanted. Nothing has been written.
    """
    return tuple(_struct_changes(existing.as_struct(), wanted, (), frozenset(existing.identifier_field_ids)))


def _struct_changes(
    existing: StructType,
    wanted: Sequence[Field],
    path: Path,
    identifier: frozenset[int] = frozenset(),
    in_list: Path = (),
) -> Iterator[SchemaChange]:
    _check_names(wanted, path)
    present = {field.name: field for field in existing.fields}
    folded = {field.name.casefold(): field.name for field in existing.fields}
    names = {field.name for field in wanted}
    for member in existing.fields:
        here_too = member.name in names
        if member.required and not (here_too and member.field_id in identifier):
            missing = "" if here_too else ", and the source does not have it"
            raise _refused(
                (*path, member.name),
                f"is required in the table{missing}",
                "A source may leave out any property: make the column optional, or write to a new table.",
                "column-required",
            )
    for field in wanted:
        here = (*path, field.name)
        if field.name in present:
            yield from _type_changes(present[field.name].field_type, field.type, here, in_list)
        elif (other := folded.get(field.name.casefold())) is not None:
            raise _refused(
                here,
                f"differs only in case from the column {quoted(other)} that the table has",
                f"Many engines cannot tell them apart: rename it to {quoted(other)} or to another name.",
                "column-name-case",
            )
        else:
            yield AddedColumn(here, field.type, field.doc)


def _type_changes(
    old: IcebergType, wanted: ColumnType, path: Path, in_list: Path = ()
) -> Iterator[SchemaChange]:
    """What has to change in one column; `in_list` is the path of the outermost list that it is in."""
    if isinstance(old, StructType) and isinstance(wanted, Struct):
        yield from _struct_changes(old, wanted.fields, path, in_list=in_list)
    elif isinstance(old, ListType) and isinstance(wanted, List):
        if old.element_required:
            raise _refused(
                path,
                "is a list whose items are required in the table",
                "A source may send null items: make them optional, or write to a new table.",
                "column-required",
            )
        yield from _type_changes(old.element_type, wanted.element, (*path, "element"), in_list or path)
    else:
        new = iceberg_type(wanted)
        if old == new or _takes_all(old, new):
            return
        if not _promotes(old, new):
            raise _refused(
                path,
                f"is {type_text(old)} in the table and {wanted} in the source",
                _ways_out(old, wanted, in_list),
                "column-type-changed",
            )
        yield PromotedColumn(path, column_type_of(old), wanted)


def _ways_out(old: IcebergType, wanted: ColumnType, in_list: Path) -> str:
    """What can be done about a type that a table cannot follow."""
    if in_list:
        return (
            f"Rename the list {quoted('.'.join(in_list))} (what is in lists cannot be cast or "
            "renamed by itself), "
            "or write to a new table."
        )
    target = _CAST_NAMES.get(old, type_text(old))
    try:
        castable = cast_problem(wanted, parse_target_type(target)) is None
    except ValueError:  # structs, lists, and what we do not write
        castable = False
    return f"{f'Cast the column to {target}, rename' if castable else 'Rename'} it, or write to a new table."


def _promotes(old: IcebergType, new: IcebergType) -> bool:
    """Whether Iceberg v2 lets the type of a column change so (specification, Schema Evolution)."""
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        return old.scale == new.scale and old.precision < new.precision
    return (old, new) in ((IntegerType(), LongType()), (FloatType(), DoubleType()))


def _takes_all(old: IcebergType, new: IcebergType) -> bool:
    """Whether a column of the type `old` holds every value of the type `new` without loss."""
    if isinstance(old, DecimalType):
        if isinstance(new, DecimalType):
            return old.scale >= new.scale and old.precision - old.scale >= new.precision - new.scale
        return old.precision - old.scale >= _INTEGER_DIGITS.get(new, 39)  # type: ignore[call-overload,no-any-return]  # a dict of types
    return (old, new) in (
        (LongType(), IntegerType()),
        (DoubleType(), FloatType()),
        (DoubleType(), IntegerType()),
    )


def _check_names(fields: Sequence[Field], path: Path) -> None:
    seen: dict[str, str] = {}
    for field in fields:
        here = (*path, field.name)
        if not field.name:
            raise _refused(here, "has an empty name", "Rename it.", "column-name-empty")
        if (other := seen.get(field.name.casefold())) is not None:
            problem = "occurs twice" if other == field.name else f"differs only in case from {quoted(other)}"
            raise _refused(here, problem, "Rename or drop one of them.", "column-name-case")
        seen[field.name.casefold()] = field.name
        inside = field.type
        while isinstance(inside, List):
            inside, here = inside.element, (*here, "element")
        if isinstance(inside, Struct):
            _check_names(inside.fields, here)


def type_text(type_: IcebergType) -> str:
    """The type as people read it: in our own words where we have them, else in Iceberg's."""
    try:
        return str(column_type_of(type_))
    except ConfigurationFailed:
        return str(type_)


def _refused(path: Path, problem: str, guidance: str, code: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The column {quoted('.'.join(path))} {problem}.", guidance=guidance, code=code
    )
