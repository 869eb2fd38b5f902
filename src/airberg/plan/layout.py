"""Partitions and sort order of new tables: what was asked, matched to columns and checked by their types.

A column is named by its path in the source record, as everywhere in a request; metadata columns by their
name. What is checked is the column as the table has it: after casts and protection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from airberg.columns.metadata import METADATA_FIELDS
from airberg.columns.types import ColumnType, Decimal, Field, Json, Primitive
from airberg.errors import Problem
from airberg.plan.model import (
    ColumnPlan,
    IngestRequest,
    PartitionTerm,
    Path,
    SortTerm,
    TransformName,
    term_text,
)
from airberg.plan.names import did_you_mean
from airberg.plan.transformations import column_at, dotted_names, find_path, table_path, type_at
from airberg.quoted import quoted

TRANSFORMS: tuple[TransformName, ...] = get_args(TransformName)
LARGEST_ARGUMENT = 2**31 - 1

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.S)
_ARGUMENT = re.compile(r"\s*([0-9]{1,10})\s*,(.*)", re.S)
_DIRECTION = re.compile(r"(.*\S)\s+(asc|desc)", re.I | re.S)
_NULLS = re.compile(r"(.*\S)\s+nulls\s+(first|last)", re.I | re.S)
_EXAMPLES = "`day(created_at)`, `bucket(16, id)`, `truncate(4, name)` or a column"
_INTEGERS = ("byte", "short", "int", "long")
_INSTANTS = ("timestamp", "timestamptz")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One expression, matched to a column of the source."""

    pointer: str
    transform: TransformName
    argument: int | None
    source: Path
    descending: bool = False
    nulls_last: bool = False


@dataclass(slots=True)
class AskedLayout:
    """What was asked for the table of one stream."""

    partition_by: list[_Asked] = field(default_factory=list)
    sort_by: list[_Asked] = field(default_factory=list)

    @property
    def compared(self) -> frozenset[Path]:
        """Columns whose equal values must be equal in the table: encrypted, they are deterministic."""
        return frozenset(a.source for a in (*self.partition_by, *self.sort_by) if a.transform != "void")


