"""The tables that a run has changed, as the command `airberg sync` wrote them down. No Airflow in here.

A file and not the command's output: there a connector's words are too.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

VARIABLE = "AIRBERG_CHANGED_TABLES_FILE"
"""Environment variable with the file's path. An older `airberg` does not know it, and writes nothing."""
SCHEME = "iceberg://"
MAX_URI = 1500
"""Airflow stores no longer ones."""
MAX_BYTES = 16 * 1024 * 1024
MAX_EXTRA = 20


class ChangedTable(NamedTuple):
    """A table that has new content: the URI of its asset, and numbers about the run."""

    uri: str
    extra: dict[str, str | int]


@contextmanager
def changed_tables_file() -> Iterator[Path]:
    """A place for the file, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="airberg-") as folder:
        yield Path(folder) / "changed-tables.json"


def read_changed_tables(path: Path) -> list[ChangedTable]:
    """What the command wrote; nothing, where it wrote nothing that can be understood.

    The rows are committed by now, so nothing in the file may fail the task: what is no table is left out
    and logged.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        entries = json.loads(text)["tables"] if len(text) <= MAX_BYTES else None
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        log.warning("the list of changed tables cannot be read: no flow is told that they changed")
        return []
    tables = [table for entry in entries if (table := _table(entry)) is not None]
    if len(tables) < len(entries):
        log.warning("%d entries of the list of changed tables are no tables", len(entries) - len(tables))
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
