"""The feed of flows that the orchestrator reads: the specs of all jobs, as JSON."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from airberg.flows.model import doctor_spec, flow_spec, settings_version, upkeep_spec
from airberg.jobs.port import JobStore
from airberg.settings import Settings


class FlowFeed:
    """The newest feed. It is made once for each version, however many dag-processors and workers pull it.

    Safe to be called from several threads.
    """

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._made_from = settings_version(settings)
        self._lock = threading.Lock()
        self._kept: tuple[str, bytes] | None = None

    def version(self) -> str:
        """The ETag: changes with anything that specs are made of. Reads one row of the store.

        Raises:
            Unavailable: The job store does not answer.
        """
        return f'"{self._store.flows_version()}-{self._made_from}"'

    def body(self, version: str) -> bytes:
        """The feed, at least as new as that version.

        Jobs are read behind the version: what changes in between is in here already, and once more under the
        next version.

        Raises:
            Unavailable: The job store does not answer.
        """
        with self._lock:
            if self._kept is None or self._kept[0] != version:
                self._kept = None  # the old one and the new one are never both in memory
                self._kept = (version, self._make())
            return self._kept[1]

    def _make(self) -> bytes:
        specs: list[Any] = [flow_spec(job, self._settings) for job in self._store.flow_jobs()]
        upkeep = upkeep_spec(self._settings)
        if upkeep is not None:
            specs.append(upkeep)
        specs.append(doctor_spec(self._settings))
        return msgspec.json.encode({"flows": specs})
