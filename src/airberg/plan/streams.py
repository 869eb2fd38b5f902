"""Which streams a job takes, how each is read, and the table that each one fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from airberg.errors import Problem
from airberg.plan.model import IngestRequest, Path, SyncMode
from airberg.plan.names import collisions, did_you_mean, table_name
from airberg.quoted import quoted


class SelectedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A discovered stream that the job takes, with its table and how it is read."""

    name: str
    namespace: str | None
    table: str
    sync_mode: SyncMode
    cursor: Path
    primary_key: tuple[Path, ...]
    catalog_stream: dict[str, Any]

    @property
    def label(self) -> str:
        """What tells the stream apart within its job: `namespace.name` where there is a namespace."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


def select_streams(
    request: IngestRequest, discovered: Sequence[dict[str, Any]], problems: list[Problem]
) -> list[SelectedStream]:
    """Choose the streams, in the connector's order; what is wrong is added to `problems`.

    A stream is asked for by its name, or by `namespace.name` where the connector has namespaces.
    """
    wanted = set(request.streams)
    known: dict[str, None] = {}
    for stream in discovered:
        known[stream["name"]] = None
        if stream.get("namespace"):
            known[f"{stream['namespace']}.{stream['name']}"] = None
    for i, name in enumerate(request.streams):
        if name not in known:
            names = {s["name"] for s in discovered}
            problems.append(
                Problem(
                    f"/streams/{i}",
                    "unknown-stream",
                    f"The connector has no stream {quoted(name)}.",
                    did_you_mean(name, names),
                )
            )
    chosen = [
        s
        for s in discovered
        if not wanted or s["name"] in wanted or f"{s.get('namespace')}.{s['name']}" in wanted
    ]
    if not discovered:
        problems.append(
            Problem(
                "/source_config",
                "no-streams",
                "The connector offers no streams with this configuration.",
                "Check what the credentials give access to.",
            )
        )
    shared = {name for name, count in Counter(s["name"] for s in chosen).items() if count > 1}
    streams = [_selected(s, request, shared) for s in chosen]
    _check_tables(streams, problems)
    return streams


def _selected(stream: dict[str, Any], request: IngestRequest, shared: set[str]) -> SelectedStream:
    name, namespace = stream["name"], stream.get("namespace")
    cursor = tuple(stream.get("default_cursor_field") or ())
    return SelectedStream(
        name=name,
        namespace=namespace,
        table=table_name(name, namespace if name in shared else None),
        sync_mode=_sync_mode(stream, request, cursor),
        cursor=cursor,
        primary_key=tuple(tuple(p) for p in stream.get("source_defined_primary_key") or ()),
        catalog_stream=stream,
    )


def _sync_mode(stream: dict[str, Any], request: IngestRequest, cursor: Path) -> SyncMode:
    """Incremental wherever the stream can, except that overwrite always reads in full.

    A stream whose cursor the user would have to choose, and that proposes none, is read in full.
    """
    modes = stream.get("supported_sync_modes") or ["full_refresh"]
    can = "incremental" in modes and (bool(stream.get("source_defined_cursor")) or bool(cursor))
    if request.mode == "overwrite" and "full_refresh" in modes:
        return "full_refresh"
    return "incremental" if can else "full_refresh"


def _check_tables(streams: Sequence[SelectedStream], problems: list[Problem]) -> None:
    labels = {s.label: s.table for s in streams}
    for table, names in collisions(labels):
        problems.append(
            Problem(
                "/streams",
                "table-name-collision",
                f"The streams {', '.join(names)} would all fill the table {quoted(table)}.",
                "Put them into separate jobs with another schema_name, or select one of them.",
            )
        )
