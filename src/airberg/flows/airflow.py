"""The orchestrator over Airflow's REST API (v2, Airflow 3).

Registration is a push: `PUT parseDagFile` of a sentinel's file makes the dag-processor refresh our bundle
within a second, and the flow's documentation carries the hash of the spec that Airflow really has. The
request can get lost (a file that is being parsed at that moment), so it is sent again until the hash is
there.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from airberg.errors import Unavailable
from airberg.flows.credentials import AirflowCredentials
from airberg.flows.login import AirflowLogin
from airberg.flows.model import SENTINEL_ID, Spec, flow_url, hash_in
from airberg.flows.port import FlowRunState, pool_refused
from airberg.jobs.model import RunRequest
from airberg.settings import Settings

POLL_S: Final = 0.2
RESEND_S: Final = 5.0
WITHDRAW_WITHIN_S: Final = 15.0
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
HEALTH_TIMEOUT: Final = httpx.Timeout(3.0)
PAGE: Final = 100
POOLS: Final = "/api/v2/pools"
_OPEN: Final = ("queued", "running")


class AirflowOrchestrator:
    """Talks to one Airflow.

    Args:
        settings: Addresses and the user's name.
        credentials: Password, or a static token.
    """

    def __init__(self, settings: Settings, credentials: AirflowCredentials) -> None:
        self._settings = settings
        self._http = httpx.Client(
            base_url=settings.airflow_url,
            auth=AirflowLogin(settings.airflow_url, settings.airflow.username, credentials),
            timeout=TIMEOUT,
            # A proxy is for the world outside; the embedded Airflow is on this machine.
            trust_env=not is_loopback(settings.airflow_url),
        )

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def flow_url(self, flow_id: str) -> str:
        """Page of the flow."""
        return flow_url(self._settings, flow_id)

    # ---- flows -------------------------------------------------------------------------------------------

    def publish(self, spec: Spec, wait_s: float, beside: str | None = None) -> bool:
        """Have the bundle refreshed until the flow is there with this spec's hash.

        The file that is asked for is the flow's own, where Airflow knows it by this flow or another one:
        while Airflow parses all files, one that has had its turn and changes again waits for all others.
        """
        wanted = spec.spec_hash()
        deadline = time.monotonic() + wait_s
        asked = float("-inf")
        while True:
            if self._registered_hash(spec.flow_id) == wanted:
                return True
            if time.monotonic() - asked >= RESEND_S and self._ask_to_parse(spec.flow_id, beside):
                asked = time.monotonic()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(POLL_S, left))

    def withdraw(self, flow_id: str) -> None:
        """Delete a flow: first its file must be without it, or the next parse would bring it back."""
        deadline = time.monotonic() + WITHDRAW_WITHIN_S
        if self._flow(flow_id) is None:
            return
        self._call("PATCH", _flow_path(flow_id), json={"is_paused": True}, expect=(200, 404))
        self._parse_and_wait(deadline)
        while True:
            self._cancel_open_runs(flow_id)
            answer = self._call("DELETE", _flow_path(flow_id), expect=(204, 404, 409))
            if answer.status_code != 409:
                return
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"Airflow keeps the flow {flow_id} because a task of it is still ending.",
                    code="flow-still-running",
                )
            time.sleep(POLL_S)

    def set_paused(self, flow_id: str, paused: bool) -> None:
        """Pause or resume."""
        answer = self._call("PATCH", _flow_path(flow_id), json={"is_paused": paused}, expect=(200, 404))
        _must_exist(answer, flow_id)

    def is_paused(self, flow_id: str) -> bool | None:
        """Whether it is paused."""
        flow = self._flow(flow_id)
        return None if flow is None else bool(flow["is_paused"])

    # ---- runs --------------------------------------------------------------------------------------------

    def trigger(self, flow_id: str, flow_run_id: str, asked: RunRequest | None = None) -> None:
        """Create the run; Airflow answers 409 when it knows the id, which is as good."""
        conf = {} if asked is None else msgspec.to_builtins(asked)
        body = {"logical_date": None, "dag_run_id": flow_run_id, "conf": conf}
        answer = self._call("POST", _flow_path(flow_id, "dagRuns"), json=body, expect=(200, 201, 404, 409))
        _must_exist(answer, flow_id)

    def cancel(self, flow_id: str, flow_run_id: str) -> None:
        """Set an open run to failed; Airflow then ends its tasks."""
        if self.run_state(flow_id, flow_run_id) in _OPEN:
            path = _flow_path(flow_id, "dagRuns", flow_run_id)
            self._call("PATCH", path, json={"state": "failed"}, expect=(200, 404))

    def run_state(self, flow_id: str, flow_run_id: str) -> FlowRunState | None:
        """State of a run."""
        answer = self._call("GET", _flow_path(flow_id, "dagRuns", flow_run_id), expect=(200, 404))
        if answer.status_code == 404:
            return None
        state: FlowRunState = answer.json()["state"]
        return state

    # ---- pools -------------------------------------------------------------------------------------------

    def pools(self) -> dict[str, int]:
        """All of them, page by page."""
        found: dict[str, int] = {}
        while True:
            page = {"limit": PAGE, "offset": len(found), "order_by": "id"}
            answer = self._call("GET", POOLS, params=page, expect=(200,)).json()
            found |= {pool["name"]: pool["slots"] for pool in answer["pools"]}
            if not answer["pools"] or len(found) >= answer["total_entries"]:
                return found

    def set_pool(self, name: str, slots: int) -> None:
        """Look first: any role may do that, and only a few may make one."""
        path = f"{POOLS}/{quote(name, safe='')}"
        there = self._call("GET", path, expect=(200, 404))
        if there.status_code == 404:
            body = {"name": name, "slots": slots, "description": "Made by Airberg."}
            answer = self._call("POST", POOLS, json=body, expect=(201, 403, 409))
            if answer.status_code == 409:  # somebody made it meanwhile
                self.set_pool(name, slots)
        elif (pool := there.json())["slots"] == slots:
            return
        else:  # Airflow wants its name and `include_deferred` too, whatever the mask says
            body = {"pool": name, "slots": slots, "include_deferred": pool["include_deferred"]}
            mask = {"update_mask": "slots"}
            answer = self._call("PATCH", path, json=body, params=mask, expect=(200, 403))
        if answer.status_code == 403:
            raise pool_refused(name, slots)

    def healthy(self) -> bool:
        """The database, the scheduler and the dag-processor say that they are."""
        try:
            answer = self._http.get("/api/v2/monitor/health", auth=None, timeout=HEALTH_TIMEOUT)
            parts = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return False
        return is_healthy(parts)

    # ---- inner -------------------------------------------------------------------------------------------

    def _flow(self, flow_id: str) -> dict[str, Any] | None:
        answer = self._call("GET", _flow_path(flow_id), expect=(200, 404))
        return answer.json() if answer.status_code == 200 else None

    def _registered_hash(self, flow_id: str) -> str | None:
        """Hash of the spec that Airflow has; None without a flow, or while it is not in any file."""
        answer = self._call("GET", _flow_path(flow_id, "details"), expect=(200, 404))
        if answer.status_code == 404:
            return None
        flow = answer.json()
        return None if flow["is_stale"] else hash_in(flow["doc_md"])

    def _ask_to_parse(self, *flow_ids: str | None) -> bool:
        """Ask for a refresh of the bundle, and for the file of the first of these flows that there is.

        Returns:
            False while Airflow has not even seen the sentinel, whose file stands for none in particular.
        """
        for flow_id in (*filter(None, flow_ids), SENTINEL_ID):
            flow = self._flow(flow_id)
            if flow is None or (flow["is_stale"] and flow_id != SENTINEL_ID):
                continue
            path = f"/api/v2/parseDagFile/{quote(flow['file_token'], safe='')}"
            # 409: somebody asked a moment ago and it has not been done yet, which is as good.
            if self._call("PUT", path, expect=(201, 404, 409)).status_code != 404:
                return True
        return False

    def _parse_and_wait(self, deadline: float) -> None:
        """Have the bundle refreshed, and wait until that has happened."""
        before = self._sentinel_parsed()
        asked = float("-inf")
        while self._sentinel_parsed() == before:
            if time.monotonic() >= deadline:
                raise Unavailable("Airflow does not parse its flows.", code="flows-not-parsed")
            if time.monotonic() - asked >= RESEND_S and self._ask_to_parse():
                asked = time.monotonic()
            time.sleep(POLL_S)

    def _sentinel_parsed(self) -> str | None:
        sentinel = self._flow(SENTINEL_ID)
        return None if sentinel is None else sentinel["last_parsed_time"]

    def _cancel_open_runs(self, flow_id: str) -> None:
        path = _flow_path(flow_id, "dagRuns")
        answer = self._call("GET", path, params={"state": list(_OPEN), "limit": 100}, expect=(200, 404))
        for run in answer.json().get("dag_runs", []):
            self.cancel(flow_id, run["dag_run_id"])

    def _call(
        self,
        method: str,
        path: str,
        *,
        expect: tuple[int, ...],
        json: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=json, params=params)
        except httpx.HTTPError as e:
            raise Unavailable(
                f"Airflow does not answer at {self._http.base_url} ({type(e).__name__}).",
                guidance="See whether it runs, and whether AIRBERG_AIRFLOW__URL is its address.",
                code="orchestrator-away",
            ) from None
        if answer.status_code not in expect:
            raise Unavailable(
                f"Airflow answered {answer.status_code} to {method} {urlsplit(str(answer.url)).path}.",
                guidance="Airflow's own log has the reason.",
                code="orchestrator-refused",
            )
        return answer


def is_healthy(parts: dict[str, Any]) -> bool:
    """What the body of `/api/v2/monitor/health` says about all that registration and runs need."""
    needed = ("metadatabase", "scheduler", "dag_processor")
    return all((parts.get(name) or {}).get("status") == "healthy" for name in needed)


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _flow_path(*parts: str) -> str:
    return "/api/v2/dags/" + "/".join(quote(part, safe="") for part in parts)


def _must_exist(answer: httpx.Response, flow_id: str) -> None:
    if answer.status_code == 404:
        raise Unavailable(f"The flow {flow_id} is not registered yet.", code="flow-not-visible")
