"""Data keys in the database of the job store, each version wrapped by a key-encryption key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from airberg.errors import Unavailable
from airberg.keys.kek import Kek
from airberg.keys.names import check_key_name, key_exists, new_key_id, new_raw_key, unknown_key
from airberg.keys.port import DataKey

metadata = MetaData()

data_keys = Table(
    "data_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("key_id", BigInteger, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("kek", String(200), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

PRIMARY: Final = "primary"
"""The version that encrypts."""
ACTIVE: Final = "active"
"""A version that still decrypts. Versions that are `disabled` or `destroyed` do neither."""

_ATTEMPTS = 20


class SqlKeyStore:
    """A `KeyStore` in a SQL database.

    Every change is one transaction that begins with the insert of a row whose primary key two processes
    cannot both have; the slower one sees an IntegrityError and looks again. (Reading first in the same
    transaction would instead fail on SQLite, where a reader cannot become a writer after another wrote.)
    """

    def __init__(self, engine: Engine, kek: Kek) -> None:
        self._engine = engine
        self._kek = kek

    def create(self, name: str, *, exist_ok: bool = False) -> DataKey:
        """Make a key. See `KeyStore.create`; raises InvalidRequest for a name that a key cannot have."""
        check_key_name(name)
        for _ in range(_ATTEMPTS):
            if self._last_version(name):
                if not exist_ok or not self.exists(name):
                    raise key_exists(name)
                return self.primary(name)
            if key := self._try_add(name, 1):
                return key
        raise Unavailable("The key store is too busy.")

    def exists(self, name: str) -> bool:
        """Whether there is a key of that name with a usable version."""
        return bool(self._rows(name, (PRIMARY,)))

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        with self._reading() as connection:
            return sorted(connection.scalars(select(data_keys.c.name).distinct()))

    def primary(self, name: str) -> DataKey:
        """The version that encrypts. Raises NotFound, ConfigurationFailed when it cannot be unwrapped."""
        rows = self._rows(name, (PRIMARY,))
        if not rows:
            raise unknown_key(name)
        return self._unwrapped(rows[-1])

    def versions(self, name: str) -> Sequence[DataKey]:
        """All versions that may decrypt, oldest first. Raises as `primary` does."""
        rows = self._rows(name, (PRIMARY, ACTIVE))
        if not rows:
            raise unknown_key(name)
        return tuple(self._unwrapped(row) for row in rows)

    def rotate(self, name: str) -> DataKey:
        """Add a version and make it the primary one. Raises NotFound."""
        for _ in range(_ATTEMPTS):
            if not self.exists(name):
                raise unknown_key(name)
            if key := self._try_add(name, self._last_version(name) + 1):
                return key
        raise Unavailable("The key store is too busy.")

    # ---- rows ----------------------------------------------------------------------------------------------

    def _try_add(self, name: str, version: int) -> DataKey | None:
        """Insert a version as the primary one; None when another process took its number or its id."""
        key = DataKey(name, version, new_key_id(), new_raw_key())
        row = {
            "name": name,
            "version": version,
            "key_id": key.key_id,
            "state": PRIMARY,
            "kek": self._kek.uri,
            "wrapped": self._kek.wrap(key.raw, _context(name, version, key.key_id)),
            "created_at": datetime.now(UTC),
        }
        older = (data_keys.c.name == name) & (data_keys.c.version < version) & (data_keys.c.state == PRIMARY)
        try:
            with self._writing() as connection:
                connection.execute(data_keys.insert().values(row))
                connection.execute(data_keys.update().where(older).values(state=ACTIVE))
        except IntegrityError:
            return None
        return key

    def _last_version(self, name: str) -> int:
        with self._reading() as connection:
            newest = select(func.max(data_keys.c.version)).where(data_keys.c.name == name)
            return connection.scalar(newest) or 0

    def _rows(self, name: str, states: tuple[str, ...]) -> Sequence[Row[Any]]:
        wanted = (data_keys.c.name == name) & data_keys.c.state.in_(states)
        with self._reading() as connection:
            return connection.execute(select(data_keys).where(wanted).order_by(data_keys.c.version)).all()

    def _unwrapped(self, row: Row[Any]) -> DataKey:
        raw = self._kek.unwrap(row.wrapped, _context(row.name, row.version, row.key_id))
        return DataKey(row.name, row.version, row.key_id, raw)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _reachable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _reachable(), self._engine.begin() as connection:
            yield connection


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OperationalError as e:
        # Never the whole error: it quotes the statement's parameters.
        raise Unavailable(f"The key store does not answer ({type(e.orig).__name__}).") from None


def _context(name: str, version: int, key_id: int) -> dict[str, str]:
    """What a wrapped key is bound to: exchanging the wrapped bytes of two rows is detected."""
    return {"name": name, "version": str(version), "id": str(key_id)}
