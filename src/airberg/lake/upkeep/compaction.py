"""Which data files are written anew, and which of them together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from airberg.lake.upkeep.packing import packed
from airberg.lake.upkeep.policy import Policy

_MARGIN = 0.1
"""Files are not made so small that they would be taken for small ones again."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What decides about a data file.

    Attributes:
        path: Its path.
        partition: Its partition spec and partition; equal for files of the same one. Never shown: the
            values are those of records.
        bytes: Its size.
        rows: Its rows, deleted ones too.
        deleted: Rows that delete files for this file alone delete; those of others are not known.
        delete_files: Number of the delete files that apply to it.
        sequence: Sequence number of its rows.
        rewritable: It can be read here (it is Parquet).
    """

    path: str
    partition: Hashable
    bytes: int
    rows: int
    deleted: int = 0
    delete_files: int = 0
    sequence: int = 0
    rewritable: bool = True

    @property
    def live_bytes(self) -> int:
        """About what is left of it without the deleted rows."""
        if self.rows <= 0:
            return self.bytes
        return self.bytes * max(0, self.rows - self.deleted) // self.rows


@dataclass(frozen=True, slots=True)
class Group:
    """Data files of one partition that are written anew together, in this order.

    Attributes:
        files: The files.
        output_bytes: Size at which a new file is closed, so that all have about the same one.
    """

    files: tuple[FileFacts, ...]
    output_bytes: int

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What compaction does to a table.

    Attributes:
        groups: Files that are written anew.
        dangling: Delete files that apply to no data file any more, and go.
    """

    groups: tuple[Group, ...] = ()
    dangling: int = 0

    @property
    def empty(self) -> bool:
        """There is nothing to do."""
        return not (self.groups or self.dangling)

    @property
    def files(self) -> int:
        """Number of the files that are written anew."""
        return sum(len(group.files) for group in self.groups)

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(group.bytes for group in self.groups)

    def parts(self, most_bytes: int) -> Iterator[tuple[Group, ...]]:
        """The groups in parts of about this size, each to be committed by itself."""
        return packed(self.groups, lambda group: group.bytes, most_bytes)


def is_small(file: FileFacts, policy: Policy) -> bool:
    """The file is to be written together with others."""
    return file.bytes < policy.target_file_bytes * policy.small_file_fraction


def has_many_deletes(file: FileFacts, policy: Policy) -> bool:
    """Reading the file costs too much for what is left of it."""
    return file.delete_files > policy.max_delete_files or (
        file.deleted > 0 and file.deleted >= policy.delete_fraction * file.rows
    )


def plan_compaction(files: Iterable[FileFacts], policy: Policy, dangling: int = 0) -> CompactionPlan:
    """Say which files are written anew.

    Small files and files with many deletes are packed, in the order of their age, into groups of one
    partition. A group is worth it when a file of it has many deletes, when it has many files, or when a
    whole file comes out of several.

    Args:
        files: All data files of a snapshot.
        policy: The thresholds.
        dangling: Number of delete files that apply to no data file.
    """
    candidates: dict[Hashable, list[FileFacts]] = defaultdict(list)
    for file in files:
        if file.rewritable and (is_small(file, policy) or has_many_deletes(file, policy)):
            candidates[file.partition].append(file)
    groups: list[Group] = []
    for found in candidates.values():
        found.sort(key=lambda file: (file.sequence, file.path))
        for together in packed(found, lambda file: file.bytes, policy.max_group_bytes):
            if _worth(together, policy):
                groups.append(Group(together, _output_bytes(together, policy)))
    return CompactionPlan(tuple(groups), dangling)


def _worth(files: tuple[FileFacts, ...], policy: Policy) -> bool:
    if any(has_many_deletes(file, policy) for file in files):
        return True
    if len(files) < 2:
        return False
    return len(files) >= policy.min_input_files or _size(files) >= policy.target_file_bytes


def _size(files: tuple[FileFacts, ...]) -> int:
    return sum(file.live_bytes for file in files)


def _output_bytes(files: tuple[FileFacts, ...], policy: Policy) -> int:
    """Divide evenly: a whole file and a rest would leave a small file each time."""
    size, target = _size(files), policy.target_file_bytes
    count = max(1, math.ceil(size / target))
    least = min(1.0, policy.small_file_fraction + _MARGIN) * target
    if count > 1 and size / count < least:
        count -= 1
    return max(target, -(-size // count)) if count == 1 else -(-size // count)
