"""Checks of both ends for themselves: our settings, store and API, and Airflow's API.

Each returns what it found when all is well, and raises `NotFit` otherwise.
"""

from __future__ import annotations

import re

import httpx

from airberg import __version__
from airberg.errors import Unavailable
from airberg.flows.airflow import HEALTH_TIMEOUT, is_loopback
from airberg.flows.credentials import load_credentials
from airberg.flows.doctor.airflow_api import AirflowApi, Flows, Health, ImportFailures, Version
from airberg.flows.doctor.model import NotFit
from airberg.flows.doctor.ward import Ward
from airberg.flows.model import SENTINEL_ID

TESTED = ((3, 1), (3, 3))
"""The oldest and the newest line of Airflow that the tests run on."""
CLOCK_WARNING_S = 3.0
CLOCK_PROBLEM_S = 10.0
"""Airflow's components refuse each other's tokens when clocks differ by more (`[api_auth] jwt_leeway`)."""
NO_FLOW = "airberg_doctor__no_such_flow"


def check_settings(ward: Ward) -> str:
    """Secrets are there."""
    ward.opened_credentials = load_credentials(ward.settings)
    ward.opened_airflow = AirflowApi(ward.settings, ward.credentials)
    airflow = ward.settings.airflow
    how = "a token" if ward.credentials.token else f"user {airflow.username!r} with a password"
    kind = "the embedded Airflow" if airflow.embedded else "an Airflow of your own"
    return f"{kind} at {ward.settings.airflow_url}, {how}, and a machine token"


def check_store(ward: Ward) -> str:
    """The store answers; opening it looks at its schema."""
    ward.opened_store = ward.open_store()
    ward.store.flows_version()
    return "the job store answers"


def check_service(ward: Ward) -> str:
    """Our API takes our token."""
    ward.seen = ward.pulls()
    if ward.seen.version != __version__:
        raise NotFit(
            f"{ward.api_url} is Airberg {ward.seen.version}, the doctor {__version__}.",
            "Run the doctor of the same version.",
            status="warning",
        )
    return f"{ward.api_url} is Airberg {ward.seen.version}"


def check_airflow(ward: Ward) -> str:
    """It answers what needs no login."""
    ward.airflow_version = ward.airflow.get("/version", Version, login=False).version
    return f"{ward.airflow.url} answers"


def check_version(ward: Ward) -> str:
    """Versions that tests run on are fine."""
    oldest, newest = (".".join(map(str, line)) for line in TESTED)
    found = re.match(r"(\d+)\.(\d+)", ward.airflow_version)
    line = (int(found[1]), int(found[2])) if found else (0, 0)
    if line < TESTED[0]:
        raise NotFit(f"Airflow {ward.airflow_version[:32]}.", f"Airberg needs {oldest} or newer.")
    if line > TESTED[1]:
        raise NotFit(
            f"Airflow {ward.airflow_version[:32]}.",
            f"Airberg is tested with {oldest} to {newest}.",
            status="warning",
        )
    return f"Airflow {ward.airflow_version}"


def check_health(ward: Ward) -> str:
    """What registration and runs need."""
    health = ward.airflow.get("/monitor/health", Health, login=False)
    parts = {
        "database": health.metadatabase,
        "scheduler": health.scheduler,
        "dag-processor": health.dag_processor,
    }
    if ill := [name for name, part in parts.items() if part is None or part.status != "healthy"]:
        raise NotFit(
            f"Not healthy: {', '.join(ill)}.",
            "Start what does not run (`airflow scheduler`, `airflow dag-processor`), or see its log.",
        )
    triggerer = health.triggerer is not None and health.triggerer.status == "healthy"
    kubernetes = ward.settings.kubernetes
    if not triggerer and kubernetes.pods == "operator" and kubernetes.defer is not False:
        asked = kubernetes.defer is True
        raise NotFit(
            "There is no healthy triggerer, and pods are waited for by it."
            if asked
            else "There is no healthy triggerer; pods would be waited for by it if Airflow has "
            "[operators] default_deferrable.",
            "Start it (`airflow triggerer`), or set AIRBERG_KUBERNETES__DEFER=false.",
            status="problem" if asked else "warning",
        )
    return f"{', '.join(parts)} are healthy; there is {'a' if triggerer else 'no'} triggerer"


