"""The search for canaries finds them in every form and packing: else a test that finds none says nothing."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sqlite3
import struct
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyiceberg.catalog import Catalog

from support.canaries import Canaries, zigzag
from support.lake_tables import sql_catalog

AROUND = b'{"log": "line of a log, with some text around it"}\n' * 3


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    """A canary of each kind."""
    made = Canaries()
    made.text("text", rest='/"é\n')
    made.number("number")
    return made


def text_of(canaries: Canaries) -> str:
    """The planted text."""
    return str(canaries.planted['text/"é\n'])


def number_of(canaries: Canaries) -> int:
    """The planted number."""
    return int(canaries.planted["number"])


def in_sql(cell: object) -> bytes:
    """An SQLite database with a long cell, which lies in several pages."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (?)", (cell,))
    connection.commit()
    return connection.serialize()


def zipped(data: bytes) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", data)
    return out.getvalue()


TEXT_FORMS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda t: t.encode(),
    "upper case": lambda t: t.upper().encode(),
    "JSON": lambda t: json.dumps({"a": t}).encode(),
    "JSON in JSON": lambda t: json.dumps(json.dumps(json.dumps(t))).encode(),
    "JSON, all escaped": lambda t: "".join(f"\\u{ord(c):04x}" for c in t).encode(),
    "Python": lambda t: repr(t).encode(),
    "URL": lambda t: urllib.parse.quote(t, safe="").encode(),
    "URL, all quoted": lambda t: "".join(f"%{b:02X}" for b in t.encode()).encode(),
    "form": lambda t: urllib.parse.urlencode({"a": t}).encode(),
    "base64": lambda t: base64.b64encode(t.encode()),
    "base64 behind 1 byte": lambda t: base64.b64encode(b"x" + t.encode()),
    "base64 behind 2 bytes": lambda t: base64.b64encode(b"xy" + t.encode() + b"z"),
    "base64, URL-safe": lambda t: base64.urlsafe_b64encode(b"??>" + t.encode()),
    "hex": lambda t: t.encode().hex().encode(),
    "hex, upper case": lambda t: t.encode().hex().upper().encode(),
    "utf-16": lambda t: t.encode("utf-16"),
    "utf-16, big-endian": lambda t: t.encode("utf-16-be"),
    "reversed": lambda t: t.encode()[::-1],
    "the first 16 characters": lambda t: t[:16].encode(),
    "the last 16 characters": lambda t: t[-16:].encode(),
    "gzip": lambda t: gzip.compress(AROUND + t.encode()),
    "gzip, broken off": lambda t: gzip.compress(AROUND + t.encode() + os.urandom(3000))[:-1000],
    "gzip, a second member": lambda t: gzip.compress(AROUND) + gzip.compress(t.encode()),
    "zlib in base64": lambda t: b"key:" + base64.b64encode(zlib.compress(AROUND + t.encode())),
    "zlib in base64 behind letters": lambda t: b"k" + base64.b64encode(zlib.compress(AROUND + t.encode())),
    "zlib in hex": lambda t: zlib.compress(AROUND + t.encode()).hex().encode(),
    "zstd": lambda t: zstandard.compress(AROUND + t.encode()),
    "zstd in the middle": lambda t: os.urandom(50) + zstandard.compress(AROUND + t.encode()) + b"x",
    "zstd, broken off": lambda t: flushed(AROUND + t.encode()),
    "zip": lambda t: zipped(AROUND + t.encode()),
    "zip in zip": lambda t: zipped(zipped(AROUND + t.encode())),
    "SQLite": in_sql,
    "SQLite, over pages": lambda t: in_sql("x" * (4096 - 70) + t),
    "SQLite, compressed": lambda t: in_sql(gzip.compress(b"x" * 9000 + t.encode())),
}
NUMBER_FORMS: dict[str, Callable[[int], bytes]] = {
    "decimal": lambda n: str(n).encode(),
    "decimal with commas": lambda n: f"{n:,}".encode(),
    "decimal in base64": lambda n: base64.b64encode(b"id=" + str(n).encode()),
    "decimal in utf-16": lambda n: str(n).encode("utf-16"),
    "hexadecimal": lambda n: hex(n).encode(),
    "int64, little-endian": lambda n: struct.pack("<q", n),
    "int64, big-endian": lambda n: struct.pack(">q", n),
    "decimal128": lambda n: n.to_bytes(16, "big"),
    "double": lambda n: struct.pack("<d", n),
    "double, big-endian": lambda n: struct.pack(">d", n),
    "varint": zigzag,
    "int64 in base64": lambda n: base64.b64encode(b"abc" + struct.pack("<q", n)),
    "SQLite": in_sql,
}


