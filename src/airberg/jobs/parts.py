"""Runs whose streams are synced side by side: pure rules of how parts make up a run.

A part looks like a run to whoever works on it: it has a status, attempts, a report. What it did to its
tables is kept once, in the report of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from airberg.errors import ConfigurationFailed
from airberg.jobs.encoding import storable_text
from airberg.jobs.lifecycle import Ending, ended, started
from airberg.jobs.model import Job, Run, RunPart, RunReport, RunStatus

TOLD_FAILURES = 3
"""Parts whose errors the run repeats; all of them are in the parts."""


def shared_out(run: Run, tables: Sequence[Sequence[str]]) -> Run:
    """The run with its tables shared out anew among parts, none of which has begun."""
    parts = tuple(
        RunPart(number=number, tables=tuple(sorted(names)), report=RunReport())
        for number, names in enumerate(tables)
    )
    return replace(run, report=msgspec.structs.replace(run.report, parts=parts))


def part_of(run: Run, number: int) -> Run:
    """A part of a run, as a run.

    Raises:
        ConfigurationFailed: The run has no such part.
    """
    part = next((one for one in run.report.parts if one.number == number), None)
    if part is None:
        raise ConfigurationFailed(
            f"The run {run.id} has no part {number}.",
            guidance="Clear the task `plan` of the flow's run: it shares the streams out.",
            code="no-part",
        )
    streams = tuple(stream for stream in run.report.streams if stream.table in part.tables)
    return replace(
        run,
        part=number,
        status=part.status,
        attempt=part.attempt,
        error=part.error,
        error_code=part.error_code,
        started_at=part.started_at,
        ended_at=part.ended_at,
        report=msgspec.structs.replace(part.report, streams=streams),
    )


def with_part(run: Run, part: Run) -> Run:
    """The run with a part of it as it is now."""
    known = next(one for one in run.report.parts if one.number == part.part)
    changed = msgspec.structs.replace(
        known,
        status=part.status,
        attempt=part.attempt,
        error=storable_text(part.error),
        error_code=part.error_code,
        started_at=part.started_at,
        ended_at=part.ended_at,
        report=msgspec.structs.replace(part.report, streams=()),
    )
    parts = tuple(changed if one is known else one for one in run.report.parts)
    others = (stream for stream in run.report.streams if stream.table not in known.tables)
    report = msgspec.structs.replace(
        run.report,
        parts=parts,
        streams=(*others, *part.report.streams),
        records_of_unknown_streams=sum(one.report.records_of_unknown_streams for one in parts),
    )
    return replace(run, report=report)


def part_reported(run: Run, number: int, report: RunReport) -> Run:
    """The run with the report of a part. Raises ConfigurationFailed when there is no such part."""
    return with_part(run, replace(part_of(run, number), report=report))


def part_started(job: Job, run: Run, number: int, attempt: int, at: datetime) -> tuple[Job, Run]:
    """Job and run once an attempt of a part has begun; the run goes on, also where it seemed to have ended.

    Raises:
        NotFound: The job was deleted meanwhile.
        ConfigurationFailed: There is no such part.
    """
    _, part = started(job, part_of(run, number), attempt, at)
    run = with_part(run, part)
    return started(job, run, run.attempt, run.started_at or at)


def part_ended(job: Job, run: Run, number: int, ending: Ending, *, newest: bool) -> tuple[Job, Run]:
    """Job and run once a part has ended: the run ends with its last part.

    Args:
        newest: No later run of the job has started.

    Raises:
        ConfigurationFailed: There is no such part.
    """
    _, part = ended(job, part_of(run, number), ending, newest=False)
    run = with_part(run, part)
    status = status_of(run.report.parts)
    if not status.ended:
        return job, run
    failed = [one for one in run.report.parts if one.status in (RunStatus.FAILED, RunStatus.CANCELLED)]
    whole = Ending(status=status, at=ending.at, report=run.report)
    if failed:
        whole = replace(whole, error=_told(failed, len(run.report.parts)), error_code="parts-failed")
    if len(codes := {one.error_code for one in failed}) == 1:
        whole = replace(whole, error_code=codes.pop())
    # Not what an earlier end has said: other parts may have failed then.
    return ended(job, replace(run, error=None, error_code=None), whole, newest=newest)


def status_of(parts: Sequence[RunPart]) -> RunStatus:
    """Status of a run with these parts. One that was cancelled does not begin its other parts."""
    statuses = {part.status for part in parts}
    if RunStatus.RUNNING in statuses:
        return RunStatus.RUNNING
    if RunStatus.CANCELLED in statuses:
        return RunStatus.CANCELLED
    if RunStatus.QUEUED in statuses:
        return RunStatus.RUNNING
    return RunStatus.FAILED if RunStatus.FAILED in statuses else RunStatus.COMPLETED


def _told(failed: Sequence[RunPart], of: int) -> str:
    told = "; ".join(f"{', '.join(one.tables)}: {one.error}" for one in failed[:TOLD_FAILURES])
    more = f"; and {len(failed) - TOLD_FAILURES} more" if len(failed) > TOLD_FAILURES else ""
    return f"{len(failed)} of {of} parts did not succeed. {told}{more}"
