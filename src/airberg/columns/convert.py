"""From one JSON value of a record to the value in the table: read, cast, protect; a change where it fails.

A value that does not fit never fails a run: it becomes null and leaves an entry for
`_airbyte_meta.changes`. A null stays null, without a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, overload

from airberg.columns.casting import caster
from airberg.columns.json_text import CellValue, JsonValue, parse_exact
from airberg.columns.masking import masked
from airberg.columns.reading import REJECTIONS, TYPECAST, Convert, reader, reason_of
from airberg.columns.types import ColumnType, Decimal, Json, List, Primitive, Struct
from airberg.keys.cipher import ColumnCipher, canonical_json, canonical_text
from airberg.keys.hashing import ColumnHash
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule

Change: TypeAlias = dict[str, str]
"""`field` (path in the table, with dots; `element` for the items of a list), `change`, `reason`."""

Converter: TypeAlias = Callable[[JsonValue, list[Change]], CellValue]


class CipherFor(Protocol):
    """Gives the cipher or the hash of a rule, as `CipherShelf.cipher_for` does."""

    @overload
    def __call__(self, rule: EncryptRule, /) -> ColumnCipher: ...
    @overload
    def __call__(self, rule: HashRule, /) -> ColumnHash: ...


ELEMENT = "element"
"""Name of the items of a list, as Iceberg has it."""


def converter(column: ColumnPlan, cipher_for: CipherFor, parent: str = "") -> Converter:
    """What makes the table's values of a column, ready for Arrow, out of decoded JSON.

    The converter takes a value and the list that changes are added to. It never raises.

    Args:
        column: What becomes of the column.
        cipher_for: Gives the cipher or the hash of a rule.
        parent: Path of the struct that the column is in.
    """
    path = path_of(column, parent)
    if is_single(column):
        return _single(single_conversion(column, cipher_for), path)
    if isinstance(column.source_type, List):
        return _list(converter(element_of(column.source_type), cipher_for, path), path)
    members = [(c.source, c.name, converter(c, cipher_for, path)) for c in members_of(column)]
    return _struct(members, path)


def single_conversion(column: ColumnPlan, cipher_for: CipherFor) -> Convert:
    """The conversion of a column that is one value to us; raises one of `REJECTIONS`."""
    convert = plain_conversion(column)
    if (protect := _protection(column, cipher_for)) is None:
        return convert
    return lambda value: protect(canonical_text(convert(value)))


def _protection(column: ColumnPlan, cipher_for: CipherFor) -> Callable[[bytes], bytes | str] | None:
    """What becomes of canonical texts; None when they are not protected."""
    match column.protection:
        case EncryptRule() as rule:
            return cipher_for(rule).encrypt_value
        case HashRule() as rule:
            return cipher_for(rule).hash_value
        case MaskRule() as rule:
            return lambda text: masked(text.decode(), rule)
    return None


def plain_conversion(column: ColumnPlan) -> Convert:
    """The conversion up to the protection, which `airberg.columns.protection` does for whole arrays.

    JSON, objects and lists that are going to be protected become their canonical text here.
    """
    convert = caster(column.source_type, column.cast_to) if column.cast_to else reader(column.source_type)
    made = column.cast_to or column.source_type
    if column.protection is None or not isinstance(made, Json | Struct | List):
        return convert
    if isinstance(made, Json) and column.cast_to is None:
        return canonical_json  # the value itself is what the JSON text would be parsed to
    if isinstance(made, Json):
        return lambda value: canonical_json(parse_exact(convert(value).encode()))
    return lambda value: canonical_json(convert(value))


def is_single(column: ColumnPlan) -> bool:
    """Whether the column is made as one value: everything but structs and lists that stay such."""
    whole = column.cast_to is not None or column.protection is not None
    return whole or not isinstance(column.source_type, Struct | List)


def members_of(column: ColumnPlan) -> tuple[ColumnPlan, ...]:
    """What becomes of the members of a struct; inside lists, where nothing is transformed, by its type."""
    if column.children or not isinstance(column.source_type, Struct):
        return column.children
    return tuple(untouched(f.name, f.type, f.source) for f in column.source_type.fields)


def element_of(source: List) -> ColumnPlan:
    """What becomes of the items of a list."""
    return untouched(ELEMENT, source.element)


def untouched(name: str, kind: ColumnType, source: str | None = None) -> ColumnPlan:
    """The plan of a column that keeps its type, and its name unless `source` is another one."""
    return ColumnPlan(source=name if source is None else source, name=name, source_type=kind, type=kind)


def path_of(column: ColumnPlan, parent: str) -> str:
    """Path of a column in the table."""
    return f"{parent}.{column.name}" if parent else column.name


def needs_exact_numbers(column: ColumnPlan) -> bool:
    """Whether numbers of this column must be decoded with all their digits, which is slower."""
    made = column.cast_to or column.source_type
    if isinstance(made, Decimal | Json) or isinstance(column.source_type, Decimal | Json):
        return True
    if is_single(column):
        plain = isinstance(column.source_type, Primitive) and column.source_type.name == "string"
        as_text = isinstance(made, Struct | List) or (isinstance(made, Primitive) and made.name == "string")
        return as_text and not plain
    if isinstance(column.source_type, List):
        return needs_exact_numbers(element_of(column.source_type))
    return any(needs_exact_numbers(c) for c in members_of(column))


def nulled(path: str, reason: str) -> Change:
    """The change of a value that did not fit."""
    return {"field": path, "change": "NULLED", "reason": reason}


def _single(convert: Convert, path: str) -> Converter:
    def single(value: JsonValue, changes: list[Change]) -> CellValue:
        if value is None:
            return None
        try:
            return convert(value)
        except REJECTIONS as e:
            _note(changes, nulled(path, reason_of(e)))
            return None

    return single


def _list(item: Converter, path: str) -> Converter:
    def items(value: JsonValue, changes: list[Change]) -> CellValue:
        if isinstance(value, list):
            return [item(v, changes) for v in value]
        if value is not None:
            _note(changes, nulled(path, TYPECAST))
        return None

    return items


def _struct(members: list[tuple[str, str, Converter]], path: str) -> Converter:
    def struct(value: JsonValue, changes: list[Change]) -> CellValue:
        if isinstance(value, dict):
            return {name: member(value.get(source), changes) for source, name, member in members}
        if value is not None:
            _note(changes, nulled(path, TYPECAST))
        return None

    return struct


def _note(changes: list[Change], change: Change) -> None:
    """Add a change once: a list may have any number of items that do not fit for the same reason."""
    if change not in changes:
        changes.append(change)