def flushed(data: bytes) -> bytes:
    """A frame of zstd that was never ended, as a killed process leaves it."""
    machine = zstandard.ZstdCompressor(level=3).compressobj()
    return machine.compress(data) + machine.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_texts_are_found(canaries: Canaries, form: str) -> None:
    """In any way to write them, in anything that is opened."""
    hidden = TEXT_FORMS[form](text_of(canaries))
    assert canaries.in_bytes(b"before " + hidden if form in ("as it is", "hex") else hidden, "x")


@pytest.mark.parametrize("form", NUMBER_FORMS)
def test_numbers_are_found(canaries: Canaries, form: str) -> None:
    """As text and as machines write them."""
    assert canaries.in_bytes(NUMBER_FORMS[form](number_of(canaries)), "x")


@pytest.mark.parametrize("form", [f for f in TEXT_FORMS if "SQL" not in f])
def test_other_texts_are_not_found(canaries: Canaries, form: str) -> None:
    """Nothing is taken for a canary that is none."""
    assert canaries.in_bytes(TEXT_FORMS[form](str(Canaries().text("text"))), "x") == []


def parquet(table: pa.Table, **options: object) -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4"])
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY"])
def test_pages_of_parquet(canaries: Canaries, compression: str, encoding: str) -> None:
    """Values that neither statistics nor a dictionary hold, in flat and nested columns."""
    text, number = text_of(canaries), number_of(canaries)
    others = [f"{text[:4]}{i}" for i in range(20)]
    columns: dict[str, pa.Array] = {
        "flat": pa.array([*others, text, None]),
        "nested": pa.array([*([{"a": [o]} for o in others]), {"a": [text]}, None]),
        "number": pa.array([*range(20), number, None]),
        "numbers": pa.array([*([[i] for i in range(20)]), [number], None]),
    }
    for name, column in columns.items():
        flat = pa.types.is_string(column.type)
        data = parquet(
            pa.table({name: column}),
            compression=compression,
            use_dictionary=False,
            write_statistics=False,
            column_encoding={name: encoding} if flat else None,
        )
        assert canaries.in_bytes(data, name), name


def test_statistics_of_parquet(canaries: Canaries) -> None:
    """Bounds in the footer and in the index of pages."""
    number = number_of(canaries)
    data = parquet(pa.table({"n": [1, number]}), compression="zstd", use_dictionary=False)
    footer = data[-8 - struct.unpack("<i", data[-8:-4])[0] :]
    assert canaries.in_bytes(footer, "footer")
    indexed = parquet(pa.table({"t": [text_of(canaries)]}), compression="zstd", write_page_index=True)
    assert len([h for h in canaries.in_bytes(indexed, "x") if h.where == "x"]) >= 1


