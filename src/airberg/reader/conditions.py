"""Conditions on rows, and which parts of one can be decided before anything is decrypted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
)
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind, extract_field_ids
from pyiceberg.io.pyarrow import expression_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StructType
from pyparsing import ParseException

from airberg.errors import InvalidRequest

_POINTER = "/where"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that rows have to meet.

    Attributes:
        columns: Columns of the top level that it looks at.
        planning: The part that files can be left out by; None when there is none.
        before: What can be decided before anything is decrypted, for Arrow.
        after: What needs decrypted values.
    """

    columns: frozenset[str] = frozenset()
    planning: BooleanExpression | None = None
    before: pc.Expression | None = None
    after: pc.Expression | None = None


def condition(where: str | BooleanExpression | None, plain: Schema, decrypted: Collection[int]) -> Condition:
    """Prepare a condition.

    Args:
        where: In pyiceberg's language of row filters, or as its expression.
        plain: The table's schema with the types of decrypted columns.
        decrypted: Ids of the columns that are decrypted.

    Raises:
        InvalidRequest: It is not understood, names a column that is not there, or compares one with a value
            of another type (`bad-condition`). The message does not show the values in it.
    """
    if where is None:
        return Condition()
    parts = [(part, _bound(plain, part)) for part in _conjuncts(_parsed(where))]
    inner = {id_ for top in decrypted for id_ in _ids(plain.find_field(top))}
    before = [(part, bound) for part, bound in parts if inner.isdisjoint(extract_field_ids(bound))]
    after = [bound for _, bound in parts if not inner.isdisjoint(extract_field_ids(bound))]
    named = set().union(*(extract_field_ids(bound) for _, bound in parts))
    return Condition(
        columns=frozenset(field.name for field in plain.fields if not named.isdisjoint(_ids(field))),
        planning=_all(part for part, _ in before),
        before=_for_arrow(plain, _all(bound for _, bound in before)),
        after=_for_arrow(plain, _all(after)),
    )


def _parsed(where: str | BooleanExpression) -> BooleanExpression:
    if isinstance(where, BooleanExpression):
        return where
    try:
        return parse(where)
    except ParseException as error:
        raise _not_understood(f"from character {error.column} on") from None


def _bound(plain: Schema, part: BooleanExpression) -> BooleanExpression:
    try:
        return bind(plain, part, case_sensitive=True)
    except (ValueError, TypeError):
        # What pyiceberg says of it holds the value.
        raise _not_understood(
            "it names a column that the table has not, or a value of another type"
        ) from None


def _not_understood(why: str) -> InvalidRequest:
    return InvalidRequest.one(
        _POINTER,
        "bad-condition",
        f"The condition on rows is not understood: {why}.",
        "Write it as a row filter of pyiceberg: id > 5 and city = 'Ulm'. Encrypted columns have to be "
        "decrypted to be compared.",
    )


def _conjuncts(expression: BooleanExpression) -> Iterator[BooleanExpression]:
    if isinstance(expression, And):
        yield from _conjuncts(expression.left)
        yield from _conjuncts(expression.right)
    elif not isinstance(expression, AlwaysTrue):
        yield expression


def _all(parts: Iterable[BooleanExpression]) -> BooleanExpression | None:
    found = list(parts)
    return reduce(And, found) if found else None


def _for_arrow(plain: Schema, bound: BooleanExpression | None) -> pc.Expression | None:
    if bound is None:
        return None
    # With the schema pyiceberg takes dots in a column's own name for those of a path.
    top = {field.field_id for field in plain.fields}
    return expression_to_pyarrow(bound, None if extract_field_ids(bound) <= top else plain)


def _members(fields: Iterable[NestedField]) -> Iterator[NestedField]:
    for field in fields:
        if isinstance(field.field_type, StructType):
            yield from field.field_type.fields
            yield from _members(field.field_type.fields)


def _ids(field: NestedField) -> set[int]:
    """The ids of a column and of the members of its structs."""
    return {field.field_id, *(member.field_id for member in _members([field]))}
