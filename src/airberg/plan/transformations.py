"""Column transformations: matched to columns, checked against each other, applied to a stream's fields.

Whatever their order in the request, they act as drop, rename, cast, then one of encrypt, hash, mask
(contract, "Column transformations"; hash and mask are ours). A column is named by its path in the source
record, nested with dots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from airberg.columns.targets import cast_problem, parse_target_type
from airberg.columns.types import ColumnType, Field, Struct, stored_type
from airberg.errors import AirbergError, Problem
from airberg.plan.apart import MAX_NAME_BYTES, fit_name
from airberg.plan.model import (
    KEYED,
    PROTECTIONS,
    ColumnPlan,
    EncryptRule,
    HashRule,
    MaskRule,
    Path,
    Transformation,
)
from airberg.plan.names import did_you_mean
from airberg.plan.protection import AskedProtection, ProtectionContext, asked_protection, protected_type
from airberg.quoted import quoted

Refusal = Callable[[str], AirbergError | None]
"""Why the key of a name cannot encrypt for this job; None when it can."""


@dataclass(slots=True)
class ColumnRules:
    """All transformations of one column of one stream; `pointers` says where each was asked for."""

    drop: bool = False
    rename: str | None = None
    cast: ColumnType | None = None
    protect: AskedProtection | None = None
    pointers: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the column becomes one value, so that nothing is left of its members."""
        return self.cast is not None or self.protect is not None


Rules = dict[Path, ColumnRules]


def find_path(fields: Sequence[Field], column: str) -> Path | None:
    """The path of a column: the property of just that name, else the dotted path through structs."""
    if any(f.name == column for f in fields):
        return (column,)
    for f in fields:
        if column.startswith(f.name + ".") and isinstance(f.type, Struct):
            rest = find_path(f.type.fields, column[len(f.name) + 1 :])
            if rest:
                return (f.name, *rest)
    return None


def type_at(fields: Sequence[Field], path: Path) -> ColumnType:
    """The type of the column at an existing path."""
    found = next(f.type for f in fields if f.name == path[0])
    return type_at(found.fields, path[1:]) if len(path) > 1 and isinstance(found, Struct) else found


def dotted_names(fields: Sequence[Field]) -> Iterator[str]:
    """The dotted names of all columns and nested columns."""
    for f in fields:
        yield f.name
        if isinstance(f.type, Struct):
            yield from (f"{f.name}.{n}" for n in dotted_names(f.type.fields))


def match_rules(
    transformations: Sequence[Transformation],
    streams: Mapping[str, Sequence[Field]],
    names: Mapping[str, str],
    default_key: str,
    refusal: Refusal,
    problems: list[Problem],
) -> dict[str, Rules]:
    """Find what each transformation applies to.

    Args:
        transformations: As sent.
        streams: Selected streams (by label) and their fields.
        names: The plain name of each label; a transformation may use either.
        default_key: Key for an `encrypt` or `hash` that names none.
        refusal: Says why a key cannot be used.
        problems: What is wrong is added here.

    Returns:
        Per stream the rules of its columns.
    """
    found: dict[str, Rules] = {name: {} for name in streams}
    for i, t in enumerate(transformations):
        pointer = f"/column_transformations/{i}"
        parsed = _parse(t, pointer, default_key, refusal, problems)
        targets = [label for label in streams if t.stream in (None, label, names[label])]
        if not targets:
            if t.stream is None:
                continue  # no stream could be selected, which is reported elsewhere
            problems.append(
                Problem(
                    f"{pointer}/stream",
                    "unknown-stream",
                    f"The job has no stream {quoted(t.stream)}.",
                    did_you_mean(t.stream, streams),
                )
            )
            continue
        matches = {name: path for name in targets if (path := find_path(streams[name], t.column))}
        if not matches:
            known = {c for name in targets for c in dotted_names(streams[name])}
            problems.append(
                Problem(
                    f"{pointer}/column",
                    "unknown-column",
                    f"No {'stream' if t.stream is None else 'column of ' + repr(t.stream)} "
                    f"{'has a column' if t.stream is None else 'is named'} {quoted(t.column)}.",
                    did_you_mean(t.column, known),
                )
            )
            continue
        for name, path in matches.items():
            rules = found[name].setdefault(path, ColumnRules())
            _merge(rules, t, parsed, pointer, name, type_at(streams[name], path), problems)
    for name, rules_of in found.items():
        _check_overlaps(name, rules_of, problems)
    return found