def test_dictionaries_of_parquet(canaries: Canaries) -> None:
    """A value of the dictionary that no row has."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array(["a", text_of(canaries)]))
    data = parquet(pa.table({"d": column}), compression="snappy", write_statistics=False, store_schema=False)
    assert canaries.in_bytes(data, "x")


def test_a_parquet_file_without_an_end(canaries: Canaries) -> None:
    """What a killed writer leaves: pages, no footer."""
    column = pa.array([text_of(canaries), *(os.urandom(20).hex() for _ in range(50))])
    data = parquet(pa.table({"c": column}), compression="zstd", use_dictionary=False, write_statistics=False)
    length = struct.unpack("<i", data[-8:-4])[0]
    assert canaries.in_bytes(data[: -8 - length], "x")


@pytest.mark.parametrize("compression", ["lz4", "zstd", None])
@pytest.mark.parametrize("ended", [True, False])
def test_arrow_files(canaries: Canaries, compression: str | None, ended: bool) -> None:
    """Temporary files of upkeep, whole and broken off."""
    out = io.BytesIO()
    table = pa.table({"a": [{"b": "x" * 500 + text_of(canaries)}] * 3})
    with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
        file.write_table(table)
        without_end = out.getvalue()
    assert canaries.in_bytes(out.getvalue() if ended else without_end, "x")


def test_manifests_and_metadata(canaries: Canaries, tmp_path: Path) -> None:
    """Bounds in a manifest (Avro, deflated) and a property of a table, written by pyiceberg."""
    catalog: Catalog = sql_catalog(tmp_path)
    catalog.create_namespace("s")
    text, number = text_of(canaries), number_of(canaries)
    rows = pa.table({"t": [text, text], "n": [number, number]})
    table = catalog.create_table("s.t", rows.schema)
    table.append(rows)
    table.transaction().set_properties({"note": base64.b64encode(zlib.compress(text.encode())).decode()})
    hits = canaries.in_folders(tmp_path)
    manifests = [h for h in hits if h.where.split(" > ")[0].endswith("-m0.avro")]
    assert {h.form.split(" of ")[0] for h in manifests} >= {"utf-8", "int64, little-endian"}
    for suffix in (".parquet", ".avro"):
        assert [h for h in hits if h.where.split(" > ")[0].endswith(suffix)], suffix


def test_free_pages_and_logs_of_databases(canaries: Canaries, tmp_path: Path) -> None:
    """A row that was deleted, and one that is in the write-ahead log only."""
    file = tmp_path / "deleted.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA secure_delete = off")
    connection.executemany("INSERT INTO t VALUES (?)", [("x",), (text_of(canaries),), ("y",)])
    connection.commit()
    connection.execute("DELETE FROM t WHERE length(a) > 1")
    connection.commit()
    connection.close()
    logged = sqlite3.connect(tmp_path / "logged.db")
    logged.execute("PRAGMA journal_mode = wal")
    logged.execute("CREATE TABLE t (a)")
    logged.execute("INSERT INTO t VALUES (?)", (number_of(canaries),))
    logged.commit()
    hits = {Path(h.where.split(" > ")[0]).name for h in canaries.in_folders(tmp_path)}
    logged.close()
    assert hits == {"deleted.db", "logged.db-wal"}


def test_spilled_rows_of_duckdb(canaries: Canaries, tmp_path: Path) -> None:
    """Its temporary files, while it works."""
    folder = tmp_path / "spill"
    db = duckdb.connect(":memory:", config={"memory_limit": "12MB", "temp_directory": str(folder)})
    db.execute("SET threads = 1")
    db.execute("CREATE TABLE t AS SELECT ? || md5(range::text) AS a FROM range(200000)", [text_of(canaries)])
    assert canaries.in_folders(folder)
    db.close()


def test_names_of_files_and_links(canaries: Canaries, tmp_path: Path) -> None:
    """A name is a place too (a partition, say); folders that are left out are not looked into."""
    mark = text_of(canaries)[:12]
    (tmp_path / f"email={mark}").mkdir()
    (tmp_path / f"email={mark}" / "file").touch()
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "file").write_text(text_of(canaries))
    [hit] = canaries.in_folders(tmp_path, skip={"venv"})
    assert hit.where.startswith("name of ")
    assert len(canaries.in_folders(tmp_path)) == 3