def check_clock(ward: Ward) -> str:
    """The header `Date` of an answer, beside our clock."""
    known = ward.airflow.clock_s
    if known is None:
        raise NotFit("Airflow's answers have no Date.", "A proxy takes it out.", status="warning")
    ahead, exact = known
    off = max(0.0, abs(ahead) - exact)
    if off > CLOCK_WARNING_S:
        raise NotFit(
            f"Airflow's clock is {off:.0f} s {'ahead of' if ahead > 0 else 'behind'} that of this machine.",
            "Let all machines take their time from the same servers (NTP).",
            status="problem" if off > CLOCK_PROBLEM_S else "warning",
        )
    return f"clocks agree (to {exact:.1f} s)"


def check_pages(ward: Ward) -> str:
    """Where `flow_url` leads."""
    public = ward.settings.airflow_public_url
    if is_loopback(public) and not ward.settings.airflow.embedded:
        raise NotFit(
            f"flow_url begins with {public}, which others cannot open.",
            "Set AIRBERG_AIRFLOW__PUBLIC_URL to the address that people use.",
            status="warning",
        )
    try:
        answer = httpx.get(
            f"{public}/api/v2/version", timeout=HEALTH_TIMEOUT, trust_env=not is_loopback(public)
        )
        same = answer.status_code == 200 and answer.json().get("version") == ward.airflow_version
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        same = False
    if not same:
        raise NotFit(
            f"{public} is not the same Airflow, as far as can be seen from here.",
            "Open it in a browser; if that fails, correct AIRBERG_AIRFLOW__PUBLIC_URL.",
            status="warning",
        )
    return f"flow_url begins with {public}"


def check_login(ward: Ward) -> str:
    """The first call with a login."""
    try:
        ward.airflow.get("/dags", Flows, limit=1)
    except Unavailable as e:
        raise NotFit(e.message, e.guidance) from None
    return "Airflow lets Airberg in"


def check_rights(ward: Ward) -> str:
    """Calls about a flow that is not there: 404 is for those who may, 403 for those who may not."""
    body = {"is_paused": True}
    run = {"logical_date": None, "dag_run_id": "airberg__doctor"}
    refused = []
    for what, method, path, sent in (
        ("pause", "PATCH", f"/dags/{NO_FLOW}", body),
        ("start", "POST", f"/dags/{NO_FLOW}/dagRuns", run),
        ("cancel", "PATCH", f"/dags/{NO_FLOW}/dagRuns/airberg__doctor", {"state": "failed"}),
        ("delete", "DELETE", f"/dags/{NO_FLOW}", None),
    ):
        status = ward.airflow.ask(method, path, json=sent).status_code
        if status == 403:
            refused.append(what)
        elif status != 404:
            raise NotFit(
                f"Airflow answers {status} where {what} is tried with a flow that is not there.",
                "See the log of Airflow's API server.",
                status="warning",
            )
    if refused:
        raise NotFit(
            f"The user may not {', '.join(refused)} flows.",
            "Give it the role `user` of the simple auth manager, or `User` of FAB, or one with these rights.",
        )
    ward.airflow.get("/importErrors", ImportFailures, limit=1)
    return "the user may see, pause, start, cancel and delete flows"


def check_bundle(ward: Ward) -> str:
    """The sentinel is there, and in a file."""
    found = ward.airflow.flow(SENTINEL_ID)
    if found is None or found.is_stale:
        state = "is not there" if found is None else "is not in any file any more"
        raise NotFit(f"Airflow's flow {SENTINEL_ID} {state}. {_why(ward)}", _what_to_do(ward))
    ward.sentinel = found
    parsed = found.last_parsed_time
    when = "not parsed yet" if parsed is None else f"parsed at {parsed:%Y-%m-%dT%H:%M:%SZ}"
    return f"the bundle {found.bundle_name!r} is configured, {when}"


def _why(ward: Ward) -> str:
    if ward.seen is None:
        return "Whether it asks Airberg's API cannot be known without that."
    if ward.seen.pulls:
        return "It does ask Airberg's API for flows."
    if ward.seen.refused.count:
        last = ward.seen.refused
        return f"It asks with a wrong token: {last.count} times, the last time from {last.address}."
    return f"Nobody has asked Airberg's API for flows since it started ({ward.seen.since:%H:%M:%SZ})."


def _what_to_do(ward: Ward) -> str:
    if ward.seen is not None and ward.seen.pulls:
        return "See the log of the dag-processor."
    if ward.seen is not None and ward.seen.refused.count:
        return "Give AIRBERG_AIRFLOW__BUNDLE_TOKEN of the service to the dag-processor and the workers, too."
    return (
        "Install airberg-airflow where the dag-processor runs, name the bundle in [dag_processor] "
        "dag_bundle_config_list with a `url` that is reached from there, and see the dag-processor's log."
    )