def key_names(transformations: Sequence[Transformation], default_key: str) -> frozenset[str]:
    """The keys that transformations need."""
    return frozenset(
        t.encryption_key_name or default_key for t in transformations if t.transformation_type in KEYED
    )


def key_problems(
    transformations: Sequence[Transformation], default_key: str, refusal: Refusal
) -> list[Problem]:
    """What is wrong with the keys alone, where nothing else of the transformations can be checked."""
    return [
        _key_problem(f"/column_transformations/{i}", why)
        for i, t in enumerate(transformations)
        if t.transformation_type in KEYED
        and (why := refusal(t.encryption_key_name or default_key)) is not None
    ]


def _key_problem(pointer: str, why: AirbergError) -> Problem:
    return Problem(f"{pointer}/encryption_key_name", why.code, why.message, why.guidance)


@dataclass(frozen=True, slots=True)
class _Parsed:
    cast: ColumnType | None = None
    protect: AskedProtection | None = None


def _parse(
    t: Transformation,
    pointer: str,
    default_key: str,
    refusal: Refusal,
    problems: list[Problem],
) -> _Parsed:
    """Check the members that a transformation needs by its type."""
    if t.transformation_type == "cast":
        if not t.target_type:
            problems.append(
                Problem(
                    f"{pointer}/target_type", "missing-target-type", "A cast needs a target_type.", "Add it."
                )
            )
            return _Parsed()
        try:
            return _Parsed(cast=parse_target_type(t.target_type))
        except ValueError as e:
            guidance = "The types are those of the reference of casts."
            problems.append(Problem(f"{pointer}/target_type", "unknown-target-type", str(e), guidance))
    elif t.transformation_type == "rename":
        _check_new_name(t.new_name or "", f"{pointer}/new_name", problems)
    elif t.transformation_type in KEYED:
        key = t.encryption_key_name or default_key
        if (why := refusal(key)) is not None:
            problems.append(_key_problem(pointer, why))
    return _Parsed(protect=asked_protection(t, default_key))


def _check_new_name(name: str, pointer: str, problems: list[Problem]) -> None:
    if not name.strip():
        problems.append(Problem(pointer, "missing-new-name", "A rename needs a new_name."))
    elif fit_name(name) != name:
        problems.append(
            Problem(
                pointer,
                "bad-new-name",
                "A table cannot have a column of that name: it is too long or has control characters.",
                f"Use at most {MAX_NAME_BYTES} bytes of UTF-8, on one line.",
            )
        )


def _merge(
    rules: ColumnRules,
    t: Transformation,
    parsed: _Parsed,
    pointer: str,
    stream: str,
    source: ColumnType,
    problems: list[Problem],
) -> None:
    kind = t.transformation_type
    alike = PROTECTIONS if kind in PROTECTIONS else {kind}
    if other := next((name for name in rules.pointers if name in alike), None):
        words = f"two transformations of type {kind}" if kind == other else f"both {other} and {kind}"
        problems.append(
            Problem(
                pointer,
                "conflicting-transformations",
                f"The column {quoted(t.column)} of {quoted(stream)} has {words}.",
                f"Keep one of {rules.pointers[other]} and {pointer}.",
            )
        )
        return
    rules.pointers[kind] = pointer
    match kind:
        case "drop":
            rules.drop = True
        case "rename":
            rules.rename = t.new_name
        case "cast":
            rules.cast = parsed.cast
            if parsed.cast is not None and (why := cast_problem(source, parsed.cast)):
                problems.append(
                    Problem(
                        f"{pointer}/target_type",
                        "impossible-cast",
                        f"{quoted(t.column)} of {quoted(stream)}: {why}",
                    )
                )
        case "encrypt" | "hash" | "mask":
            rules.protect = parsed.protect