def pointer_part(name: str) -> str:
    """A name as part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def match_layouts(
    request: IngestRequest,
    streams: Mapping[str, Sequence[Field]],
    names: Mapping[str, str],
    problems: list[Problem],
) -> dict[str, AskedLayout]:
    """Find what each member of `tables` applies to.

    Args:
        request: Whose `tables` are looked at.
        streams: Selected streams (by label) and their fields.
        names: The plain name of each label; a member may use either.
        problems: What is wrong is added here.

    Returns:
        Per stream what was asked for its table.
    """
    found = {label: AskedLayout() for label in streams}
    taken: dict[str, str] = {}
    for table in request.tables:
        pointer = f"/tables/{pointer_part(table.stream)}"
        targets = [label for label in streams if table.stream in (label, names[label])]
        if not targets and streams:
            problems.append(
                Problem(
                    pointer,
                    "unknown-stream",
                    f"The job has no stream {quoted(table.stream)}.",
                    did_you_mean(table.stream, streams),
                )
            )
        for label in targets:
            if label in taken:
                problems.append(
                    Problem(
                        pointer,
                        "conflicting-tables",
                        f"The table of {quoted(label)} is described by {taken[label]} as well.",
                        "Keep one of the two.",
                    )
                )
                continue
            taken[label] = pointer
            own = streams[label]
            fields = (*own, *METADATA_FIELDS) if request.add_ingestion_metadata else tuple(own)
            layout = found[label]
            for i, text in enumerate(table.partition_by):
                at = f"{pointer}/partition_by/{i}"
                layout.partition_by += _matched(text, at, label, fields, problems)
            for i, text in enumerate(table.sort_by):
                at = f"{pointer}/sort_by/{i}"
                layout.sort_by += _matched_key(text, at, label, fields, problems)
    return found


def fit_partitions(
    stream: str, asked: AskedLayout, columns: Sequence[ColumnPlan], problems: list[Problem]
) -> tuple[PartitionTerm, ...]:
    """The partition fields of a table; what its columns do not allow is added to `problems`."""
    terms: list[PartitionTerm] = []
    for one in asked.partition_by:
        column = _column(stream, one, columns, problems)
        if column is None:
            continue
        term = PartitionTerm(
            transform=one.transform, argument=one.argument, source=one.source, column=column.path
        )
        if why := _misfit(one, column, partition=True):
            problems.append(_unfit(stream, one, why))
        elif other := next((t for t in terms if _redundant(t, term)), None):
            problems.append(_twice(stream, one, f"{term} says nothing that {other} does not."))
        else:
            terms.append(term)
    return tuple(terms)


def fit_sort_order(
    stream: str, asked: AskedLayout, columns: Sequence[ColumnPlan], problems: list[Problem]
) -> tuple[SortTerm, ...]:
    """The sort order of a table; what its columns do not allow is added to `problems`."""
    terms: list[SortTerm] = []
    for one in asked.sort_by:
        column = _column(stream, one, columns, problems)
        if column is None:
            continue
        term = SortTerm(
            transform=one.transform,
            argument=one.argument,
            source=one.source,
            column=column.path,
            descending=one.descending,
            nulls_last=one.nulls_last,
        )
        if why := _misfit(one, column, partition=False):
            problems.append(_unfit(stream, one, why))
        elif any(_key(t) == _key(term) for t in terms):
            problems.append(_twice(stream, one, f"The order has {_text(one)} already."))
        else:
            terms.append(term)
    return tuple(terms)


def key_order(key: Sequence[Path], columns: Sequence[ColumnPlan]) -> tuple[SortTerm, ...]:
    """The order of a merge table for which none was asked: by its key, so that bounds of files prune.

    A key that is encrypted sorts by its ciphertext, which is as good for that.
    """
    terms = []
    for source in key:
        path, column = table_path(columns, source), column_at(columns, source)
        if path is None or column is None or not fitting_transforms(column.type, partition=False):
            return ()
        terms.append(SortTerm(transform="identity", source=source, column=path))
    return tuple(terms)


# ---- reading expressions ---------------------------------------------------------------------------------


def _matched_key(
    text: str, pointer: str, stream: str, fields: Sequence[Field], problems: list[Problem]
) -> list[_Asked]:
    """A key of the sort order: a term, its direction, the place of nulls (by default as in Iceberg)."""
    descending, nulls_last = False, None
    if find_path(fields, text.strip()) is None:
        if found := _NULLS.fullmatch(text.strip()):
            text, nulls_last = found[1], found[2].lower() == "last"
        if found := _DIRECTION.fullmatch(text.strip()):
            text, descending = found[1], found[2].lower() == "desc"
    return [
        _Asked(
            one.pointer,
            one.transform,
            one.argument,
            one.source,
            descending,
            descending if nulls_last is None else nulls_last,
        )
        for one in _matched(text, pointer, stream, fields, problems)
    ]


def _matched(
    text: str, pointer: str, stream: str, fields: Sequence[Field], problems: list[Problem]
) -> list[_Asked]:
    """One term, or none when it is wrong. A column of just that name wins over a transform."""
    text = text.strip()
    transform: TransformName = "identity"
    argument, column = None, text
    call = None if find_path(fields, text) else _CALL.fullmatch(text)
    if call is not None:
        name = call[1].lower()
        known = next((t for t in TRANSFORMS if t == name), None)
        if known is None:
            problems.append(
                Problem(
                    pointer,
                    "unknown-transform",
                    f"Iceberg has no transform {quoted(call[1])}.",
                    did_you_mean(name, TRANSFORMS),
                )
            )
            return []
        transform, column = known, call[2].strip()
        if transform in ("bucket", "truncate"):
            numbered = _ARGUMENT.fullmatch(call[2])
            argument = int(numbered[1]) if numbered else 0
            if numbered is None or not 1 <= argument <= LARGEST_ARGUMENT:
                what = "a number of buckets" if transform == "bucket" else "a width"
                problems.append(
                    Problem(
                        pointer,
                        "bad-expression",
                        f"{transform} needs {what} from 1 to {LARGEST_ARGUMENT}, then a column.",
                        f"Write {term_text(transform, 16, 'id')}.",
                    )
                )
                return []
            column = numbered[2].strip()
    source = find_path(fields, column)
    if source is None:
        guidance = did_you_mean(column, set(dotted_names(fields)))
        if not column or (call is None and re.search(r"[(),]", column)):
            problems.append(
                Problem(pointer, "bad-expression", "This is not an expression.", f"Write {_EXAMPLES}.")
            )
        else:
            problems.append(
                Problem(
                    pointer,
                    "unknown-column",
                    f"No column of {quoted(stream)} is named {quoted(column)}.",
                    guidance,
                )
            )
        return []
    return [_Asked(pointer, transform, argument, source)]


# ---- what fits -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as the table has it."""

    path: Path
    type: ColumnType
    encrypted: bool = False


