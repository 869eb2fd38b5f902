"""The SQL key store: what is in its rows, states of versions, and failures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from airberg.errors import ConfigurationFailed, Unavailable
from airberg.jobs.engine import engine_of
from airberg.keys.kek import LocalKek
from airberg.keys.sql import SqlKeyStore
from airberg.keys.tables import data_keys, metadata

KEK = LocalKek([bytes(32)])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with the tables."""
    engine = engine_of(f"sqlite:///{tmp_path / 'keys.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_keys_outlive_the_store_object(engine: Engine) -> None:
    """A second store on the same database has the same keys."""
    key = SqlKeyStore(engine, KEK).create("a")
    assert SqlKeyStore(engine, KEK).primary("a") == key


def test_rows_hold_wrapped_keys_only(engine: Engine, tmp_path: Path) -> None:
    """The raw key is nowhere in the database file, and the states are as documented."""
    store = SqlKeyStore(engine, KEK)
    keys = [store.create("a"), store.rotate("a", actor="ann")]
    with engine.connect() as connection:
        rows = connection.execute(select(data_keys).order_by(data_keys.c.version)).all()
    assert [(r.name, r.version, r.key_id, r.state, r.kek) for r in rows] == [
        ("a", 1, keys[0].key_id, "active", "local://master"),
        ("a", 2, keys[1].key_id, "primary", "local://master"),
    ]
    content = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert not any(k.raw in content for k in keys)


def test_what_another_key_wrapped_is_in_no_file(engine: Engine, tmp_path: Path) -> None:
    """After rewrapping, the key-encryption key of before opens nothing that is on the disk."""
    store = SqlKeyStore(engine, KEK)
    store.create("a")
    with engine.connect() as connection:
        before = connection.scalar(select(data_keys.c.wrapped))
    assert isinstance(before, bytes)
    assert before in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert store.rewrap(LocalKek([b"x" * 32, bytes(32)]), actor="ann") == 1
    assert before not in b"".join(p.read_bytes() for p in tmp_path.iterdir())


@pytest.mark.parametrize("version", [1, None], ids=["one", "all"])
def test_destroyed_bytes_are_in_no_file(engine: Engine, tmp_path: Path, version: int | None) -> None:
    """Also what they were wrapped to is gone from the database and its log; the row stays."""
    store = SqlKeyStore(engine, KEK)
    store.create("a")
    store.rotate("a", actor="ann")

    def files() -> bytes:
        return b"".join(p.read_bytes() for p in tmp_path.iterdir())

    with engine.connect() as connection:
        rows = connection.execute(select(data_keys).order_by(data_keys.c.version)).all()
    wrapped = [row.wrapped for row in rows]
    assert [w in files() for w in wrapped] == [True, True]
    store.destroy("a", actor="ann", version=version)
    assert [w in files() for w in wrapped] == [False, version is not None]
    with engine.connect() as connection:
        after = connection.execute(select(data_keys).order_by(data_keys.c.version)).all()
    assert [(r.version, r.key_id, r.created_at) for r in after] == [
        (r.version, r.key_id, r.created_at) for r in rows
    ]
    assert after[0].wrapped == b""


def test_another_master_key_unwraps_nothing(engine: Engine) -> None:
    """With the wrong master key there is a clear error instead of a wrong key."""
    SqlKeyStore(engine, KEK).create("a")
    with pytest.raises(ConfigurationFailed, match="cannot be unwrapped"):
        SqlKeyStore(engine, LocalKek([b"x" * 32])).primary("a")


def test_exchanged_rows_are_detected(engine: Engine) -> None:
    """Wrapped bytes moved to another key do not open."""
    store = SqlKeyStore(engine, KEK)
    store.create("a")
    store.create("b")
    with engine.begin() as connection:
        a = connection.scalar(select(data_keys.c.wrapped).where(data_keys.c.name == "a"))
        connection.execute(update(data_keys).where(data_keys.c.name == "b").values(wrapped=a))
    with pytest.raises(ConfigurationFailed):
        store.primary("b")


def test_a_database_without_the_table(tmp_path: Path) -> None:
    """A store that cannot be asked is unavailable; the error shows no SQL parameters."""
    engine = engine_of(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Unavailable) as e:
        SqlKeyStore(engine, KEK).create("very-private-name")
    engine.dispose()
    assert "very-private-name" not in e.value.sentence()


def test_processes_at_once_get_one_key(engine: Engine) -> None:
    """Processes that create the same key at the same time end with the same one."""
    code = (
        "import sys; from airberg.jobs.engine import engine_of; from airberg.keys.sql import SqlKeyStore\n"
        "from airberg.keys.kek import LocalKek\n"
        "store = SqlKeyStore(engine_of(sys.argv[1]), LocalKek([bytes(32)]))\n"
        "sys.stdin.read(); print(store.create('a', exist_ok=True).key_id)"
    )
    argv = [sys.executable, "-c", code, str(engine.url)]
    children = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    seen = {child.communicate(timeout=60)[0].strip() for child in children}
    assert seen == {str(SqlKeyStore(engine, KEK).primary("a").key_id)}


def test_light_imports() -> None:
    """The HTTP process imports this room, so no data library may come with it."""
    code = (
        "import sys, airberg.keys.sql, airberg.keys.memory, airberg.keys.cipher, airberg.keys.seal\n"
        "print([m for m in ('pyarrow', 'pyiceberg', 'duckdb', 'datahub', 'airbyte') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
