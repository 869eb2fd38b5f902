"""Opens what hides bytes from a search: compressed streams, encodings, archives, tables, databases.

Compressed streams and encoded texts are looked for at every place of the bytes, not only at the beginning.
Broken ones are opened as far as they go: what a killed process leaves behind has no end and no footer.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import itertools
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

MAX_DEPTH = 5
MAX_OPENED = 256 * 1024 * 1024
"""Bytes that one compressed stream is opened to; no honest one of a test is larger."""

_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_HEX = re.compile(rb"(?:[0-9a-f]{2}){16,}|(?:[0-9A-F]{2}){16,}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SHORTEST = 8
_FILES = (b"PAR1", b"Obj\x01", b"SQLite format 3\x00", b"PK\x03\x04", b"ARROW1\x00\x00")


def views(data: bytes, where: str, depth: int = MAX_DEPTH) -> Iterator[tuple[str, bytes]]:
    """The bytes, and those of everything that is packed into them.

    Args:
        data: Content of a file, or a text.
        where: Its name.
        depth: How many packings are opened, one inside the other.

    Yields:
        Name with the way into it, and bytes.
    """
    yield where, data
    if depth == 0:
        return
    for way, opened in itertools.chain(_whole(data), _streams(data), _encoded(data)):
        if len(opened) >= _SHORTEST:
            yield from views(opened, f"{where} > {way}", depth - 1)


# ---- formats that a file is in -----------------------------------------------------------------------------


def _whole(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data.startswith(b"PAR1") and data.endswith(b"PAR1"):
        yield from _parquet(data)
    elif data.startswith(b"Obj\x01"):
        yield from _avro(data)
    elif data.startswith(b"SQLite format 3\x00"):
        yield from _sqlite(data)
    elif data.startswith(b"PK\x03\x04"):
        yield from _zip(data)
    elif data.startswith(b"ARROW1\x00\x00"):
        yield from _arrow(lambda: pa.ipc.open_stream(pa.BufferReader(data[8:])))
    elif data.startswith(b"\xff\xff\xff\xff"):
        yield from _arrow(lambda: pa.ipc.open_stream(pa.BufferReader(data)))


def _parquet(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Values of all columns, and dictionaries whole: they may hold values that no row has (any more)."""
    plain = pq.ParquetFile(pa.BufferReader(data))
    chunks = [
        plain.metadata.row_group(group).column(i)
        for group in range(plain.num_row_groups)
        for i in range(plain.metadata.num_columns)
    ]
    texts = {c.path_in_schema for c in chunks if c.physical_type == "BYTE_ARRAY" and c.has_dictionary_page}
    for file in (plain, pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(texts))):
        for group in range(file.num_row_groups):
            for name, column in zip(file.schema_arrow.names, file.read_row_group(group).columns, strict=True):
                for chunk in column.chunks:
                    yield from ((f"column {name}", b) for b in array_bytes(chunk))


def array_bytes(array: pa.Array) -> Iterator[bytes]:
    """All buffers of an array, those of its dictionaries and members too."""
    if isinstance(array, pa.DictionaryArray):
        yield from array_bytes(array.dictionary)
        return
    if isinstance(array, pa.StructArray):
        for i in range(array.type.num_fields):
            yield from array_bytes(array.field(i))
        return
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.MapArray):
        yield from array_bytes(array.values)
        return
    for buffer in array.buffers():
        if buffer is not None:
            yield buffer.to_pybytes()


def _avro(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The blocks of an object container file (Avro 1.11, "Object Container Files")."""
    source = io.BytesIO(data)
    source.seek(4)
    deflated = False
    while (count := _long(source)) != 0:
        if count < 0:  # a block of the map with its size in bytes
            count, _ = -count, _long(source)
        for _ in range(count):
            key, value = source.read(_long(source)), source.read(_long(source))
            deflated |= key == b"avro.codec" and value == b"deflate"
    source.seek(16, io.SEEK_CUR)
    while source.tell() < len(data):
        _long(source)
        block = source.read(_long(source))
        source.seek(16, io.SEEK_CUR)
        if deflated:
            yield "block", _inflated(block, -zlib.MAX_WBITS)


def _long(source: io.BytesIO) -> int:
    number = shift = 0
    while byte := source.read(1):
        number |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            break
    return (number >> 1) ^ -(number & 1)


def _sqlite(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Texts and blobs put together again: a long one lies in several pages."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.text_factory = bytes
        # In memory there is no write-ahead log: say that the file needs none (bytes 18 and 19).
        connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        with contextlib.suppress(sqlite3.DatabaseError):  # copied while it was written: see its raw bytes
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                quoted = table.decode().replace('"', '""')
                for row in connection.execute(f'SELECT * FROM "{quoted}"'):
                    cells = [c for c in row if isinstance(c, bytes)]
                    yield from ((f"table {table.decode()}", cell) for cell in cells)


def _zip(data: bytes) -> Iterator[tuple[str, bytes]]:
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            yield f"member {name}", archive.read(name)


def _arrow(opened: Callable[[], Any]) -> Iterator[tuple[str, bytes]]:
    """Batches as far as they are whole; they may be compressed each."""
    with contextlib.suppress(pa.ArrowInvalid, OSError):
        for batch in opened():
            for column in batch.columns:
                yield from (("Arrow", b) for b in array_bytes(column))


# ---- streams and encodings at any place --------------------------------------------------------------------


def _streams(data: bytes) -> Iterator[tuple[str, bytes]]:
    uncopied = memoryview(data)
    for found in _ZSTD.finditer(data):
        yield f"zstd at {found.start()}", _unzstd(uncopied[found.start() :])
    for found in _GZIP.finditer(data):
        yield f"gzip at {found.start()}", _inflated(uncopied[found.start() :], 16 + zlib.MAX_WBITS)
    for found in _ZLIB.finditer(data):
        yield f"zlib at {found.start()}", _inflated(uncopied[found.start() :], zlib.MAX_WBITS)


def _inflated(data: bytes | memoryview, window: int) -> bytes:
    """What a deflated stream opens to, up to its end or to where it breaks off."""
    machine, out = zlib.decompressobj(window), bytearray()
    with contextlib.suppress(zlib.error):
        for start in range(0, len(data), 4096):
            out += machine.decompress(data[start : start + 4096])
            if machine.eof or len(out) > MAX_OPENED:
                break
    return bytes(out)


def _unzstd(data: memoryview) -> bytes:
    out = bytearray()
    with contextlib.suppress(zstandard.ZstdError):
        machine = zstandard.ZstdDecompressor().decompressobj()
        for start in range(0, len(data), 4096):
            out += machine.decompress(data[start : start + 4096])
            if machine.eof or len(out) > MAX_OPENED:
                break
    return bytes(out)


def _encoded(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What base64 and hexadecimal digits hold, where that is a text or something packed.

    Base64 may begin behind letters of another word.
    """
    for found in _BASE64.finditer(data):
        run = found.group().translate(_URL_SAFE)
        for skipped in range(4):
            part = run[skipped:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            decoded = base64.b64decode(part + b"=" * (-len(part) % 4))
            if _worth_opening(decoded):
                yield "base64", decoded
    for found in _HEX.finditer(data):
        decoded = binascii.unhexlify(found.group())
        if _worth_opening(decoded):
            yield "hex", decoded


def _worth_opening(decoded: bytes) -> bool:
    """Most words happen to be base64 of something, which is noise."""
    packed = decoded.startswith(_FILES) or any(magic.search(decoded) for magic in (_ZSTD, _GZIP, _ZLIB))
    return packed or (decoded.isascii() and decoded.decode().isprintable())
