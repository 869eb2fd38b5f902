"""What changes in the tables of a job between two plans of it, and what they could not go on with."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from airberg.errors import Problem
from airberg.plan.model import ColumnPlan, HashRule, JobPlan, MaskRule, StreamPlan
from airberg.plan.transformations import all_columns


def column_changes(old: JobPlan, new: JobPlan) -> list[str]:
    """Columns of tables that come, go, or are written otherwise; one line each."""
    before = {stream.table: stream for stream in old.streams}
    return [
        f"{stream.table}: {line}"
        for stream in new.streams
        if stream.table in before
        for line in _changes(before[stream.table], stream)
    ]


def table_problems(old: JobPlan, new: JobPlan, existing: AbstractSet[str]) -> list[Problem]:
    """Why the tables of a job cannot go on with a plan that somebody asked for.

    Args:
        old: Its plan.
        new: The one asked for.
        existing: The tables that are there, dotted.
    """
    after = {(stream.namespace, stream.name): stream for stream in new.streams}
    problems = []
    for stream in old.streams:
        other = after.get((stream.namespace, stream.name))
        if other is None or ".".join((*old.namespace, stream.table)) not in existing:
            continue
        if other.table != stream.table:
            message = f"The stream {stream.name} would go into the table {other.table}, not {stream.table}."
            problems.append(
                Problem("/streams", "table-moves", message, "Keep the streams of one name together.")
            )
        elif other.merge_key != stream.merge_key:
            problems.append(
                Problem(
                    "/merge",
                    "merge-key-differs",
                    f"The rows of {stream.table} are found by {_key(stream)}, and would be by {_key(other)}.",
                    "Make a new job, with another schema_name, for another key.",
                )
            )
    return problems


def _key(stream: StreamPlan) -> str:
    return ", ".join(".".join(path) for path in stream.merge_key) or "nothing"


def _changes(old: StreamPlan, new: StreamPlan) -> Iterator[str]:
    before, after = _columns(old), _columns(new)
    for name, words in after.items():
        if name not in before:
            yield f"+ {name} {words}"
        elif before[name] != words:
            yield f"~ {name} {before[name]} becomes {words}"
    for name, words in before.items():
        if name not in after:
            yield f"- {name} {words}: stays in the table, without new values"


def _columns(stream: StreamPlan) -> dict[str, str]:
    return {".".join(path): _words(column) for path, column in all_columns(stream.columns)}


def _words(column: ColumnPlan) -> str:
    rule, type_ = column.protection, str(column.cast_to or column.source_type)
    if rule is None:
        return type_
    if isinstance(rule, MaskRule):
        return f"{type_}, masked"
    done = "hashed" if isinstance(rule, HashRule) else f"encrypted ({rule.mode})"
    return f"{type_}, {done} with {rule.key_name}"
