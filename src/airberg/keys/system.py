"""Sealing keys that are not the master key: versions of a reserved data key, `airberg.system`.

With the local key-encryption key, the master key seals by itself. With another one, a data key does, so that
nothing in clear is left on the deployment's disks. It is in the table of data keys, and wrapped and rewrapped
as they are; but it has no row in the table of names, so that no verb on keys finds it: no column can be
encrypted with it, nobody can export, disable or destroy it.

The master keys that a deployment has are taken along as versions that open and no longer seal. What they have
sealed therefore opens when they are gone; and what the data key has sealed opens after the way back, when the
local key-encryption key wraps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Engine, Row, select
from sqlalchemy.exc import IntegrityError

from airberg.errors import Unavailable
from airberg.jobs.engine import Transactions
from airberg.keys.address import LOCAL
from airberg.keys.kek import derive_key
from airberg.keys.names import SYSTEM_KEY, new_key_id, new_raw_key
from airberg.keys.port import SYSTEM, KeyVersion, VersionState
from airberg.keys.ring import KekRing
from airberg.keys.seal import KeyLoader
from airberg.keys.sql_audit import add_entry
from airberg.keys.sql_rows import add_version, wrapping_context
from airberg.keys.tables import data_keys

_ATTEMPTS = 8
_IDS_PER_MASTER_KEY = 4
_ID_INFO = b"airberg adopted key id v1"


@dataclass(frozen=True, slots=True)
class _New:
    key_id: int
    state: VersionState
    raw: bytes


class SystemKeys:
    """The sealing keys of a deployment."""

    def __init__(self, engine: Engine, ring: KekRing, master_keys: Sequence[bytes]) -> None:
        """Look at nothing yet.

        Args:
            engine: Of the job store's database, with its tables.
            ring: The deployment's key-encryption keys.
            master_keys: The master keys that the deployment has, the current one first; needed only with the
                local key-encryption key.
        """
        self._transactions = Transactions(engine)
        self._ring = ring
        self._master_keys = tuple(master_keys)
        self._unwrapped: dict[int, bytes] = {}

    def loaders(self) -> Sequence[KeyLoader]:
        """What gives each sealing key, the one that seals first.

        Raises:
            ConfigurationFailed: The key-encryption key refuses, or is not the one that wrapped them.
            Unavailable: The database or the key service does not answer.
        """
        rows = self.ensure()
        in_store = [partial(self._unwrap, row) for row in rows]
        in_memory = [partial(bytes, key) for key in self._master_keys]
        return [*in_store[:1], *in_memory, *in_store[1:]]  # those that ask a service come last

    def ensure(self) -> Sequence[Row[Any]]:
        """Make and take along what is missing, when the key-encryption key is not the local one.

        Returns:
            The versions, the one that seals first, then the newest.

        Raises:
            ConfigurationFailed: The key-encryption key refuses.
            Unavailable: The database or the key service does not answer.
        """
        for attempt in range(_ATTEMPTS):
            rows = self._rows()
            missing = () if self._ring.uri == LOCAL else tuple(self._missing(rows, attempt))
            if not missing:
                return rows
            self._add(max((row.version for row in rows), default=0), missing)
        raise Unavailable("The key store is too busy.", guidance="Try again in a few seconds.", retry_after=5)

    def _rows(self) -> Sequence[Row[Any]]:
        here = (data_keys.c.name == SYSTEM_KEY) & data_keys.c.state.in_(("primary", "active"))
        with self._transactions.read() as connection:
            found = connection.execute(select(data_keys).where(here)).all()
        return sorted(found, key=lambda row: (row.state != "primary", -row.version))

    def _missing(self, rows: Sequence[Row[Any]], attempt: int) -> Iterator[_New]:
        there = {row.key_id for row in rows}
        for key in reversed(self._master_keys):
            ids = _ids_of(key)
            if not there & set(ids):
                yield _New(ids[attempt % len(ids)], "active", key)
        if not any(row.state == "primary" for row in rows):
            yield _New(new_key_id(), "primary", new_raw_key())

    def _add(self, last: int, missing: Sequence[_New]) -> None:
        """Add versions in one transaction, unless another process was faster, or an id is taken."""
        versions = []
        for number, new in enumerate(missing, last + 1):
            wrapped = self._ring.wrap(new.raw, wrapping_context(SYSTEM_KEY, number, new.key_id))
            version = KeyVersion(number, new.key_id, new.state, self._ring.uri, datetime.now(UTC))
            versions.append((version, wrapped))
        try:
            with self._transactions.write() as connection:
                for version, wrapped in versions:
                    add_version(connection, SYSTEM_KEY, version, wrapped)
                numbers = [version.version for version, _ in versions]
                add_entry(connection, SYSTEM, "create", SYSTEM_KEY, numbers, f"with {self._ring.uri}")
        except IntegrityError:
            return

    def _unwrap(self, row: Row[Any]) -> bytes:
        if row.key_id not in self._unwrapped:
            context = wrapping_context(row.name, row.version, row.key_id)
            self._unwrapped[row.key_id] = self._ring.unwrap_from(row.kek, row.wrapped, context)
        return self._unwrapped[row.key_id]


def _ids_of(master_key: bytes) -> list[int]:
    """Ids that a master key may have as a version: how it is known again without unwrapping anything."""
    digest = derive_key(master_key, _ID_INFO)
    parts = (digest[at : at + 4] for at in range(0, 4 * _IDS_PER_MASTER_KEY, 4))
    return [int.from_bytes(part, "big") or 1 for part in parts]
