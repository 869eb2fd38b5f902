"""The examination: all checks in their order, each only where what it needs is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from airberg import __version__
from airberg.errors import AirbergError
from airberg.flows.doctor import bundle_checks, flow_checks, site_checks
from airberg.flows.doctor.model import Finding, NotFit, Report
from airberg.flows.doctor.ward import Ward

Check: TypeAlias = Callable[[Ward], str]


class Step(NamedTuple):
    """A check, and those without which it has nothing to look at."""

    check: str
    needs: tuple[str, ...]
    look: Check


STEPS: Final = (
    Step("settings", (), site_checks.check_settings),
    Step("store", (), site_checks.check_store),
    Step("service", ("settings",), site_checks.check_service),
    Step("airflow", ("settings",), site_checks.check_airflow),
    Step("version", ("airflow",), site_checks.check_version),
    Step("health", ("airflow",), site_checks.check_health),
    Step("clock", ("airflow",), site_checks.check_clock),
    Step("pages", ("airflow",), site_checks.check_pages),
    Step("login", ("airflow",), site_checks.check_login),
    Step("rights", ("login",), site_checks.check_rights),
    Step("bundle", ("login",), site_checks.check_bundle),
    Step("pull", ("bundle", "service"), bundle_checks.check_pull),
    Step("hosts", ("service", "airflow"), bundle_checks.check_hosts),
    Step("import-errors", ("login",), bundle_checks.check_import_errors),
    Step("flows", ("bundle", "store"), flow_checks.check_flows),
    Step("schedules", ("bundle", "store"), flow_checks.check_schedules),
    Step("pools", ("login", "store"), flow_checks.check_pools),
)


def examine(ward: Ward, say: Callable[[Finding], None] = lambda _: None) -> Report:
    """Make all checks.

    Args:
        ward: What is looked at; it is closed afterwards.
        say: Gets each finding when it is there.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        say(finding)

    try:
        for step in STEPS:
            note(_look(step, ward, findings))
        _look_at_worker(ward, findings, note)
    finally:
        ward.close()
    return Report(version=__version__, at=datetime.now(UTC), findings=tuple(findings))


def _look(step: Step, ward: Ward, before: list[Finding]) -> Finding:
    missing = [f.check for f in before if f.check in step.needs and f.status in ("problem", "skipped")]
    if missing:
        return Finding(check=step.check, status="skipped", found=f"not looked at without: {missing[0]}")
    return finding_of(step.check, lambda: step.look(ward))


def finding_of(check: str, look: Callable[[], str]) -> Finding:
    """What a check found: its errors are findings, too."""
    try:
        return Finding(check=check, status="ok", found=look())
    except NotFit as e:
        return Finding(check=check, status=e.status, found=e.found, advice=e.advice)
    except AirbergError as e:
        return Finding(check=check, status="problem", found=e.message, advice=e.guidance)


def _look_at_worker(ward: Ward, before: list[Finding], note: Callable[[Finding], None]) -> None:
    """The task on a worker, whose findings come after its own."""
    seen: list[Finding] = []

    def look(ward: Ward) -> str:
        if not ward.run_task:
            raise NotFit("not looked at without --run-task", status="skipped")
        seen.extend(flow_checks.look_at_worker(ward))
        return flow_checks.own_version(seen)

    note(_look(Step("worker", ("bundle", "store", "health"), look), ward, before))
    for finding in seen:
        note(finding)
