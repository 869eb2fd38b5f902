"""Airflow's pools as the settings want them: a task whose pool is missing waits forever."""

from __future__ import annotations

import logging
import time
from typing import Final

from airberg.errors import Unavailable
from airberg.flows.airflow_settings import AirflowSettings
from airberg.flows.port import Orchestrator

log = logging.getLogger(__name__)

DEFAULT_POOL: Final = "default_pool"
AGAIN_S: Final = 60.0


class DeclaredPools:
    """The pools of `airflow.pool_slots`, made when Airflow answers, and once for each start of the service.

    Who runs Airflow may change their slots afterwards: the next start sets them again. Pools that the
    settings give to jobs and that are not there then are told in the log.
    """

    def __init__(self, orchestrator: Orchestrator, settings: AirflowSettings) -> None:
        self._orchestrator = orchestrator
        self._left = dict(settings.pool_slots)
        self._unseen = {*settings.source_pools.values(), *filter(None, [settings.pool])}
        self._refused: set[str] = set()
        self._not_before = 0.0

    def ensure(self) -> None:
        """Make what is not there yet; at most once a minute while that does not succeed. Never raises."""
        if not (self._left or self._unseen) or time.monotonic() < self._not_before:
            return
        for name, slots in list(self._left.items()):
            self._make(name, slots)
        try:
            self._look()
        except Unavailable as e:
            self._not_before = time.monotonic() + AGAIN_S
            log.debug("pools are not looked at: %s", e.message)

    def _make(self, name: str, slots: int) -> None:
        try:
            self._orchestrator.set_pool(name, slots)
        except Unavailable as e:
            self._not_before = time.monotonic() + AGAIN_S
            if e.code == "pool-refused" and name not in self._refused:
                self._refused.add(name)
                log.warning("%s", e.sentence())
        else:
            self._left.pop(name, None)
            log.info("pool %s has %d slots", name, slots)

    def _look(self) -> None:
        if not self._unseen:
            return
        there = self._orchestrator.pools()
        for name in sorted(self._unseen - set(there) - set(self._left)):
            log.warning(
                "Airflow has no pool %s: tasks of jobs that the settings give it will not start", name
            )
        self._unseen = set()
