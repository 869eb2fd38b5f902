"""Paths of files: when two of them mean the same file, and sets of many of them.

A table's metadata may name a file in another way than its storage lists it: `s3a` for `s3`, a plain path for
`file://`, escapes, double slashes, a link for the folder behind it. Where it is doubtful whether two paths
mean one file they are taken to, because then a file stays.
"""

from __future__ import annotations

import array
import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote

import pyarrow as pa

_LOCAL = frozenset({"", "file"})
_NAMELESS = frozenset({"hdfs", "viewfs"})
"""The host is only where the name node is."""
_FRESH = 4096


def file_key(location: str) -> str:
    """Equal for paths that mean the same file, whatever scheme and way of writing they use."""
    scheme, rest = _split(location)
    if scheme in _LOCAL:
        folder, _, name = ("/" + rest).rpartition("/")
        return _clean(f"{_real(folder or '/')}/{name}")
    host, slash, path = rest.partition("/")
    if scheme in _NAMELESS:
        return _clean(path)
    # abfss://container@account.host/path
    return _clean(f"{host.split('@')[0]}{slash}{path}")


def file_keys(location: str) -> tuple[str, ...]:
    """The key of a path, and the one that it has if it is escaped as a URI."""
    if "%" not in location:
        return (file_key(location),)
    return file_key(location), file_key(unquote(location))


def folder_key(location: str) -> str:
    """The key of a folder: it begins with that of another folder exactly if it is that one or inside it."""
    return file_key(location.rstrip("/") + "/x")[:-1]


def _split(location: str) -> tuple[str, str]:
    head, found, rest = location.partition("://")
    if found:
        return head.lower(), rest
    if location.startswith("file:"):
        return "file", location[5:]
    return "", location


def _clean(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


class PathSet:
    """Many paths in little memory: eight bytes each (twice that while they are sorted).

    Two different paths are taken for one about once in 10¹⁹ pairs; then a file stays that could go.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._sorted: memoryview[int] = memoryview(array.array("Q"))
        self._fresh = array.array("Q")
        self._new: set[int] = set()
        for path in paths:
            self.add(path)

    def add(self, path: str) -> None:
        """Take a path."""
        for key in file_keys(path):
            self._fresh.append(_digest(key))

    def __contains__(self, path: str) -> bool:
        self._settle()
        return any(self._has(_digest(key)) for key in file_keys(path))

    def __len__(self) -> int:
        self._settle()
        return len(self._sorted) + len(self._new)

    def _has(self, digest: int) -> bool:
        if digest in self._new:
            return True
        at = bisect_left(self._sorted, digest)
        return at < len(self._sorted) and self._sorted[at] == digest

    def _settle(self) -> None:
        """Sort what was added; little of it is kept beside."""
        if not self._fresh:
            return
        if len(self._new) + len(self._fresh) <= _FRESH:
            self._new |= {digest for digest in self._fresh if not self._has(digest)}
        else:
            parts = [_arrow(self._sorted), _arrow(array.array("Q", self._new)), _arrow(self._fresh)]
            merged = pa.concat_arrays(parts).unique().sort()
            self._sorted = memoryview(merged.buffers()[1])[: 8 * len(merged)].cast("B").cast("Q")
            self._new = set()
        self._fresh = array.array("Q")


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _arrow(digests: array.array[int] | memoryview[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.uint64(), len(digests), [None, pa.py_buffer(digests)])


def chunks(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """The paths in lists of at most `size`."""
    chunk: list[str] = []
    for path in paths:
        chunk.append(path)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