def _column(
    stream: str, asked: _Asked, columns: Sequence[ColumnPlan], problems: list[Problem]
) -> _Column | None:
    path, plan = table_path(columns, asked.source), column_at(columns, asked.source)
    if path is not None and plan is not None:
        return _Column(path, plan.type, plan.encrypt is not None)
    if find_path(METADATA_FIELDS, ".".join(asked.source)) == asked.source:
        return _Column(asked.source, type_at(METADATA_FIELDS, asked.source))
    problems.append(
        Problem(
            asked.pointer,
            "partition-column-lost",
            f"{quoted('.'.join(asked.source))} of {quoted(stream)} is dropped, or lies in a "
            "column that is cast or "
            "protected as a whole: the table does not have it.",
            "Keep the column, or use another one.",
        )
    )
    return None


def _misfit(asked: _Asked, column: _Column, *, partition: bool) -> str | None:
    """Why a term does not fit its column; a sentence about what fits."""
    if asked.transform == "void":
        return None if partition else "void orders nothing."
    fitting = fitting_transforms(column.type, partition=partition)
    if column.encrypted:
        fitting = tuple(t for t in fitting if t in ("identity", "bucket"))
        if asked.transform not in fitting:
            return f"it is encrypted, and what fits ciphertext is {' and '.join(fitting)}."
    if not fitting:
        return f"nothing fits its type, {column.type}."
    if asked.transform not in fitting:
        return f"it is {_article(str(column.type))}, and what fits that is {', '.join(fitting)}."
    if partition and asked.transform == "truncate" and isinstance(column.type, Decimal):
        return _too_wide(column.type.precision, asked.argument or 1)
    return None


def fitting_transforms(type_: ColumnType, *, partition: bool) -> tuple[TransformName, ...]:
    """The transforms of a type (specification, Partition Transforms), `void` aside.

    Floating-point numbers sort, but do not partition: no two engines agree about NaN and the zeros, and
    pyiceberg 0.12 reads a double from a manifest in single precision.
    """
    if isinstance(type_, Decimal | Json):
        return ("identity", "bucket", "truncate")
    if not isinstance(type_, Primitive):
        return ()
    name = type_.name
    if name in ("float", "double"):
        return () if partition else ("identity",)
    if name == "boolean":
        return ("identity",)
    if name in _INTEGERS or name in ("string", "binary"):
        return ("identity", "bucket", "truncate")
    if name == "time":
        return ("identity", "bucket")
    days: tuple[TransformName, ...] = ("identity", "bucket", "year", "month", "day")
    return (*days, "hour") if name in _INSTANTS else days


def _too_wide(precision: int, width: int) -> str | None:
    """Truncation goes down, and manifests hold decimals in the fewest bytes that their precision needs."""
    most = 10**precision - 1
    size = (most.bit_length() + 8) // 8
    lowest = -most // width * width
    if lowest >= -(1 << (8 * size - 1)):
        return None
    return f"a width of {width} takes its lowest values out of decimals of {precision} digits."


def _redundant(one: PartitionTerm, other: PartitionTerm) -> bool:
    """Whether Iceberg refuses both together: the same twice, or two units of time of one column."""
    times = ("year", "month", "day", "hour")
    both_times = one.transform in times and other.transform in times
    return one.column == other.column and (both_times or _key(one) == _key(other))


def _key(term: PartitionTerm) -> tuple[str, int | None, Path]:
    return term.transform, term.argument, term.column


def _text(asked: _Asked) -> str:
    return term_text(asked.transform, asked.argument, ".".join(asked.source))


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _unfit(stream: str, asked: _Asked, why: str) -> Problem:
    return Problem(
        asked.pointer,
        "transform-does-not-fit",
        f"{_text(asked)} does not fit {quoted('.'.join(asked.source))} of {quoted(stream)}: {why}",
        "Use a transform that fits, another column, or a cast.",
    )


def _twice(stream: str, asked: _Asked, why: str) -> Problem:
    return Problem(asked.pointer, "redundant-expression", f"{quoted(stream)}: {why}", "Keep one of the two.")
