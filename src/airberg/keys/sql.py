"""Data keys in the database of the job store, each version wrapped by a key-encryption key."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, select
from sqlalchemy.exc import IntegrityError

from airberg.errors import NotFound, Unavailable
from airberg.jobs.engine import Transactions, forget_log, outages_as_unavailable
from airberg.keys import sql_rows as rows
from airberg.keys import states
from airberg.keys.kek import Kek
from airberg.keys.names import (
    check_key_name,
    key_exists,
    new_key_id,
    new_raw_key,
    unusable_key,
    users_text,
)
from airberg.keys.port import SYSTEM, AuditEntry, DataKey, Key, KeyVersion, VersionState
from airberg.keys.ring import KekRing
from airberg.keys.sql_audit import add_entry, latest_entries
from airberg.keys.tables import data_keys, named_keys

log = logging.getLogger(__name__)

_ATTEMPTS = 20
_IN_USE: tuple[VersionState, ...] = ("primary", "active")


class SqlKeyStore:
    """A `KeyStore` in a SQL database.

    Every change is one transaction that locks its key first. Bytes are wrapped and unwrapped outside of
    transactions, since a key service may take its time.
    """

    def __init__(self, engine: Engine, kek: Kek | KekRing) -> None:
        """Work on a database that has the tables.

        Args:
            engine: Made by `airberg.jobs.engine.engine_of`.
            kek: Wraps new versions; a ring also unwraps those that other keys have wrapped.
        """
        self._engine = engine
        self._transactions = Transactions(engine)
        self._kek = KekRing.of(kek)

    def close(self) -> None:
        """Give the connections back. A key store shares its engine with nobody."""
        self._engine.dispose()

    # ---- reading -----------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """See `KeyStore.exists`."""
        try:
            return self.describe(name).primary is not None
        except NotFound:
            return False

    def names(self) -> Sequence[str]:
        """See `KeyStore.names`."""
        with self._transactions.read() as connection:
            return sorted(connection.scalars(select(named_keys.c.name)))

    def keys(self) -> Sequence[Key]:
        """See `KeyStore.keys`."""
        with self._transactions.read() as connection:
            return rows.all_keys(connection)

    def describe(self, name: str) -> Key:
        """See `KeyStore.describe`."""
        with self._transactions.read() as connection:
            return rows.one_key(connection, name)

    def primary(self, name: str) -> DataKey:
        """See `KeyStore.primary`."""
        return self._unwrapped(self._usable(name, ("primary",))[-1])

    def versions(self, name: str) -> Sequence[DataKey]:
        """See `KeyStore.versions`."""
        return tuple(self._unwrapped(row) for row in self._usable(name, _IN_USE))

    # ---- changes -----------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        actor: str = SYSTEM,
        owners: AbstractSet[str] = frozenset(),
        roles: AbstractSet[str] = frozenset(),
        exist_ok: bool = False,
    ) -> DataKey:
        """See `KeyStore.create`."""
        check_key_name(name)
        for _ in range(_ATTEMPTS):
            if name in self.names():
                if not exist_ok:
                    raise key_exists(name)
                return self.primary(name)
            key, version, wrapped = self._new_version(name, 1)
            try:
                with self._transactions.write() as connection:
                    rows.add_key(connection, name, owners, roles)
                    rows.add_version(connection, name, version, wrapped)
                    add_entry(connection, actor, "create", name, (1,), users_text(owners, roles))
            except IntegrityError:  # another process was faster, or the id is taken
                continue
            return key
        raise _busy()

    def rotate(self, name: str, *, actor: str) -> DataKey:
        """See `KeyStore.rotate`."""
        for _ in range(_ATTEMPTS):
            before = self.describe(name)
            states.check_rotation(before)
            key, version, wrapped = self._new_version(name, len(before.versions) + 1)
            try:
                with self._transactions.write() as connection:
                    now = rows.locked_key(connection, name)
                    if len(now.versions) != len(before.versions):
                        continue
                    states.check_rotation(now)
                    after = states.with_new(now, version)
                    rows.set_states(connection, name, states.changed(now.versions, after[:-1]))
                    rows.add_version(connection, name, after[-1], wrapped)
                    add_entry(connection, actor, "rotate", name, (version.version,))
            except IntegrityError:  # the id is taken
                continue
            return key
        raise _busy()

    def allow(self, name: str, *, actor: str, owners: AbstractSet[str], roles: AbstractSet[str]) -> Key:
        """See `KeyStore.allow`."""
        with self._transactions.write() as connection:
            rows.locked_key(connection, name)
            rows.set_users(connection, name, owners, roles)
            key = rows.one_key(connection, name)
            add_entry(connection, actor, "allow", name, (), users_text(owners, roles))
            return key

    def disable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.disable`."""
        return self._change(name, actor, "disable", states.disabled, version)

    def enable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.enable`."""
        return self._change(name, actor, "enable", states.enabled, version)

    def destroy(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.destroy`."""
        key = self._change(name, actor, "destroy", states.destroyed, version)
        self._forget_old_bytes()
        return key

    def rewrap(self, kek: Kek, *, actor: str) -> int:
        """See `KeyStore.rewrap`."""
        done: set[tuple[str, int]] = set()
        while True:
            with self._transactions.read() as connection:
                found = connection.execute(select(data_keys).order_by(data_keys.c.name, data_keys.c.version))
                todo = [r for r in found if r.state != "destroyed" and (r.name, r.version) not in done]
            if not todo:
                self._forget_old_bytes()
                return len(done)
            for row in todo:
                if self._rewrap_one(row, kek, actor):
                    done.add((row.name, row.version))

    # ---- audit -------------------------------------------------------------------------------------------

    def record(
        self, actor: str, action: str, name: str, versions: Sequence[int] = (), detail: str = ""
    ) -> None:
        """See `KeyStore.record`."""
        with self._transactions.write() as connection:
            rows.one_key(connection, name)
            add_entry(connection, actor, action, name, versions, detail)

    def audit(self, name: str | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """See `KeyStore.audit`."""
        with self._transactions.read() as connection:
            return latest_entries(connection, name, limit)

    # ---- inside ------------------------------------------------------------------------------------------

    def _change(self, name: str, actor: str, action: str, change: states.Change, version: int | None) -> Key:
        with self._transactions.write() as connection:
            before = rows.locked_key(connection, name)
            touched = states.changed(before.versions, change(before, version))
            if not touched:
                return before
            rows.set_states(connection, name, touched)
            add_entry(connection, actor, action, name, tuple(v.version for v in touched))
            return rows.one_key(connection, name)

    def _rewrap_one(self, row: Row[Any], kek: Kek, actor: str) -> bool:
        """Wrap one version anew, unless it was changed meanwhile (rewrapped too, or destroyed)."""
        raw = self._unwrapped(row, kek).raw
        values = {
            "kek": kek.uri,
            "wrapped": kek.wrap(raw, rows.wrapping_context(row.name, row.version, row.key_id)),
        }
        same = (data_keys.c.name == row.name) & (data_keys.c.version == row.version)
        same &= data_keys.c.wrapped == row.wrapped
        with self._transactions.write() as connection:
            if connection.execute(data_keys.update().where(same).values(values)).rowcount == 0:
                return False
            add_entry(connection, actor, "rewrap", row.name, (row.version,), f"with {kek.uri}")
        return True

    def _forget_old_bytes(self) -> None:
        """Leave no copy of wrapped bytes that were replaced or erased."""
        with outages_as_unavailable():
            if not forget_log(self._engine):
                log.warning("the database's log may hold wrapped bytes of before for a while")

    def _new_version(self, name: str, number: int) -> tuple[DataKey, KeyVersion, bytes]:
        key = DataKey(name, number, new_key_id(), new_raw_key())
        wrapped = self._kek.wrap(key.raw, rows.wrapping_context(name, number, key.key_id))
        return key, KeyVersion(number, key.key_id, "primary", self._kek.uri, datetime.now(UTC)), wrapped

    def _usable(self, name: str, wanted: tuple[VersionState, ...]) -> Sequence[Row[Any]]:
        """The rows of a key's versions in one of the states, oldest first; at least one."""
        here = (data_keys.c.name == name) & data_keys.c.state.in_(wanted)
        with self._transactions.read() as connection:
            key = rows.one_key(connection, name)
            found = connection.execute(select(data_keys).where(here).order_by(data_keys.c.version)).all()
        if not found:
            raise unusable_key(key)
        return found

    def _unwrapped(self, row: Row[Any], other: Kek | None = None) -> DataKey:
        ring = self._kek if other is None else self._kek.also(other)
        raw = ring.unwrap_from(row.kek, row.wrapped, rows.wrapping_context(row.name, row.version, row.key_id))
        return DataKey(row.name, row.version, row.key_id, raw)


def _busy() -> Unavailable:
    return Unavailable("The key store is too busy.", guidance="Try again in a few seconds.", retry_after=5)
