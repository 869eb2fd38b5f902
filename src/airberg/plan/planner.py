"""The plan of a job: the request against what the connector really offers.

Pure: no connector, no catalog, no store. Every problem that can be found is found, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import msgspec

from airberg.columns.json_schema import stream_fields
from airberg.columns.types import BINARY, STRING, Decimal, Field, Primitive
from airberg.errors import InvalidRequest, Problem
from airberg.plan.apart import apart_names, fit_name, keep_apart
from airberg.plan.layout import AskedLayout, fit_partitions, fit_sort_order, key_order, match_layouts
from airberg.plan.merging import merge_notes
from airberg.plan.model import (
    ColumnPlan,
    GovernancePlan,
    IngestRequest,
    JobPlan,
    MergeOptions,
    Path,
    StreamPlan,
)
from airberg.plan.names import DELETED_AT, METADATA_COLUMNS
from airberg.plan.protection import ProtectionContext
from airberg.plan.streams import SelectedStream, select_streams
from airberg.plan.transformations import (
    Refusal,
    Rules,
    all_columns,
    column_at,
    find_path,
    match_rules,
    plan_columns,
    table_path,
    type_at,
)
from airberg.quoted import quoted

AS_EVER = MergeOptions()
"""How merges work of which nobody says anything."""

_LISTED_NAMES = 20


@dataclass(frozen=True, slots=True)
class Connector:
    """What planning knows of the connector."""

    name: str
    version: str
    streams: Sequence[dict[str, Any]]
    discovered_at: float


@dataclass(frozen=True, slots=True)
class KeyDirectory:
    """Which encryption keys the job may use.

    Attributes:
        default: The key of encryptions that name none.
        refusal: Why a key cannot be used; None when it can.
    """

    default: str
    refusal: Refusal


def _no_table(_: str) -> AbstractSet[Path]:
    return frozenset()


def build_plan(
    request: IngestRequest,
    connector: Connector,
    keys: KeyDirectory,
    *,
    present: Callable[[str], AbstractSet[Path]] = _no_table,
    merging: MergeOptions = AS_EVER,
) -> JobPlan:
    """Plan a job.

    Args:
        request: What was asked, its form checked.
        connector: The connector's streams as discovered.
        keys: The encryption keys.
        present: The columns that the table of that name has already, if there is one: names that were given
            once are given again.
        merging: How its merges work.

    Raises:
        InvalidRequest: With everything that is wrong.
    """
    problems: list[Problem] = []
    selected = select_streams(request, connector.streams, problems)
    fields = {s.label: stream_fields(s.catalog_stream.get("json_schema") or {}) for s in selected}
    merge_keys = {s.label: _merge_key(request, s, fields[s.label]) for s in selected}
    _report_merge_keys(request, merge_keys, problems)
    names = {s.label: s.name for s in selected}
    rules = match_rules(request.column_transformations, fields, names, keys.default, keys.refusal, problems)
    layouts = match_layouts(request, fields, names, problems)
    streams = [
        _plan_stream(
            request,
            s,
            fields[s.label],
            rules[s.label],
            merge_keys[s.label],
            layouts[s.label],
            present,
            problems,
        )
        for s in selected
    ]
    if problems:
        raise InvalidRequest(problems)
    namespace = tuple(request.schema_name.split("."))
    return JobPlan(
        source_name=connector.name,
        connector_version=connector.version,
        namespace=namespace,
        mode=request.mode,
        streams=tuple(streams),
        governance=request.governance or GovernancePlan(tags=request.tags, owner=request.owner_id),
        merging=merging,
        add_ingestion_metadata=request.add_ingestion_metadata,
        archive_staging=request.archive_staging,
        discovered_at=connector.discovered_at,
        warnings=(*_warnings(request, streams), *merge_notes(request, merging, streams)),
    )


# ---- merge keys ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _MergeKey:
    paths: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


def _merge_key(request: IngestRequest, stream: SelectedStream, fields: Sequence[Field]) -> _MergeKey:
    """The key of one stream: the request's, else the source's primary key."""
    if request.mode != "merge":
        return _MergeKey()
    paths: list[Path] = []
    missing: list[str] = []
    for column in request.merge or tuple(".".join(p) for p in stream.primary_key):
        path = find_path(fields, column)
        if path is None:
            missing.append(column)
        else:
            paths.append(path)
    unfit = tuple(".".join(p) for p in paths if not isinstance(type_at(fields, p), Primitive | Decimal))
    return _MergeKey(tuple(paths), tuple(missing), unfit)


def _report_merge_keys(
    request: IngestRequest, keys: Mapping[str, _MergeKey], problems: list[Problem]
) -> None:
    if request.mode != "merge":
        return
    without = [name for name, k in keys.items() if not k.paths and not k.missing]
    if without:
        problems.append(
            Problem(
                "/merge",
                "no-primary-key",
                f"These streams have no primary key to merge by: {', '.join(without)}.",
                "Give `merge`, or use another mode for them.",
            )
        )
    for name, key in keys.items():
        for column in key.missing:
            problems.append(
                Problem(
                    "/merge",
                    "unknown-merge-key",
                    f"The stream {quoted(name)} has no column {quoted(column)} to merge by.",
                    "Select only streams that have it, or leave `merge` out to use their primary keys.",
                )
            )
        for column in key.unfit:
            problems.append(
                Problem(
                    "/merge",
                    "unfit-merge-key",
                    f"{quoted(column)} of {quoted(name)} is an object, a list or JSON and cannot "
                    "be a merge key.",
                    "Merge by columns with single values.",
                )
            )


# ---- one stream ------------------------------------------------------------------------------------------


def _plan_stream(
    request: IngestRequest,
    stream: SelectedStream,
    fields: Sequence[Field],
    rules: Rules,
    key: _MergeKey,
    layout: AskedLayout,
    present: Callable[[str], AbstractSet[Path]],
    problems: list[Problem],
) -> StreamPlan:
    qualified = f"{request.schema_name}.{stream.table}"
    context = ProtectionContext(qualified, frozenset(key.paths), layout.compared)
    for path, rule in rules.items():
        context.check(stream.label, path, type_at(fields, path), rule, problems)
    columns = plan_columns(fields, rules, context)
    _check_key_survives(stream.label, rules, key, problems)
    _check_deletions_survive(request, stream.label, rules, problems)
    _check_names(request, stream.label, columns, problems)
    reserved = METADATA_COLUMNS if request.add_ingestion_metadata else ()
    columns = keep_apart(columns, present(stream.table), reserved)
    if not columns and not request.add_ingestion_metadata:
        problems.append(
            Problem(
                "/streams",
                "no-columns",
                f"{quoted(stream.label)} has no columns, and without metadata columns its table "
                "would have none.",
                "Keep the metadata columns, or leave the stream out.",
            )
        )
    removed = tuple(".".join(path) for path, rule in rules.items() if rule.drop)
    return StreamPlan(
        name=stream.name,
        namespace=stream.namespace,
        table=stream.table,
        sync_mode=stream.sync_mode,
        mode=request.mode,
        cursor=stream.cursor if stream.sync_mode == "incremental" else (),
        primary_key=stream.primary_key,
        merge_key=key.paths,
        columns=columns,
        removed=removed,
        catalog_stream=stream.catalog_stream,
        # A state is opaque: whatever the stream hides, its state may hold.
        protect_state=bool(removed) or any(c.protects for c in columns),
        partition_by=fit_partitions(stream.label, layout, columns, problems),
        sort_by=fit_sort_order(stream.label, layout, columns, problems),
        key_order=() if layout.sort_by else key_order(key.paths, columns),
        identifier=_identifier(key.paths, stream.primary_key, columns),
    )


def _identifier(
    key: Sequence[Path], primary_key: Sequence[Path], columns: Sequence[ColumnPlan]
) -> tuple[Path, ...]:
    """The columns that identify the rows of a table, as Iceberg means it: all of the key or none.

    Identifier fields are required: only what the source itself calls its key has a value in every row.
    Iceberg leaves floating-point numbers and members of optional structs out.
    """
    if not key or set(key) != set(primary_key):
        return ()
    found = []
    for path in key:
        column = column_at(columns, path)
        if column is None or len(path) > 1 or not isinstance(column.type, Primitive | Decimal):
            return ()
        if isinstance(column.type, Primitive) and column.type.name in ("float", "double"):
            return ()
        found.append((column.name,))
    return tuple(found)


def _check_key_survives(stream: str, rules: Rules, key: _MergeKey, problems: list[Problem]) -> None:
    for path in key.paths:
        for length in range(1, len(path) + 1):
            rule = rules.get(path[:length])
            if rule is None:
                continue
            pointer = next(iter(rule.pointers.values()), "")
            if rule.drop or (rule.whole and length < len(path)):
                problems.append(
                    Problem(
                        pointer,
                        "merge-key-lost",
                        f"{quoted('.'.join(path))} of {quoted(stream)} is a merge key and cannot "
                        "be taken away.",
                        "Merge by another column, or keep this one.",
                    )
                )


def _check_deletions_survive(
    request: IngestRequest, stream: str, rules: Rules, problems: list[Problem]
) -> None:
    rule = rules.get((DELETED_AT,))
    if request.mode == "merge" and rule is not None and rule.drop:
        problems.append(
            Problem(
                rule.pointers["drop"],
                "deletion-mark-lost",
                f"{quoted(DELETED_AT)} of {quoted(stream)} marks rows to delete and cannot be "
                "dropped in merge mode.",
                "Keep the column.",
            )
        )


def _check_names(
    request: IngestRequest, stream: str, columns: Sequence[ColumnPlan], problems: list[Problem]
) -> None:
    """What renames of the request make collide; names of the source are kept apart by `keep_apart`."""

    def pointer(found: Sequence[ColumnPlan]) -> str:
        renamed = {(c.source, c.name) for c in found if c.name != c.source}
        for i, t in enumerate(request.column_transformations):
            if t.transformation_type == "rename" and any(
                t.new_name == name and t.column.endswith(source) for source, name in renamed
            ):
                return f"/column_transformations/{i}/new_name"
        return "/column_transformations"

    groups: dict[str, list[tuple[Path, ColumnPlan]]] = {}
    for path, column in all_columns(columns):
        groups.setdefault(".".join(path).casefold(), []).append((path, column))
    for group in groups.values():
        found = [column for _, column in group]
        if len(group) > 1 and any(c.name != c.source for c in found):
            name = ".".join(group[0][0])
            problems.append(
                Problem(
                    pointer(found),
                    "column-name-collision",
                    f"The columns {', '.join(quoted(c.source) for c in found)} of {quoted(stream)} "
                    f"would all be named {quoted(name)}.",
                    "Rename or drop one of them (names that differ only in case are equal to many engines).",
                )
            )
    for column in columns if request.add_ingestion_metadata else ():
        if column.name != column.source and column.name.casefold() in METADATA_COLUMNS:
            problems.append(
                Problem(
                    pointer([column]),
                    "reserved-column-name",
                    f"{quoted(column.name)} of {quoted(stream)} is the name of a metadata column.",
                    "Use another name, or set add_ingestion_metadata to false.",
                )
            )


def _warnings(request: IngestRequest, streams: Sequence[StreamPlan]) -> list[str]:
    """What is allowed but worth knowing."""
    notes = []
    full = [s.name for s in streams if s.sync_mode == "full_refresh"]
    if request.mode == "append" and full:
        notes.append(
            f"Each run adds a full copy of: {', '.join(full)} (these streams cannot be read incrementally)."
        )
    for s in streams:
        notes += _notes_on_names(s)
        terms = {t.source for t in (*s.partition_by, *s.sort_by)} - set(s.merge_key)
        for source in sorted(terms):
            found = column_at(s.columns, source)
            if found is not None and found.encrypt is not None and found.encrypt.mode == "deterministic":
                notes.append(
                    f"{s.name}: {quoted('.'.join(source))} is encrypted deterministically, "
                    "because the table is "
                    "partitioned or sorted by it: equal values can be seen to be equal."
                )
        if s.mode == "merge" and s.cursor:
            cursor = column_at(s.columns, s.cursor)
            if cursor is None or cursor.protection is not None:
                notes.append(
                    f"{s.name}: the cursor column is dropped, encrypted, hashed or masked, so of several "
                    "versions of a key the one that arrives last wins."
                )
    return notes


def _notes_on_names(stream: StreamPlan) -> list[str]:
    """Columns that could not keep the name that the source gave them."""
    apart = list(apart_names(stream.columns))
    notes = [
        f"{stream.name}: the column {_short(source)} is called {_short(name)} in the table, because "
        + (
            "another one has its name, or one that differs only in case."
            if fit_name(source[-1]) == source[-1]
            else "its own name is not fit for a table."
        )
        for source, name in apart[:_LISTED_NAMES]
    ]
    if (more := len(apart) - _LISTED_NAMES) > 0:
        notes.append(f"{stream.name}: {more} more columns have other names in the table.")
    return notes


def _short(path: Path) -> str:
    text = ".".join(path)
    return repr(text if len(text) <= 120 else text[:117] + "...")


# ---- what the sync needs to know of a merge ---------------------------------------------------------------


class MergeColumns(msgspec.Struct, frozen=True):
    """Paths in the table that a merge works by."""

    key: tuple[Path, ...]
    cursor: Path | None
    deleted_at: Path | None


def merge_columns(stream: StreamPlan, *, soft_deletes: bool = False) -> MergeColumns:
    """Where keys, cursor and CDC deletion mark of a merge stream are in its table.

    Args:
        stream: A stream of a merge job.
        soft_deletes: Rows that the source deleted stay: there is no column that deletes.
    """
    key = tuple(p for path in stream.merge_key if (p := table_path(stream.columns, path)))
    if len(key) != len(stream.merge_key):
        raise ValueError(f"a merge key of {quoted(stream.name)} is not in the table")
    cursor = None
    if stream.cursor:
        column = column_at(stream.columns, stream.cursor)
        if column is not None and column.protection is None and isinstance(column.type, Primitive | Decimal):
            cursor = table_path(stream.columns, stream.cursor)
    else:
        cursor = _cdc_cursor(stream.columns)
    deleted = None if soft_deletes else table_path(stream.columns, (DELETED_AT,))
    return MergeColumns(key, cursor, deleted)


def _cdc_cursor(columns: Sequence[ColumnPlan]) -> Path | None:
    """What orders the versions of a row of a CDC stream that declares no cursor: its place in the log."""
    for name in ("_ab_cdc_lsn", "_ab_cdc_cursor", "_ab_cdc_updated_at"):
        column = column_at(columns, (name,))
        if (
            column is None
            or column.protection is not None
            or not isinstance(column.type, Primitive | Decimal)
        ):
            continue
        # As text, times are only ordered if all are written alike: 12:00:00.5Z is before 12:00:00Z.
        if name == "_ab_cdc_updated_at" and column.type in (STRING, BINARY):
            continue
        return (column.name,)
    return None
