"""Attempts of a run."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from airberg.errors import TransientFailed
from airberg.jobs.model import RunReport, RunStatus
from airberg.sync.attempts import KEPT, Attempts
from support.jobs import a_run, at


def test_each_attempt_adds_itself() -> None:
    """What an earlier one said stays; one that begins again starts anew."""
    run = a_run(uuid4(), attempt=1)
    first = Attempts(run)
    assert [a.status for a in first.reports] == [RunStatus.RUNNING]
    first.end(RunStatus.FAILED, at(1), TransientFailed("It broke.", guidance="Wait.", code="x"))
    second = Attempts(replace(run, attempt=2, report=RunReport(attempts=first.reports)))
    second.end(RunStatus.COMPLETED, at(2), None)
    told = [(a.number, a.status, a.error, a.guidance, a.error_code) for a in second.reports]
    assert told == [
        (1, RunStatus.FAILED, "It broke.", "Wait.", "x"),
        (2, RunStatus.COMPLETED, None, None, None),
    ]
    again = Attempts(replace(run, attempt=2, report=RunReport(attempts=second.reports)))
    assert [(a.number, a.status) for a in again.reports] == [(1, RunStatus.FAILED), (2, RunStatus.RUNNING)]


def test_their_number_is_bounded() -> None:
    """The newest are kept."""
    report = RunReport()
    for number in range(1, 3 * KEPT):
        report = RunReport(attempts=Attempts(a_run(uuid4(), attempt=number, report=report)).reports)
    assert [a.number for a in report.attempts] == list(range(2 * KEPT, 3 * KEPT))
