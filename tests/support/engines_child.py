"""Lets ClickHouse, DuckDB and Tink work for the tests.

Started with the engines' own Python, so it imports nothing of ours. Pickles go in and out over standard input
and output; an answer that is a text is an error. Questions:

    ("clickhouse", statement)              rows as an Arrow stream
    ("duckdb", statements, module)         the same, of the query of an exported module, after some statements
    ("tink", keyset, [(value, aad), ...])  the plaintexts
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any


def clickhouse() -> Any:
    """Runs statements in one session of ClickHouse."""
    from chdb.session import Session

    session = Session()

    def run(statement: str) -> bytes:
        try:
            return bytes(session.query(statement, "ArrowStream").bytes())
        except Exception:
            # What the query wrote before it failed would come in front of the next result (chdb 26.9).
            session.query("SELECT 1", "ArrowStream")
            raise

    return run


def duckdb(statements: list[str], module: str) -> bytes:
    """Runs the query of an exported module over a connection of its own."""
    import duckdb
    import pyarrow as pa
    from duckdb_extensions import import_extension

    exported: dict[str, Any] = {}
    exec(module, exported)  # noqa: S102 - it is what the test is about
    with duckdb.connect() as connection:
        for name in ("avro", "iceberg"):
            import_extension(name, con=connection)
            connection.execute(f"LOAD {name}")
        for statement in statements:
            connection.execute(statement)
        exported["add_to"](connection)
        found = connection.sql(exported["SQL"]).to_arrow_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.schema) as stream:
        stream.write_table(found)
    return sink.getvalue().to_pybytes()


def tink(keyset: str, values: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Decrypts with a keyset."""
    from tink import aead, json_proto_keyset_format, secret_key_access

    aead.register()
    handle = json_proto_keyset_format.parse(keyset, secret_key_access.TOKEN)
    primitive = handle.primitive(aead.Aead)
    return [primitive.decrypt(value, aad) for value, aad in values]


def main() -> None:
    """Answer questions until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the engines print goes to standard error
    workers: dict[str, Any] = {"clickhouse": clickhouse(), "duckdb": duckdb, "tink": tink}
    answers.write(pickle.dumps(("ready",)))
    answers.flush()
    while True:
        try:
            name, *question = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the test that started this
        except EOFError:
            break
        try:
            answer: Any = workers[name](*question)
        except Exception as error:  # noqa: BLE001 - the test shows it
            answer = f"{type(error).__name__}: {error}"
        answers.write(pickle.dumps(answer))
        answers.flush()


if __name__ == "__main__":
    main()
