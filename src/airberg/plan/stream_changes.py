"""What changes in the streams of a job between two plans of it."""

from __future__ import annotations

from collections.abc import Iterator

from airberg.columns.json_schema import stream_fields
from airberg.columns.types import ColumnType, Field, List, Struct
from airberg.plan.model import JobPlan, Path, StreamPlan


def stream_changes(old: JobPlan, new: JobPlan) -> list[str]:
    """Streams, columns, keys, cursors and sync modes that are others; one line each.

    Columns are those of the source, before transformations, with the types that Airberg reads them as.
    """
    before = {_label(stream): stream for stream in old.streams}
    after = {_label(stream): stream for stream in new.streams}
    lines = [f"+ {name}, into a new table {after[name].table}" for name in after if name not in before]
    lines += [f"- {name}" for name in before if name not in after]
    for name, stream in after.items():
        if name in before:
            lines += [f"{name}: {line}" for line in _changes(before[name], stream)]
    return lines


def breaking_changes(old: JobPlan, new: JobPlan) -> list[str]:
    """What the tables cannot go on with though each of them could take the new rows; one sentence each."""
    after = {_label(stream): stream for stream in new.streams}
    sentences = []
    for stream in old.streams:
        name = _label(stream)
        if name not in after:
            sentences.append(f"The stream {name} is gone: its table {stream.table} would get no new rows.")
        elif stream.table != after[name].table:
            sentences.append(
                f"The stream {name} would go into the table {after[name].table}, not {stream.table}."
            )
        elif stream.merge_key != after[name].merge_key:
            sentences.append(
                f"The stream {name} would be merged by {_paths(after[name].merge_key)}, "
                f"not {_paths(stream.merge_key)}: rows that are there would not be found again."
            )
    return sentences


def _label(stream: StreamPlan) -> str:
    return f"{stream.namespace}.{stream.name}" if stream.namespace else stream.name


def _changes(old: StreamPlan, new: StreamPlan) -> Iterator[str]:
    before, after = _columns(old), _columns(new)
    for name in after:
        if name not in before:
            yield f"+ {name} {after[name]}"
        elif before[name] != after[name]:
            yield f"~ {name} {before[name]} becomes {after[name]}"
    for name in before:
        if name not in after:
            yield f"- {name} {before[name]}"
    for what, was, now in (
        ("primary key", _paths(old.primary_key), _paths(new.primary_key)),
        ("cursor", ".".join(old.cursor) or "none", ".".join(new.cursor) or "none"),
        ("read", old.sync_mode, new.sync_mode),
    ):
        if was != now:
            yield f"~ {what}: {was} becomes {now}"


def _paths(paths: tuple[Path, ...]) -> str:
    return ", ".join(".".join(path) for path in paths) or "none"


def _columns(stream: StreamPlan) -> dict[str, str]:
    schema = stream.catalog_stream.get("json_schema") or {}
    return dict(_flat(stream_fields(schema), ""))


def _flat(fields: tuple[Field, ...], above: str) -> Iterator[tuple[str, str]]:
    for field in fields:
        yield from _of_type(f"{above}{field.name}", field.type)


def _of_type(name: str, type_: ColumnType) -> Iterator[tuple[str, str]]:
    match type_:
        case Struct(fields=fields):
            yield name, "struct"
            yield from _flat(fields, f"{name}.")
        case List(element=Struct(fields=fields)):
            yield name, "list<struct>"
            yield from _flat(fields, f"{name}[].")
        case _:
            yield name, str(type_)
