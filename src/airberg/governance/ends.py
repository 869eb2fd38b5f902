"""The service has DataHub told of deleted jobs, by a process that may load DataHub's client."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from airberg.governance.retire import deleted_jobs
from airberg.settings import settings_environment

if TYPE_CHECKING:
    from airberg.jobs.port import JobStore
    from airberg.settings import Settings

log = logging.getLogger(__name__)

AGAIN_S = (15.0, 900.0)
"""How soon it is tried again when DataHub did not take it: at first, and at most."""
AT_MOST_S = 600.0
"""How long the process may take; what it has not told is told by the next one."""
COMMAND = (sys.executable, "-m", "airberg.cli", "governance", "replay", "--deleted", "--json")


class EndsOfJobs:
    """Starts `airberg governance replay --deleted` when a job was deleted that DataHub knows.

    Telling twice ends as telling once, so services of one deployment need not know of each other, nor of
    the task `register`, which tells of deleted jobs too.

    Args:
        store: Knows which deletions are due.
        settings: For the process too.
        again_s: How soon it is tried again, at first and at most.
    """

    def __init__(self, store: JobStore, settings: Settings, again_s: tuple[float, float] = AGAIN_S) -> None:
        self._store = store
        self._settings = settings
        self._first_s, self._limit_s = again_s
        self._again_s = self._first_s
        self._not_before = 0.0

    def loop(self, stop: threading.Event, every_s: float) -> None:
        """Look until told to stop; for a background thread. Ends at once where there is no DataHub."""
        if self._settings.datahub.server is None:
            return
        while not stop.wait(every_s):
            try:
                self.look(stop)
            except Exception:
                # Whatever goes wrong in one round: the deletion stays due, and the next round may do.
                log.exception("DataHub could not be told of deleted jobs")
                self._later()

    def look(self, stop: threading.Event) -> bool:
        """Have it told, if something is due, and it was not tried a moment ago.

        Args:
            stop: Ends the process.

        Returns:
            Whether a process was started.

        Raises:
            Unavailable: The job store does not answer.
        """
        if time.monotonic() < self._not_before or not deleted_jobs(self._store):
            return False
        if self._tell(stop):
            self._again_s = self._first_s
        else:
            self._later()
        return True

    def _later(self) -> None:
        self._not_before = time.monotonic() + self._again_s
        self._again_s = min(2 * self._again_s, self._limit_s)

    def _tell(self, stop: threading.Event) -> bool:
        """Run the command; whether everything that was due is told."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__")}
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                COMMAND,
                env=environment | settings_environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = _ended(process, stop)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            said.seek(0)
            lines = said.read(20_000).decode(errors="replace").splitlines()
        for line in lines:
            log.log(logging.INFO if code == 0 else logging.WARNING, "ends of jobs: %s", line)
        return code == 0


def _ended(process: subprocess.Popen[bytes], stop: threading.Event) -> int | None:
    """Exit code, or None when there was no time for one."""
    deadline = time.monotonic() + AT_MOST_S
    while not stop.is_set() and time.monotonic() < deadline:
        try:
            return process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    return None
