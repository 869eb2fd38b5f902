"""What a run works with."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.catalog import Catalog

from airberg.jobs.port import JobStore
from airberg.keys.port import KeyStore
from airberg.keys.seal import Sealer
from airberg.settings import Settings


@dataclass(frozen=True, slots=True)
class Backends:
    """What a run works with, opened by the caller."""

    settings: Settings
    store: JobStore
    keys: KeyStore
    catalog: Catalog
    sealer: Sealer
