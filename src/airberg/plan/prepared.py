"""The outcome of preparing a job, as plain values: what the HTTP process gets back."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import msgspec

from airberg.plan.model import IngestRequest, JobPlan
from airberg.sources.entry import ConnectorEntry


class TableDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A target table against what exists.

    Attributes:
        table: Dotted name.
        columns: Name and type of each column that the job needs.
        changes: What would change in an existing table, one sentence each.
        partition_by: How the table is partitioned, or will be.
        sort_by: Its sort order, in the same way.
        identifier: Its identifier fields, in the same way.
        format_version: Its Iceberg format version, in the same way.
    """

    table: str
    exists: bool
    columns: dict[str, str]
    changes: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    identifier: tuple[str, ...] = ()
    format_version: int = 2


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What preparing found.

    Attributes:
        public_config: The configuration with its secrets masked.
        renewed_config: A configuration that the source handed out while it was asked (CONTROL); holds
            secrets, and replaces the one that was sent.
        connector: The connector that was asked, which the job keeps.
    """

    plan: JobPlan | None
    public_config: dict[str, Any]
    renewed_config: dict[str, Any] | None = None
    tables: tuple[TableDifference, ...] = ()
    connector: ConnectorEntry | None = None


class Planner(Protocol):
    """Prepares jobs. The real one works in a child process, its twin in this one."""

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """Prepare a job; with `preflight` off only what needs no source.

        Args:
            request: What was asked.
            source_config: The source's configuration, with its secrets.
            preflight: Whether to ask the source.
            roles: The roles of the job's owner, as far as they are known: they may use keys.

        Raises:
            InvalidRequest: With everything that is wrong.
            Unavailable: No answer within the time that a preflight may take.
        """
        ...
