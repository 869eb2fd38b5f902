"""Names of columns in the table: fit for a table, kept apart where they collide, the same in every run.

A source may have `Id` beside `id`, a property `a.b` beside an object `a` with a `b`, names with control
characters, empty ones, or ones of 10,000 characters. Each of them gets a column, and no job fails for it:

1. A name that was asked for by a rename is as it is.
2. A column that the table has already goes on: under its own name, else under its name with a suffix.
3. Any other one keeps its name when that is fit for a table and free, in the order of the schema. It is not
   free when another column has it in the same or another spelling (case, or dots), or it is that of a
   metadata column.
4. Else it gets its suffix: `_` and the first 8 digits of the SHA-256 of its own name; 16, 32, 64 when
   that is taken, or the name of another column of the source.

Because of 2, names do not depend on the order in which runs, or schemas, bring columns.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from airberg.columns.types import ColumnType, Field, List, Struct
from airberg.plan.model import ColumnPlan, Path

MAX_NAME_BYTES: Final = 255
"""The longest name that common catalogs and engines take (Glue, Snowflake: 255)."""

ELEMENT: Final = "element"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_DIGITS: Final = (8, 16, 32, 64)


def fit_name(source: str) -> str:
    """The name itself where a table can have it, else what can be kept of it with its suffix.

    Control characters, halves of surrogate pairs and line separators do not fit, nor does the empty name.
    """
    fits = source and not _UNFIT.search(source) and len(source.encode()) <= MAX_NAME_BYTES
    return source if fits else _suffixed(source, source, _DIGITS[0])


def _suffixed(source: str, hashed: str, digits: int) -> str:
    tail = "_" + hashlib.sha256(hashed.encode(errors="surrogatepass")).hexdigest()[:digits]
    clean = _UNFIT.sub("_", source).encode()[: MAX_NAME_BYTES - len(tail)]
    return clean.decode(errors="ignore") + tail


def _suffixed_names(source: str) -> Iterator[str]:
    """Names to try, without end: longer and longer suffixes, then those of other hashes."""
    for turn in itertools.count():
        for digits in _DIGITS:
            yield _suffixed(source, source + "\0" * turn, digits)


def keep_apart(
    columns: Sequence[ColumnPlan], present: AbstractSet[Path], reserved: Iterable[str] = ()
) -> tuple[ColumnPlan, ...]:
    """The columns of a stream with the names that they have in the table.

    Args:
        columns: As the request wants them; a name that is not that of the source was asked for.
        present: Paths of the columns that the table has; items of lists are called `element`.
        reserved: Names at the top that are not free.
    """
    return _Names(present, reserved).columns(columns, ())


def apart_names(columns: Iterable[ColumnPlan]) -> Iterator[tuple[Path, Path]]:
    """Path in the source and in the table of every column that could not keep its name."""
    for column in columns:
        source, name = (column.source,), (column.name,)
        if column.apart:
            yield source, name
        inside = apart_names(column.children) if column.children else _apart_fields(column.type)
        yield from ((source + s, name + n) for s, n in inside)


def _apart_fields(type_: ColumnType) -> Iterator[tuple[Path, Path]]:
    if isinstance(type_, List):
        yield from (((ELEMENT, *s), (ELEMENT, *n)) for s, n in _apart_fields(type_.element))
    elif isinstance(type_, Struct):
        for field in type_.fields:
            source, name = (field.source or field.name,), (field.name,)
            if field.source is not None:
                yield source, name
            yield from ((source + s, name + n) for s, n in _apart_fields(field.type))


class _Names:
    """Gives names, and knows which are taken."""

    def __init__(self, present: AbstractSet[Path], reserved: Iterable[str]) -> None:
        self._present = present
        self._reserved = {_fold((name,)) for name in reserved}
        self._taken = {_fold(path) for path in present} | self._reserved

    def columns(self, columns: Sequence[ColumnPlan], parent: Path) -> tuple[ColumnPlan, ...]:
        asked = [None if c.name == c.source else c.name for c in columns]
        names = self._of_level(parent, [c.source for c in columns], [c.type for c in columns], asked)
        return tuple(
            self._column(column, name, (*parent, name), apart=want is None and name != column.source)
            for column, name, want in zip(columns, names, asked, strict=True)
        )

    def _column(self, column: ColumnPlan, name: str, path: Path, *, apart: bool) -> ColumnPlan:
        named = msgspec.structs.replace(column, name=name, apart=apart)
        if column.children:
            children = self.columns(column.children, path)
            made = Struct(tuple(Field(c.name, c.type, c.doc) for c in children))
            return msgspec.structs.replace(named, children=children, type=made)
        if isinstance(column.type, List):
            kind = self._type(column.type, path)
            return msgspec.structs.replace(named, source_type=kind, type=kind)
        return named

    def _type(self, type_: ColumnType, path: Path) -> ColumnType:
        """The same inside lists, where nothing is planned: there the type says what is what in the source."""
        if isinstance(type_, List):
            return List(self._type(type_.element, (*path, ELEMENT)))
        if not isinstance(type_, Struct):
            return type_
        sources, types = [f.name for f in type_.fields], [f.type for f in type_.fields]
        names = self._of_level(path, sources, types, [None] * len(sources))
        return Struct(
            tuple(
                Field(name, self._type(f.type, (*path, name)), f.doc, None if name == f.name else f.name)
                for f, name in zip(type_.fields, names, strict=True)
            )
        )

    def _of_level(
        self, parent: Path, sources: Sequence[str], types: Sequence[ColumnType], asked: Sequence[str | None]
    ) -> list[str]:
        """Names of the members of one struct, or of the table."""
        own = set(sources)
        known = [
            self._known(parent, source, own) if name is None else name
            for source, name in zip(sources, asked, strict=True)
        ]
        for name, type_ in zip(known, types, strict=True):
            if name is not None:
                self._taken.update(_folds((*parent, name), type_))
        return [
            self._free(parent, source, type_, own) if name is None else name
            for source, type_, name in zip(sources, types, known, strict=True)
        ]

    def _known(self, parent: Path, source: str, own: AbstractSet[str]) -> str | None:
        """The name under which the table has the column already."""
        if not self._present:
            return None
        fit = fit_name(source)
        mine = fit == source or fit not in own
        if mine and (*parent, fit) in self._present and _fold((*parent, fit)) not in self._reserved:
            return fit
        for name in itertools.islice(_suffixed_names(source), len(_DIGITS)):
            if (*parent, name) in self._present and name not in own:
                return name
        return None

    def _free(self, parent: Path, source: str, type_: ColumnType, own: AbstractSet[str]) -> str:
        for name in itertools.chain([fit_name(source)], _suffixed_names(source)):
            folded = _folds((*parent, name), type_)
            if self._taken.isdisjoint(folded) and (name == source or name not in own):
                self._taken.update(folded)
                return name
        raise AssertionError("there is no end of names")


def _folds(path: Path, type_: ColumnType) -> list[str]:
    """What a column takes: its own name, and for a list those of its items, which cannot be changed."""
    found = [_fold(path)]
    while isinstance(type_, List):
        path, type_ = (*path, ELEMENT), type_.element
        found.append(_fold(path))
    return found


def _fold(path: Path) -> str:
    """What two names must not share: many engines fold case, and Iceberg names fields with dots."""
    return ".".join(path).casefold()
