"""The tables that a run has changed, as the command `airberg sync` wrote them down. No Airflow in here.

A file and not the command's output: there a connector's words are too.
"""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

VARIABLE = "AIRBERG_CHANGED_TABLES_FILE"
"""Environment variable with the file's path. An older `airberg` does not know it, and writes nothing."""
SCHEME = "iceberg://"
MAX_URI = 1500
"""Airflow stores no longer ones."""
MAX_BYTES = 16 * 1024 * 1024
"""A longer text is not understood."""
MAX_EXTRA = 20


class ChangedTable(NamedTuple):
    """A table that has new content: the URI of its asset, and numbers about the run."""

    uri: str
    extra: dict[str, str | int]


def read_changed_tables(text: bytes | None) -> list[ChangedTable]:
    """What the command wrote; nothing, where it wrote nothing that can be understood.

    The rows are committed by now, so nothing in the text may fail the task: what is no table is left out
    and logged.

    Args:
        text: Content of the file; None, if there is none.
    """
    if text is None:
        return []
    try:
        found: Any = json.loads(text) if len(text) <= MAX_BYTES else None
        entries = found["tables"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = entries = None
    if not isinstance(entries, list):
        log.warning("the list of changed tables cannot be read: no flow is told that they changed")
        return []
    tables = [table for entry in entries if (table := _table(entry)) is not None]
    if len(tables) < len(entries):
        log.warning("%d entries of the list of changed tables are no tables", len(entries) - len(tables))
    if left_out := found.get("left_out"):
        log.warning("%s changed tables had no room in the list: no flow is told of those", left_out)
    return tables


def _table(entry: Any) -> ChangedTable | None:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(entry, dict):
        return None
    uri, extra = entry.get("uri"), entry.get("extra", {})
    if not isinstance(uri, str) or not isinstance(extra, dict):
        return None
    if not uri.startswith(SCHEME) or not len(SCHEME) < len(uri) <= MAX_URI or not uri.isprintable():
        return None
    if len(extra) > MAX_EXTRA or not all(isinstance(value, str | int) for value in extra.values()):
        return None
    return ChangedTable(uri, extra)
