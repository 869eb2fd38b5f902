"""Checks of what is between both: whether Airflow asks for flows, from where, and what it makes of them."""

from __future__ import annotations

import time
from datetime import timedelta

from airberg import __version__
from airberg.flows.doctor.airflow_api import ImportFailure, ImportFailures
from airberg.flows.doctor.model import NotFit, counted, some
from airberg.flows.doctor.site_checks import CLOCK_PROBLEM_S, CLOCK_WARNING_S
from airberg.flows.doctor.ward import Ward
from airberg.flows.model import SENTINEL_ID
from airberg.flows.pulls import PullsSeen

POLL_S = 0.3
RECENT = timedelta(hours=1)
"""The dag-processor asks every minute or so, workers before each task."""
OUR_FILES = "airberg_"


def check_pull(ward: Ward) -> str:
    """Have the sentinel parsed; the bundle is refreshed for that, which our API sees."""
    sentinel, before = ward.sentinel, ward.seen
    assert sentinel is not None  # noqa: S101 - `bundle` comes first
    assert before is not None  # noqa: S101 - and `service`
    known = {p.host: p.at for p in before.pulls}
    started = time.monotonic()
    ward.airflow.parse(sentinel)
    parsed_s = pulled_s = None
    while time.monotonic() - started < ward.wait_s and (parsed_s is None or pulled_s is None):
        time.sleep(POLL_S)
        took = time.monotonic() - started
        if parsed_s is None:
            now = ward.airflow.flow(SENTINEL_ID)
            if now is not None and now.last_parsed_time != sentinel.last_parsed_time:
                parsed_s = took
        if pulled_s is None:
            seen = ward.pulls()
            if any(known.get(p.host) != p.at for p in seen.pulls):
                ward.seen, pulled_s = seen, took
    if pulled_s is not None and parsed_s is not None:
        assert ward.seen is not None  # noqa: S101 - it has just been set
        return (
            f"Airflow asked for the flows within {pulled_s:.1f} s, and had parsed them after {parsed_s:.1f} s"
        )
    if pulled_s is not None:
        raise NotFit(
            f"Airflow asked for the flows, and has not parsed them within {ward.wait_s:.0f} s.",
            "The dag-processor is busy or stands still: see its log.",
        )
    if parsed_s is None:
        raise NotFit(
            f"Airflow has not parsed the bundle within {ward.wait_s:.0f} s.",
            "See the dag-processor's log; its [api] secret_key has to be that of the API server.",
        )
    raise _not_asked(ward, before)


def _not_asked(ward: Ward, before: PullsSeen) -> NotFit:
    refused = ward.pulls().refused
    if refused.count > before.refused.count:
        return NotFit(
            f"Airflow asks {ward.api_url} with a wrong machine token (the last time from {refused.address}).",
            "Give AIRBERG_AIRFLOW__BUNDLE_TOKEN of the service to the dag-processor and the workers, too.",
        )
    return NotFit(
        f"Airflow parses the bundle, but does not reach {ward.api_url}: it goes on with an old copy.",
        "The `url` of the bundle leads elsewhere, or is not reached from the dag-processor: see its log.",
    )


def check_hosts(ward: Ward) -> str:
    """What hosts say of themselves when they ask."""
    ward.seen = ward.pulls()
    # A pod or a worker that is gone asks no more: whoever asked with the newest is looked at.
    newest = max((p.at for p in ward.seen.pulls), default=None)
    pulls = [p for p in ward.seen.pulls if newest is not None and newest - p.at < RECENT]
    if not pulls:
        raise NotFit("No host has asked for flows since the API started.", "See the check `pull`.", "warning")
    names = {p.host: p.host or "a host without a name" for p in pulls}
    if slow := [p for p in pulls if p.clock_s is not None and abs(p.clock_s) > CLOCK_WARNING_S]:
        worst = max(abs(p.clock_s or 0.0) for p in slow)
        raise NotFit(
            f"Clocks differ from that of Airberg's API by up to {worst:.0f} s: "
            f"{some([names[p.host] for p in slow])}.",
            "Let all machines take their time from the same servers (NTP).",
            status="problem" if worst > CLOCK_PROBLEM_S else "warning",
        )
    if old := [p for p in pulls if p.package != __version__]:
        shown = [f"{names[p.host]} ({p.package or 'unknown'})" for p in old]
        raise NotFit(
            f"airberg-airflow is not {__version__} on {some(shown)}.",
            "Install the one of this version there, and restart Airflow.",
            status="warning",
        )
    if other := [p for p in pulls if p.airflow not in (None, ward.airflow_version)]:
        shown = [f"{names[p.host]} ({p.airflow})" for p in other]
        raise NotFit(
            f"Airflow's API server is {ward.airflow_version}, other hosts are not: {some(shown)}.",
            "Bring all of Airflow to one version.",
            status="warning",
        )
    return f"{counted(len(pulls), 'host')} of Airflow: {some([names[p.host] for p in pulls])}"


def check_import_errors(ward: Ward) -> str:
    """Files of ours that Airflow could not load."""
    bundle = ward.sentinel.bundle_name if ward.sentinel else None
    failures = [
        f
        for f in ward.airflow.get("/importErrors", ImportFailures, limit=100).import_errors
        if (bundle is not None and f.bundle_name == bundle)
        or f.filename.rpartition("/")[2].startswith(OUR_FILES)
    ]
    if failures:
        raise NotFit(
            f"{counted(len(failures), 'file')} cannot be loaded: {some([f.filename for f in failures])}. "
            f"{_last_line(failures[0])}",
            "See the import errors on Airflow's page; airberg-airflow has to be of the service's version.",
        )
    return "no import errors of Airberg's files"


def _last_line(failure: ImportFailure) -> str:
    lines = failure.stack_trace.strip().splitlines()
    return lines[-1][:300] if lines else ""
