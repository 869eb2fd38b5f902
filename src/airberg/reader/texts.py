"""Sealed texts of connectors, opened for those who may use the keys of the columns that they may quote."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from airberg.jobs.open import open_store
from airberg.keys.open import open_keys
from airberg.keys.port import DataKey, KeyStore
from airberg.keys.texts import SealedText, sealed_texts, unsealed
from airberg.reader.access import ReaderIdentity, check_reader, identify
from airberg.settings import Settings


def read_sealed(text: str, settings: Settings, token: str | None = None) -> str:
    """A log with what is sealed in it opened; leaves an audit entry for each key and job.

    Args:
        text: The log, or any part of it that has whole lines.
        settings: Of the deployment.
        token: Access token of who reads; that of the settings when None.

    Raises:
        NotFound: There is no such key any more.
        NotAllowed: A key is not for this reader.
        ConfigurationFailed: A key is disabled or destroyed; a text was cut off or is of another deployment.
    """
    found = list(sealed_texts(text))
    with contextlib.closing(open_keys(settings)) as keys, contextlib.closing(open_store(settings)) as store:
        versions = _usable(keys, identify(settings, token), found)
        return unsealed(text, lambda sealed: sealed.open(versions.__getitem__, store.sealer))


def _usable(
    keys: KeyStore, reader: ReaderIdentity, found: Sequence[SealedText]
) -> dict[str, Sequence[DataKey]]:
    """The versions of all keys that are needed; nothing is opened before all of them may be used."""
    uses = dict.fromkeys((name, text.job_id) for text in found for name in text.key_names)
    names = dict.fromkeys(name for name, _ in uses)
    for name in names:
        check_reader(keys.describe(name), reader)
    versions = {name: keys.versions(name) for name in names}
    for name, job_id in uses:
        numbers = [version.version for version in versions[name]]
        keys.record(reader.actor, "decrypt", name, numbers, f"log of job {job_id}")
    return versions
