"""Plans of what happens to a table: drawn by hypothesis, played by `support.model_play`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st

from airberg.plan.model import DeleteFormat
from support.key_values import KINDS


@dataclass(frozen=True)
class Sent:
    """A row that is sent.

    Attributes:
        keys: Which value each key column has; the number after the last value is null.
        at: The cursor.
        gone: It carries a deletion mark.
        region: Which region it is in.
        again: Send what the table has under this key instead, letter for letter, if it has anything.
    """

    keys: tuple[int, ...]
    at: int | None = None
    gone: bool = False
    region: int = 0
    again: bool = False


@dataclass(frozen=True)
class Merge:
    """A checkpoint: rows arrive, all but the last `behind` are committed.

    Attributes:
        lacks: The rows have none of the columns that were added later.
    """

    rows: tuple[Sent, ...]
    behind: int = 0
    lacks: bool = False


@dataclass(frozen=True)
class Append:
    """Another writer adds rows: another job of ours, or pyiceberg."""

    rows: tuple[Sent, ...]
    foreign: bool = False


@dataclass(frozen=True)
class Delete:
    """Another engine deletes every n-th row of a file by a position-delete file, in version 2.

    Attributes:
        wide: The delete file does not say that it is for one data file.
    """

    file: int
    every: int
    wide: bool = False


@dataclass(frozen=True)
class NewRun:
    """The run ends, what it has not committed is lost, another one begins."""


@dataclass(frozen=True)
class AddColumn:
    """The source has one more column, or one more member of a struct."""

    nested: bool = False


@dataclass(frozen=True)
class Promote:
    """The types that can be wider become wider."""


@dataclass(frozen=True)
class Compact:
    """Small files, and files with deletes, are put together.

    Attributes:
        eager: Two small files are enough, and so is one deleted row.
        foreign: By pyiceberg, which writes all rows anew.
    """

    eager: bool = True
    foreign: bool = False


@dataclass(frozen=True)
class Expire:
    """All snapshots but the newest are dropped.

    Attributes:
        keep: So many of ours stay.
        foreign: By pyiceberg, which leaves their files.
    """

    keep: int = 1
    foreign: bool = False


@dataclass(frozen=True)
class RewriteManifests:
    """Small manifests are put together."""


@dataclass(frozen=True)
class Orphans:
    """Files that no snapshot has are removed.

    Attributes:
        late: The run is over, and all of them are old.
    """

    late: bool = True


Action: TypeAlias = (
    Merge | Append | Delete | NewRun | AddColumn | Promote | Compact | Expire | RewriteManifests | Orphans
)


@dataclass(frozen=True)
class Shape:
    """A table.

    Attributes:
        kinds: Types of its key columns.
        nested: The first key column is a member of a struct.
        cursor: Versions are ordered by a column.
        hard: A deletion mark takes a row out.
        skip_unchanged: Rows that are sent again as they are cause no write.
        version: Of the format.
        delete_format: How replaced rows are taken out.
        partitions: "none", "key", "region" or "both".
        sort: "none", "key" or "payload".
        group: Rows in a row group, and so in a data file.
    """

    kinds: tuple[str, ...] = ("long",)
    nested: bool = False
    cursor: bool = True
    hard: bool = True
    skip_unchanged: bool = False
    version: int = 2
    delete_format: DeleteFormat = "position"
    partitions: str = "none"
    sort: str = "none"
    group: int = 100


@dataclass(frozen=True)
class Plan:
    """A table, and what happens to it."""

    shape: Shape
    actions: tuple[Action, ...]


VERSIONS: dict[DeleteFormat, tuple[int, ...]] = {
    "position": (2,),
    "vector": (3,),
    "copy-on-write": (1, 2, 3),
}


def shapes(delete_format: DeleteFormat, kinds: Collection[str] = KINDS) -> st.SearchStrategy[Shape]:
    """Tables with this delete format."""
    return st.builds(
        Shape,
        kinds=st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=3, unique=True).map(tuple),
        nested=st.booleans(),
        cursor=st.booleans(),
        hard=st.booleans(),
        skip_unchanged=st.booleans(),
        version=st.sampled_from(VERSIONS[delete_format]),
        delete_format=st.just(delete_format),
        partitions=st.sampled_from(["none", "key", "region", "both"]),
        sort=st.sampled_from(["none", "key", "payload"]),
        group=st.sampled_from([1, 3, 100]),
    )


def _sent(shape: Shape) -> st.SearchStrategy[Sent]:
    # Few keys, so that they meet again: of composite keys only the ends of each list of values.
    most = 10 if len(shape.kinds) == 1 else 3
    return st.builds(
        Sent,
        keys=st.tuples(*(st.integers(0, most) for _ in shape.kinds)),
        at=st.none() | st.integers(0, 3),
        gone=st.integers(0, 4).map(lambda n: n == 4),
        region=st.integers(0, 2),
        again=st.integers(0, 3).map(lambda n: n == 3),
    )


def _action(shape: Shape) -> st.SearchStrategy[Action]:
    rows = st.lists(_sent(shape), max_size=12).map(tuple)
    merge = st.builds(Merge, rows, st.sampled_from([0, 0, 0, 2]), st.booleans())
    other: st.SearchStrategy[Action] = st.one_of(
        st.builds(Append, rows, st.booleans()),
        st.builds(Delete, st.integers(0, 3), st.integers(1, 3), st.booleans()),
        st.just(NewRun()),
        st.builds(AddColumn, st.booleans()),
        st.just(Promote()),
        st.builds(Compact, st.booleans(), st.booleans()),
        st.builds(Expire, st.integers(1, 3), st.booleans()),
        st.just(RewriteManifests()),
        st.builds(Orphans, st.booleans()),
    )
    return st.one_of(merge, merge, other)


def plans(delete_format: DeleteFormat, most: int, kinds: Collection[str] = KINDS) -> st.SearchStrategy[Plan]:
    """Plans of up to `most` actions, for keys of these kinds."""
    return shapes(delete_format, kinds).flatmap(
        lambda shape: st.builds(
            Plan, st.just(shape), st.lists(_action(shape), min_size=2, max_size=most).map(tuple)
        )
    )
