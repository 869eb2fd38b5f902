"""The attempts of a run, so that the reason why an earlier one failed is known after a later one."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from airberg.errors import RunError
from airberg.jobs.model import AttemptReport, Run, RunStatus

KEPT = 20
"""The newest ones; who lets a run be tried again more often knows why."""


class Attempts:
    """Those of a run, the newest of which is at work.

    Args:
        run: The run, in the attempt that it is in.
    """

    def __init__(self, run: Run) -> None:
        earlier = [a for a in run.report.attempts if a.number != run.attempt]
        self._earlier = tuple(earlier[-(KEPT - 1) :])
        self._newest = AttemptReport(
            number=run.attempt, status=RunStatus.RUNNING, started_at=datetime.now(UTC)
        )

    @property
    def reports(self) -> tuple[AttemptReport, ...]:
        """All of them, oldest first."""
        return (*self._earlier, self._newest)

    def end(self, status: RunStatus, at: datetime, error: RunError | None) -> None:
        """Note how the newest one has ended."""
        self._newest = msgspec.structs.replace(
            self._newest,
            status=status,
            ended_at=at,
            error=error.message if error else None,
            error_code=error.code if error else None,
            guidance=(error.guidance or None) if error else None,
        )
