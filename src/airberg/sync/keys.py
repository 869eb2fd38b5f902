"""The keys of one run, unwrapped before anything is read or written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from pyiceberg.catalog import Catalog

from airberg.columns.convert import CipherFor
from airberg.keys import compiled
from airberg.keys.cipher import CipherShelf
from airberg.keys.port import DataKey, Key, KeyStore
from airberg.lake.tables import find_table
from airberg.plan.key_versions import deterministic_versions, is_deterministic
from airberg.plan.model import JobPlan, StreamPlan

log = logging.getLogger(__name__)


class RunKeys:
    """What a run has of the key store: each key as it was when the run began, whatever happens to it later.

    So all rows of a run have one version of a key, and a key service is asked once.
    """

    def __init__(self, store: KeyStore, names: Iterable[str]) -> None:
        """Unwrap the versions that encrypt.

        Raises:
            NotFound: There is no such key.
            ConfigurationFailed: It is disabled or destroyed, or cannot be unwrapped.
        """
        self._store = store
        self._primary = {name: store.primary(name) for name in sorted(set(names))}
        self._usable: dict[str, Sequence[DataKey]] = {}
        self._described: dict[str, Key] = {}
        self._settled: dict[str, Mapping[str, int]] = {}
        if self._primary and compiled.cipher() is None:
            log.warning(
                "columns are encrypted value by value, several times slower: the compiled cipher was not "
                "built, or found no libcrypto of OpenSSL 3 or 1.1"
            )

    def settle(self, plan: JobPlan, catalog: Catalog) -> None:
        """Choose and unwrap the versions for deterministic and hashed columns of all tables, made yet or not.

        Raises:
            ConfigurationFailed: A version that a table needs may not be used.
        """
        for stream in filter(is_deterministic, plan.streams):
            table = find_table(catalog, plan.namespace, stream.table)
            versions = deterministic_versions(stream, table.properties if table else {}, self._describe)
            for name in versions:
                self.versions(name)
            self._settled[stream.table] = versions

    def settled(self, stream: StreamPlan) -> Mapping[str, int]:
        """The version of each key that deterministic and hashed columns have, once it is settled."""
        return self._settled.get(stream.table, {})

    def cipher_for(self, stream: StreamPlan) -> CipherFor:
        """Gives the ciphers and hashes of a stream's columns."""
        return CipherShelf(self, self.settled(stream)).cipher_for

    def primary(self, name: str) -> DataKey:
        """The version that encrypts. Raises as `KeyStore.primary`."""
        if name not in self._primary:
            self._primary[name] = self._store.primary(name)
        return self._primary[name]

    def versions(self, name: str) -> Sequence[DataKey]:
        """The versions that may decrypt, oldest first. Raises as `KeyStore.versions`."""
        if name not in self._usable:
            self._usable[name] = self._store.versions(name)
        return self._usable[name]

    def _describe(self, name: str) -> Key:
        if name not in self._described:
            self._described[name] = self._store.describe(name)
        return self._described[name]
