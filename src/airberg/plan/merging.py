"""How a job merges: what its request says, else what the deployment says, and what is worth knowing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airberg.plan.model import (
    DeleteFormat,
    IngestRequest,
    JobPlan,
    MergeOptions,
    StreamPlan,
)
from airberg.plan.names import DELETED_AT
from airberg.plan.readers import cannot_read, delete_format_for
from airberg.plan.transformations import all_columns, column_at
from airberg.settings import MergeSettings

_LISTED_NAMES = 10


def merge_options(request: IngestRequest, defaults: MergeSettings) -> MergeOptions:
    """How the merges of a job work.

    Of the delete format the first that is there decides: that of the request, the request's readers, the
    deployment's delete format, the deployment's readers.
    """
    return MergeOptions(
        delete_format=_delete_format(request, defaults),
        soft_deletes=(request.deletes or defaults.deletes) == "soft",
        skip_unchanged=(
            defaults.skip_unchanged if request.skip_unchanged is None else request.skip_unchanged
        ),
    )


def _delete_format(request: IngestRequest, defaults: MergeSettings) -> DeleteFormat:
    if request.delete_format is not None:
        return request.delete_format
    if request.readers:
        return delete_format_for(request.readers)
    return defaults.delete_format or delete_format_for(defaults.readers)


def new_format_version(plan: JobPlan) -> int:
    """The format version of tables that a job makes: deletion vectors came with version 3."""
    return 3 if plan.mode == "merge" and plan.merging.delete_format == "vector" else 2


# ---- what is allowed but worth knowing ---------------------------------------------------------------------


def merge_notes(request: IngestRequest, options: MergeOptions, streams: Sequence[StreamPlan]) -> list[str]:
    """What the options of a merge job do not do for its streams."""
    if request.mode != "merge":
        return []
    notes = []
    if options.skip_unchanged:
        for stream in streams:
            random = [
                ".".join(path)
                for path, c in all_columns(stream.columns)
                if c.encrypt is not None and c.encrypt.mode == "random"
            ]
            if random:
                notes.append(
                    f"{stream.name}: skip_unchanged skips nothing, because the ciphertext of "
                    f"{_listed(random)} differs each time."
                )
    # A deployment may say `soft` for all jobs; only who asks for it is told that there is nothing to keep.
    if request.deletes == "soft":
        without = [s.name for s in streams if column_at(s.columns, (DELETED_AT,)) is None]
        if without:
            notes.append(
                f"deletes: soft changes nothing for {_listed(without)}: without the column {DELETED_AT} "
                "a source does not say which rows it deleted."
            )
    if options.delete_format == "copy-on-write" and request.delete_format is None:
        notes.append(
            "Files are written anew where rows change (copy-on-write): among the readers are some that are "
            "not known to read position deletes, and some that are not known to read deletion vectors."
        )
    return notes


def table_notes(request: IngestRequest, plan: JobPlan, versions: Mapping[str, int]) -> list[str]:
    """Where a table that exists has a format version in which rows go otherwise than asked.

    Args:
        request: What was asked.
        plan: Its plan.
        versions: The format version of each table that exists, by its name without namespace.
    """
    wanted = plan.merging.delete_format
    notes = []
    for stream in plan.streams if plan.mode == "merge" else ():
        version = versions.get(stream.table)
        name = ".".join((*plan.namespace, stream.table))
        if version is None or wanted == "copy-on-write":
            continue
        if version == 1:
            notes.append(
                f"{name} exists and is of format version 1, which has no deletes: files are written anew "
                "where rows change."
            )
        elif version == 2 and wanted == "vector":
            notes.append(
                f"{name} exists and is of format version 2, which has no deletion vectors: rows go by "
                "position-delete files."
            )
        elif version >= 3 and wanted == "position":
            unread = cannot_read("vector", request.readers or ())
            notes.append(
                f"{name} exists and is of format version {version}, where rows go by deletion vectors"
                + (f"; {_listed(unread)} is not known to read them." if unread else ".")
            )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
