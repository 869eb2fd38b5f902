"""The attempts of a run, so that the reason why an earlier one failed is known after a later one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from airberg.errors import RunCancelled, RunError
from airberg.governance.openlineage.story import Story
from airberg.jobs.lifecycle import Ending
from airberg.jobs.model import AttemptReport, Run, RunReport, RunStatus
from airberg.sync.record import RunRecord

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


def record_end(
    record: RunRecord,
    run_id: UUID,
    attempts: Attempts,
    report: Callable[[], RunReport],
    story: Story,
    error: RunError | None,
) -> Run:
    """Store how the newest attempt has ended, and with it the run.

    Args:
        record: Keeps the run.
        run_id: The run.
        attempts: Those of the run.
        report: Makes the run's report, with its attempts.
        story: Told of the end, when it is stored.
        error: What ended it, if something did.

    Raises:
        RunError: The error.
    """
    now = datetime.now(UTC)
    if error is None:
        attempts.end(RunStatus.COMPLETED, now, None)
        ending = Ending(status=RunStatus.COMPLETED, at=now, report=report())
        return story.end(record.end(run_id, ending))
    status = RunStatus.CANCELLED if isinstance(error, RunCancelled) else RunStatus.FAILED
    attempts.end(status, now, error)
    ending = Ending(status=status, at=now, error=error.sentence(), error_code=error.code, report=report())
    story.end(record.end(run_id, ending))
    raise error