def _check_overlaps(stream: str, rules: Rules, problems: list[Problem]) -> None:
    """A column that goes as a whole leaves nothing of its members to transform."""
    for path, rule in rules.items():
        inner = [p for p in rules if len(p) > len(path) and p[: len(path)] == path]
        if (rule.drop or rule.whole) and inner:
            names = ", ".join(repr(".".join(p)) for p in inner)
            problems.append(
                Problem(
                    next(iter(rules[inner[0]].pointers.values())),
                    "overlapping-transformations",
                    f"{quoted('.'.join(path))} of {quoted(stream)} is dropped, cast or protected as a whole, "
                    f"so {names} cannot be transformed.",
                    "Transform either the whole column or its members.",
                )
            )


def plan_columns(
    fields: Sequence[Field],
    rules: Rules,
    context: ProtectionContext,
    *,
    source_path: Path = (),
    table_path: Path = (),
) -> tuple[ColumnPlan, ...]:
    """Apply the rules to fields; dropped ones are left out, nested ones are planned recursively."""
    planned = []
    for f in fields:
        path = (*source_path, f.name)
        rule = rules.get(path, ColumnRules())
        if rule.drop:
            continue
        name = rule.rename or f.name
        column_path = (*table_path, name)
        children: tuple[ColumnPlan, ...] = ()
        target = stored_type(rule.cast) if rule.cast is not None else f.type
        if isinstance(f.type, Struct) and not rule.whole:
            children = plan_columns(f.type.fields, rules, context, source_path=path, table_path=column_path)
            if not children:
                continue  # all its members were dropped, and a struct without fields does not exist
            target = Struct(fields=tuple(Field(c.name, c.type, c.doc) for c in children))
        protection = context.rule(path, column_path, rule.protect)
        planned.append(
            ColumnPlan(
                source=f.name,
                name=name,
                source_type=f.type,
                type=protected_type(protection) or target,
                cast_to=rule.cast,
                encrypt=protection if isinstance(protection, EncryptRule) else None,
                hash=protection if isinstance(protection, HashRule) else None,
                mask=protection if isinstance(protection, MaskRule) else None,
                children=children,
                doc=f.doc,
            )
        )
    return tuple(planned)


def table_path(columns: Sequence[ColumnPlan], path: Path) -> Path | None:
    """Where a source path ends up in the table; None when it was dropped or went into a whole."""
    for column in columns:
        if column.source == path[0]:
            if len(path) == 1:
                return (column.name,)
            rest = table_path(column.children, path[1:])
            return (column.name, *rest) if rest else None
    return None


def column_at(columns: Sequence[ColumnPlan], path: Path) -> ColumnPlan | None:
    """The plan of the column at a source path."""
    for column in columns:
        if column.source == path[0]:
            return column if len(path) == 1 else column_at(column.children, path[1:])
    return None


def all_columns(columns: Sequence[ColumnPlan], prefix: Path = ()) -> Iterator[tuple[Path, ColumnPlan]]:
    """Every column and nested column with its path in the table."""
    for column in columns:
        path = (*prefix, column.name)
        yield path, column
        yield from all_columns(column.children, path)


def columns_as_builtins(columns: Sequence[ColumnPlan]) -> list[dict[str, object]]:
    """Columns for people: source, name, type, and what happens on the way."""
    out: list[dict[str, object]] = []
    for path, c in all_columns(columns):
        steps: dict[str, object] = {}
        if c.source != c.name:
            steps["kept_apart" if c.apart else "rename"] = {"from": c.source, "to": c.name}
        if c.cast_to is not None:
            steps["cast"] = {"from": str(c.source_type), "to": str(c.cast_to)}
        if c.protection is not None:
            kind = "encrypt" if c.encrypt else "hash" if c.hash else "mask"
            steps[kind] = msgspec.to_builtins(c.protection)
        out.append({"column": ".".join(path), "type": str(c.type), "transformations": steps})
    return out
