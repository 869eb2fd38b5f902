"""Canaries: values that occur nowhere else, planted in a source, and a search that finds them anywhere.

Each text canary begins and ends with a mark, so that a part of it (a bound in statistics, the first 500
characters of a message) is found too, and so that one search finds all of them. Numbers are looked for one by
one. `support.containers` opens what hides bytes: compression, base64, Parquet, Avro, SQLite.
"""

from __future__ import annotations

import base64
import secrets
import string
import struct
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from support.containers import views

MARK_LENGTH = 12
_EXCERPT = 48


@dataclass(frozen=True)
class Hit:
    """A place where a canary was found.

    Attributes:
        where: Path of the file or name of the text, and the way into it.
        form: In which form: `utf-8`, `base64`, `int64, little-endian`, ...
        excerpt: The bytes around it.
    """

    where: str
    form: str
    excerpt: bytes

    def __str__(self) -> str:
        return f"{self.where}: {self.form}: {self.excerpt!r}"


class Canaries:
    """Makes canaries and looks for them.

    Attributes:
        planted: Those that were made, by name; of several texts of one name the last.
    """

    def __init__(self) -> None:
        self._head, self._tail = _mark(), _mark()
        self.planted: dict[str, str | int] = {}

    def text(self, name: str, rest: str = "") -> str:
        """A new text. Another `rest` gives another text of the same name.

        Args:
            name: Where it is going to be planted.
            rest: What is to be in it, for texts that have to be escaped or ordered.
        """
        made = f"{self._head}{rest}-{name}-{self._tail}"
        self.planted[name + rest] = made
        return made

    def number(self, name: str) -> int:
        """A whole number, the same for a name; no double loses digits of it."""
        if name not in self.planted:
            self.planted[name] = 2**52 + secrets.randbelow(2**52)
            self.__dict__.pop("_needles", None)
        return int(self.planted[name])

    @cached_property
    def _needles(self) -> dict[bytes, str]:
        needles: dict[bytes, str] = {}
        for mark in (self._head, self._tail):
            for needle, form in _text_forms(mark):
                needles.setdefault(needle, form)
        for name, value in self.planted.items():
            for needle, form in _number_forms(value) if isinstance(value, int) else ():
                needles.setdefault(needle, f"{form} of {name}")
        return needles

    # ---- looking -----------------------------------------------------------------------------------------

    def in_bytes(self, data: bytes, where: str) -> list[Hit]:
        """Where canaries are in some bytes, and in all that is packed into them."""
        return [hit for place, view in views(data, where) for hit in self._in_view(view, place)]

    def in_text(self, text: str, where: str) -> list[Hit]:
        """The same for a text."""
        return self.in_bytes(text.encode("utf-8", "surrogatepass"), where)

    def in_folders(self, *folders: Path, skip: Collection[str] = ()) -> list[Hit]:
        """Where canaries are in files: in their bytes, what is packed into them, and their names.

        Args:
            folders: Looked through with all that is below them.
            skip: Names of folders that are left out.
        """
        hits: list[Hit] = []
        for file in files_below(folders, skip):
            hits += self.in_text(str(file), f"name of {file}")
            try:
                data = content(file)
            except FileNotFoundError:  # temporary files of a stack that is running
                continue
            hits += self.in_bytes(data, str(file))
        return hits

    def _in_view(self, view: bytes, where: str) -> Iterator[Hit]:
        for needle, form in self._needles.items():
            at = view.find(needle)
            if at >= 0:
                yield Hit(where, form, view[max(at - _EXCERPT, 0) : at + len(needle) + _EXCERPT])


def content(file: Path) -> bytes:
    """The bytes of a file.

    Those of a database are read by another process: to close a file gives up all locks that this process has
    on it, and those of SQLite with them (sqlite.org, "How to corrupt", 2.2).
    """
    if not file.name.endswith((".db", ".db-wal", ".db-shm", ".db-journal")):
        return file.read_bytes()
    read = subprocess.run(["cat", file], capture_output=True, check=False)
    if read.returncode:
        raise FileNotFoundError(file)
    return read.stdout


def files_below(folders: Iterable[Path], skip: Collection[str] = ()) -> Iterator[Path]:
    """The regular files below folders, in order, without those below folders of some names."""
    for folder in folders:
        assert folder.is_dir(), folder
        for file in sorted(folder.rglob("*")):
            below = file.relative_to(folder).parts
            if not set(skip).intersection(below) and file.is_file() and not file.is_symlink():
                yield file


def _mark() -> str:
    """Letters and digits only: no way to write texts escapes them."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(MARK_LENGTH))


def _text_forms(mark: str) -> Iterator[tuple[bytes, str]]:
    data = mark.encode()
    yield data, "utf-8"
    yield mark.upper().encode(), "upper case"
    yield mark.encode("utf-16-le"), "utf-16"
    yield mark.encode("utf-16-be"), "utf-16, big-endian"
    yield data[::-1], "reversed"
    yield data.hex().encode(), "hex"
    yield data.hex().upper().encode(), "hex, upper case"
    yield mark.encode("utf-16-le").hex().encode(), "hex of utf-16"
    yield "".join(f"%{byte:02x}" for byte in data).encode(), "percent-encoded"
    yield "".join(f"%{byte:02X}" for byte in data).encode(), "percent-encoded, upper case"
    yield "".join(f"\\u{ord(c):04x}" for c in mark).encode(), "JSON escapes"
    for encoded, form in ((data, "base64"), (mark.encode("utf-16-le"), "base64 of utf-16")):
        for core in base64_cores(encoded):
            yield core, form
            yield core.replace(b"+", b"-").replace(b"/", b"_"), f"{form}, URL-safe"


def base64_cores(data: bytes) -> Iterator[bytes]:
    """The characters that each base64 text has that holds these bytes, for the three alignments."""
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data)
        yield encoded[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]


def _number_forms(number: int) -> Iterator[tuple[bytes, str]]:
    digits = str(number)
    yield digits.encode(), "decimal digits"
    yield f"{number:,}".encode(), "decimal digits with commas"
    yield digits.encode("utf-16-le"), "decimal digits in utf-16"
    yield from ((core, "base64 of decimal digits") for core in base64_cores(digits.encode()))
    yield f"{number:x}".encode(), "hexadecimal digits"
    yield f"{number:X}".encode(), "hexadecimal digits, upper case"
    yield struct.pack("<q", number), "int64, little-endian"
    yield struct.pack(">q", number), "int64, big-endian"
    yield number.to_bytes(7, "big"), "shortest, big-endian"
    yield struct.pack("<d", number), "double, little-endian"
    yield struct.pack(">d", number), "double, big-endian"
    yield zigzag(number), "zigzag varint"
    yield from ((core, "base64 of int64") for core in base64_cores(struct.pack("<q", number)))


def zigzag(number: int) -> bytes:
    """A whole number as Avro and Thrift write it."""
    rest, out = number << 1 if number >= 0 else (-number << 1) - 1, bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])
