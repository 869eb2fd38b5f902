"""Airflow's REST API as the doctor asks it: answers are checked before they are believed."""

from __future__ import annotations

import email.utils
import time
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from airberg.errors import Unavailable
from airberg.flows.airflow import TIMEOUT, is_loopback
from airberg.flows.credentials import AirflowCredentials
from airberg.flows.doctor.model import NotFit
from airberg.flows.login import AirflowLogin
from airberg.settings import Settings

T = TypeVar("T")
PAGE = 100
"""Airflow gives no more at once (`[api] maximum_page_limit`)."""


class Version(msgspec.Struct):
    """Of `GET /version`."""

    version: str


class Part(msgspec.Struct):
    """A component in `GET /monitor/health`."""

    status: str | None = None


class Health(msgspec.Struct):
    """Of `GET /monitor/health`; what does not run at all is None."""

    metadatabase: Part
    scheduler: Part
    dag_processor: Part | None = None
    triggerer: Part | None = None


class Tag(msgspec.Struct):
    """A tag of a flow."""

    name: str


class Flow(msgspec.Struct):
    """A flow in `GET /dags`; `doc_md` is in that of its details only."""

    dag_id: str
    is_paused: bool
    is_stale: bool
    file_token: str
    tags: list[Tag] = []
    bundle_name: str | None = None
    last_parsed_time: datetime | None = None
    timetable_summary: str | None = None
    next_dagrun_run_after: datetime | None = None
    doc_md: str | None = None


class Flows(msgspec.Struct):
    """A page of `GET /dags`."""

    dags: list[Flow]
    total_entries: int


class ImportFailure(msgspec.Struct):
    """A file that Airflow could not load."""

    filename: str
    stack_trace: str
    bundle_name: str | None = None


class ImportFailures(msgspec.Struct):
    """Of `GET /importErrors`."""

    import_errors: list[ImportFailure]


class FlowRun(msgspec.Struct):
    """State of a run."""

    state: str


class XCom(msgspec.Struct):
    """What a task has returned."""

    value: Any = None


class AirflowApi:
    """Asks one Airflow. Its errors are findings.

    Attributes:
        url: Its address.
        clock_s: How far its clock was ahead at the last answer, and how exactly that is known; None where
            it did not say.
    """

    def __init__(self, settings: Settings, credentials: AirflowCredentials) -> None:
        self.url = settings.airflow_url
        self.clock_s: tuple[float, float] | None = None
        self._http = httpx.Client(
            base_url=self.url,
            auth=AirflowLogin(self.url, settings.airflow.username, credentials),
            timeout=TIMEOUT,
            trust_env=not is_loopback(self.url),
        )

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def ask(self, method: str, path: str, *, login: bool = True, **arguments: Any) -> httpx.Response:  # noqa: ANN401
        """An answer of whatever status.

        Raises:
            NotFit: There was none.
            Unavailable: Airflow does not let us in.
        """
        if not login:
            arguments["auth"] = None
        before, clock = time.monotonic(), datetime.now(UTC)
        try:
            answer = self._http.request(method, f"/api/v2{path}", **arguments)
        except httpx.HTTPError as e:
            raise NotFit(
                f"{self.url} does not answer ({type(e).__name__}).",
                "See whether Airflow's API server runs, and whether AIRBERG_AIRFLOW__URL is its address.",
            ) from None
        self.clock_s = clock_ahead(answer.headers.get("date"), clock, time.monotonic() - before)
        return answer

    def get(self, path: str, form: type[T], *, login: bool = True, **params: Any) -> T:  # noqa: ANN401
        """What a `GET` answers.

        Raises:
            NotFit: It answered something else.
            Unavailable: Airflow does not let us in.
        """
        found = self.find(path, form, login=login, **params)
        if found is None:
            raise NotFit(
                f"{self.url} answers 404 to GET /api/v2{path}.",
                "See whether AIRBERG_AIRFLOW__URL is the address of an Airflow 3.",
            )
        return found

    def find(self, path: str, form: type[T], *, login: bool = True, **params: Any) -> T | None:  # noqa: ANN401
        """What a `GET` answers; None when it says that there is no such thing."""
        answer = self.ask("GET", path, login=login, params=params)
        if answer.status_code == 404:
            return None
        if answer.status_code == 403:
            raise NotFit(f"Airflow refuses GET /api/v2{path} (403).", "Give the user a role that may.")
        if answer.status_code != 200:
            raise NotFit(f"Airflow answers {answer.status_code} to GET /api/v2{path}.", "See Airflow's log.")
        try:
            return msgspec.json.decode(answer.content, type=form)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotFit(
                f"What {self.url} answers to GET /api/v2{path} is not what Airflow answers.",
                "See whether AIRBERG_AIRFLOW__URL is the address of an Airflow 3.",
            ) from None

    def flow(self, flow_id: str) -> Flow | None:
        """A flow, if it is there."""
        return self.find(f"/dags/{quote(flow_id, safe='')}", Flow)

    def flow_with_text(self, flow_id: str) -> Flow | None:
        """A flow with its documentation, if it is there."""
        return self.find(f"/dags/{quote(flow_id, safe='')}/details", Flow)

    def flows(self, tag: str, most: int) -> tuple[list[Flow], int]:
        """Flows with a tag, stale ones too, and how many there are; not more than `most`."""
        found: list[Flow] = []
        while True:
            page = self.get("/dags", Flows, tags=tag, limit=PAGE, offset=len(found), exclude_stale=False)
            found += page.dags
            if not page.dags or len(found) >= min(page.total_entries, most):
                return found, page.total_entries

    def parse(self, flow: Flow) -> None:
        """Ask for a file to be parsed again, and with it for its bundle to be refreshed.

        Raises:
            NotFit: Airflow does not do it.
        """
        status = self.ask("PUT", f"/parseDagFile/{quote(flow.file_token, safe='')}").status_code
        if status not in (201, 409):  # 409: somebody has asked a moment ago
            raise NotFit(
                f"Airflow answers {status} when a file is to be parsed again.",
                "Give the user a role that may change flows."
                if status == 403
                else "Its API server and its dag-processor need the same [api] secret_key.",
            )


def clock_ahead(date: str | None, asked_at: datetime, took_s: float) -> tuple[float, float] | None:
    """Seconds that the sender of a `Date` header is ahead of us, and how exactly that can be known.

    Args:
        date: The header's text.
        asked_at: When we asked.
        took_s: How long the answer took.
    """
    try:
        said = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return None
    if said.tzinfo is None:
        return None
    # The header has no fractions of a second, and was written somewhere between question and answer.
    return (said - asked_at).total_seconds() + 0.5 - took_s / 2, 0.5 + took_s / 2


def login_problem(error: Unavailable) -> NotFit:
    """A refused login as a finding."""
    return NotFit(error.message, error.guidance)
