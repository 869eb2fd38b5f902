"""When upkeep is due: the deployment's settings, and what a table's own properties say instead."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from airberg.errors import ConfigurationFailed
from airberg.settings import Settings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The thresholds for one table.

    Attributes:
        target_file_bytes: Size that data files should have.
        small_file_fraction: A data file below this part of the target is small.
        min_input_files: So many small files of a partition are worth being written together.
        delete_fraction: A data file with this part of its rows deleted is written anew.
        max_delete_files: A data file with more delete files than this is written anew.
        max_group_bytes: Input files that are written together; also what is sorted as a whole.
        commit_bytes: Input files after which what is done is committed.
        expire_age_ms: Snapshots that are younger stay.
        expire_keep: So many of the newest snapshots stay, however old.
        orphan_age_ms: Files that no snapshot names stay while they are younger.
        manifest_target_bytes: Size that manifests should have.
        min_manifests: So many small manifests are worth being written together.
        delete_allowed: Files may be deleted (`gc.enabled`).
    """

    target_file_bytes: int = 128 * 1024 * 1024
    small_file_fraction: float = 0.75
    min_input_files: int = 5
    delete_fraction: float = 0.1
    max_delete_files: int = 10
    max_group_bytes: int = 1024 * 1024 * 1024
    commit_bytes: int = 8 * 1024 * 1024 * 1024
    expire_age_ms: int = 7 * DAY_MS
    expire_keep: int = 20
    orphan_age_ms: int = 3 * DAY_MS
    manifest_target_bytes: int = 8 * 1024 * 1024
    min_manifests: int = 25
    delete_allowed: bool = True


def deployment_policy(settings: Settings) -> Policy:
    """The thresholds for tables that have no properties of their own."""
    upkeep = settings.upkeep
    return Policy(
        target_file_bytes=upkeep.target_file_bytes or settings.sync.target_file_bytes,
        small_file_fraction=upkeep.small_file_fraction,
        min_input_files=upkeep.min_input_files,
        delete_fraction=upkeep.delete_fraction,
        max_delete_files=upkeep.max_delete_files,
        max_group_bytes=upkeep.max_group_bytes,
        commit_bytes=upkeep.commit_bytes,
        expire_age_ms=int(upkeep.expire_age_days * DAY_MS),
        expire_keep=upkeep.expire_keep,
        # A run's files are named by no snapshot until it commits, and it may take this long.
        orphan_age_ms=max(
            int(upkeep.orphan_age_days * DAY_MS), settings.airflow.task_timeout_s * 1000 + HOUR_MS
        ),
        manifest_target_bytes=upkeep.manifest_target_bytes,
        min_manifests=upkeep.min_manifests,
    )


def table_policy(base: Policy, properties: Mapping[str, str], name: str) -> Policy:
    """The thresholds for one table: Iceberg's own properties go before the deployment's settings.

    Args:
        base: Of the deployment.
        properties: Of the table.
        name: Of the table, for messages.

    Raises:
        ConfigurationFailed: A property is no number, or is out of bounds.
    """

    def number(property_: str, default: int, least: int = 1) -> int:
        if (text := properties.get(property_)) is None:
            return default
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ConfigurationFailed(
                f"The property {property_} of the table {name} is {text[:40]!r}.",
                guidance=f"Set it to a whole number from {least} on, or remove it.",
                code="table-property",
            )
        return value

    return msgspec.structs.replace(
        base,
        target_file_bytes=number("write.target-file-size-bytes", base.target_file_bytes),
        expire_age_ms=number("history.expire.max-snapshot-age-ms", base.expire_age_ms),
        expire_keep=number("history.expire.min-snapshots-to-keep", base.expire_keep),
        manifest_target_bytes=number("commit.manifest.target-size-bytes", base.manifest_target_bytes),
        min_manifests=number("commit.manifest.min-count-to-merge", base.min_manifests, 2),
        delete_allowed=properties.get("gc.enabled", "true").strip().lower() != "false",
    )
