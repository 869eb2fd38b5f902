"""Airflow's pools as the settings want them: a task whose pool is missing waits forever."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from airberg.errors import Unavailable
from airberg.flows.port import Orchestrator

log = logging.getLogger(__name__)

DEFAULT_POOL: Final = "default_pool"
AGAIN_S: Final = 60.0


class DeclaredPools:
    """The pools of `airflow.pool_slots`, made when Airflow answers, and once for each start of the service.

    Who runs Airflow may change their slots afterwards: the next start sets them again.
    """

    def __init__(self, orchestrator: Orchestrator, slots: Mapping[str, int]) -> None:
        self._orchestrator = orchestrator
        self._left = dict(slots)
        self._not_before = 0.0

    def ensure(self) -> None:
        """Make what is not there yet; at most once a minute while that does not succeed. Never raises."""
        if not self._left or time.monotonic() < self._not_before:
            return
        for name, slots in list(self._left.items()):
            try:
                self._orchestrator.set_pool(name, slots)
            except Unavailable as e:
                self._not_before = time.monotonic() + AGAIN_S
                level = logging.WARNING if e.code == "pool-refused" else logging.DEBUG
                log.log(level, "the pool %s is not made: %s", name, e.sentence())
            else:
                self._left.pop(name, None)
                log.info("pool %s has %d slots", name, slots)
