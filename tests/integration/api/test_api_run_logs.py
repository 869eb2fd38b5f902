"""Logs of runs over real HTTP: pages, text, and live."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from airberg.api import run_logs as module
from airberg.api.app import AppParts, create_app
from airberg.errors import Unavailable
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DEFAULT_ISSUER, DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import ReportedState, Run, RunReport, RunStatus, StreamReport
from airberg.jobs.run_logs import LogLine, MemoryRunLogs, StoredLine
from airberg.plan.child import ChildPlanner
from airberg.settings import ApiSettings, Settings
from support.conditions import eventually
from support.jobs import NOON, a_job, a_request, at
from support.served import served

PAGES = "/api/runs/{}/logs"
LIVE = {"Accept": "text/event-stream"}


FOLLOWERS = 45
"""More than there are threads for requests (40, see `anyio.to_thread`)."""


class Logs(MemoryRunLogs):
    """A store that may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused = threading.Semaphore(0)

    def read(self, *args: Any, **choice: Any) -> Sequence[StoredLine]:
        """Refuse, or read."""
        if self.away:
            self.refused.release()
            raise Unavailable("away")
        return super().read(*args, **choice)


@dataclass
class Service:
    """The application, a run of ann's, and clients."""

    store: MemoryJobStore
    logs: Logs
    settings: Settings
    url: str
    run: Run

    def client(self, who: str = "ann", *roles: str) -> httpx.Client:
        """A client of somebody."""
        token = DevelopmentIssuer(self.settings).mint(who, ["ingest:read"], roles=list(roles))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def log(self, *messages: str, level: int = logging.INFO, attempt: int = 1) -> None:
        """Add lines to the log."""
        lines = [
            LogLine(at=NOON, level=level, logger="airberg.sync.run", message=m, attempt=attempt)
            for m in messages
        ]
        self.store.run_logs.append(self.run.id, lines)

    def get(self, **query: Any) -> httpx.Response:
        """A page for ann."""
        with self.client() as api:
            return api.get(PAGES.format(self.run.id), params=query)

    def end(self, status: RunStatus = RunStatus.COMPLETED) -> None:
        """The run ends."""
        self.store.end_run(self.run.id, status, at(5))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A run that is at work; the store is asked often for its log."""
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.02)
    # Lines of these tests are old: the reconciler, which removes old ones, must not come by.
    api = ApiSettings(max_log_followers=FOLLOWERS, reconcile_every_s=3_600.0)
    settings = Settings(home=tmp_path, api=api)
    store, logs = MemoryJobStore(), Logs()
    store.run_logs = logs
    job = store.add_job(
        a_job(created_by=f"{DEFAULT_ISSUER}|ann", request=a_request(share_with=("team",))), {}
    )
    run = store.start_run(job.id, "run-1", 1, NOON)
    parts = AppParts(
        settings=settings,
        store=store,
        planner=ChildPlanner(settings),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({}),
        verifier=build_verifier(settings),
        machine_token="machine-token-of-the-test",
    )
    with served(create_app(parts)) as url:
        yield Service(store, logs, settings, url, run)


class Events:
    """Server-sent events as they come (HTML, section 9.2)."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[dict[str, str]]:
        event: dict[str, str] = {}
        for line in self._lines:
            if not line:
                yield event
                event = {}
                continue
            name, _, value = line.partition(": ")
            event[name] = f"{event[name]}\n{value}" if name in event else value

    def next(self) -> dict[str, str]:
        """The next one."""
        return next(iter(self))

    def messages(self) -> list[str]:
        """The messages of all lines until the stream ends."""
        return [json.loads(e["data"])["message"] for e in self if "id" in e]


@contextlib.contextmanager
def followed(api: httpx.Client, run_id: UUID, query: str = "", **headers: str) -> Iterator[Events]:
    """Follow the log of a run."""
    with api.stream("GET", PAGES.format(run_id) + query, headers=LIVE | headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        yield Events(response)


# ---- pages -----------------------------------------------------------------------------------------------


def test_pages(service: Service) -> None:
    """Each line with what belongs to it; the header Link leads on until there is no more."""
    service.log(*map(str, range(1, 6)))
    first = service.get(limit=2, level="INFO")
    assert first.status_code == 200
    assert first.json()[0] == {
        "seq": 1,
        "at": "2026-03-29T12:00:00.123456Z",
        "level": "INFO",
        "logger": "airberg.sync.run",
        "message": "1",
        "attempt": 1,
    }
    seen = [line["message"] for line in first.json()]
    answer = first
    with service.client() as api:
        while "next" in answer.links:
            answer = api.get(answer.links["next"]["url"])
            seen += [line["message"] for line in answer.json()]
    assert seen == ["1", "2", "3", "4", "5"]
    assert first.headers["cache-control"] == "no-store"


def test_parts(service: Service) -> None:
    """From the end, in between, by level."""
    service.log("a", "b", "c")
    service.log("bad", level=logging.ERROR, attempt=2)
    service.log("d", level=logging.DEBUG)

    def messages(**query: Any) -> list[str]:
        return [line["message"] for line in service.get(**query).json()]

    assert messages(tail=2) == ["bad", "d"]
    assert messages(tail=0) == []
    assert messages(tail=1, level="ERROR") == ["bad"]
    assert messages(after=1, before=4) == ["b", "c"]
    assert messages(level="INFO") == ["a", "b", "c", "bad"]
    assert "next" not in service.get(tail=2).links


def test_text(service: Service) -> None:
    """For people, as the task's log has it."""
    service.log("two\nlines", level=logging.WARNING)
    with service.client() as api:
        answer = api.get(PAGES.format(service.run.id), headers={"Accept": "text/plain"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "2026-03-29T12:00:00.123Z WARNING airberg.sync.run: two\nlines\n"


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 5001}, {"after": -1}, {"after": 2**63}, {"level": "LOUD"}, {"tail": -1}]
)
def test_wrong_queries(service: Service, query: dict[str, Any]) -> None:
    """Each is told."""
    answer = service.get(**query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["error"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_who_may_read(service: Service, accept: str) -> None:
    """Those who see the job. To others there is no such run, in the very words of a run that nobody has."""
    service.end()
    headers = {"Accept": accept}
    with service.client("bob", "team") as friend, service.client("eve") as stranger:
        assert friend.get(PAGES.format(service.run.id), headers=headers).status_code == 200
        refused = stranger.get(PAGES.format(service.run.id), headers=headers)
        unknown = uuid4()
        nothing = stranger.get(PAGES.format(unknown), headers=headers)
        hidden = stranger.get(f"/api/runs/{service.run.id}")
    assert (refused.status_code, nothing.status_code, hidden.status_code) == (404, 404, 404)
    assert refused.text.replace(str(service.run.id), "") == nothing.text.replace(str(unknown), "")
    assert hidden.text == refused.text
    assert str(service.run.job_id) not in refused.text


def test_runs_in_pages(service: Service) -> None:
    """Newest first, by status; states are in the answer for one run only."""
    state = ReportedState(text='{"n":1}', bytes=7, sha256="x")
    stream = StreamReport(stream="users", table="users", state_after=state, state_changed=True)
    made = [service.store.start_run(service.run.job_id, f"more-{n}", 1, at(n + 1)) for n in range(4)]
    for run in made:
        report = RunReport(streams=(stream,))
        service.store.end_run(run.id, RunStatus.FAILED, at(9), report=report, error="Oh.", error_code="x")
    seen, where = [], f"/api/jobs/{service.run.job_id}/runs?status=failed&limit=3"
    with service.client() as api:
        while where:
            answer = api.get(where)
            seen += answer.json()
            where = answer.links.get("next", {}).get("url", "")
        one = api.get(f"/api/runs/{made[0].id}").json()
        assert api.get(f"/api/jobs/{service.run.job_id}/runs?cursor=x").status_code == 422
        assert api.get(f"/api/jobs/{service.run.job_id}/runs?status=odd").status_code == 422
    assert [run["id"] for run in seen] == [str(run.id) for run in reversed(made)]
    assert {run["streams"][0]["state_after"] for run in seen} == {None}
    assert one["streams"][0]["state_after"]["value"] == {"n": 1}
    assert one["streams"][0]["state_diff"]["added"] == [{"pointer": "/n", "value": 1}]
    assert (one["error_page"], one["guidance"]) == ("docs/reference/errors.md#codes-of-a-run", None)


# ---- live ------------------------------------------------------------------------------------------------


def test_live(service: Service) -> None:
    """What is there, then each line as it comes, then the end."""
    service.log("one")
    with service.client() as api, followed(api, service.run.id) as events:
        assert events.next() == {"retry": "3000"}
        first = events.next()
        assert (first["id"], json.loads(first["data"])["message"]) == ("1", "one")
        service.log("two\nlines")
        second = events.next()
        assert (second["id"], json.loads(second["data"])["message"]) == ("2", "two\nlines")
        service.log("last")
        service.end(RunStatus.FAILED)
        assert json.loads(events.next()["data"])["message"] == "last"
        assert events.next() == {"event": "end", "data": '{"status":"failed","error_code":null}'}
        assert list(events) == []


def test_live_in_parts(service: Service) -> None:
    """From the end, behind a line, by level; the header of a client that comes back goes before."""
    service.log("a", "b", "c")
    service.log("bad", level=logging.ERROR)
    service.end()
    with service.client() as api:
        for query, wanted in [
            ("?tail=2", ["c", "bad"]),
            ("?tail=0", []),
            ("?after=1", ["b", "c", "bad"]),
            ("?level=ERROR", ["bad"]),
            ("?level=ERROR&tail=0", []),
        ]:
            with followed(api, service.run.id, query) as events:
                assert events.messages() == wanted, query
        with followed(api, service.run.id, "?after=1", **{"Last-Event-ID": "3"}) as events:
            assert events.messages() == ["bad"]
        done = api.get(PAGES.format(service.run.id), headers=LIVE | {"Last-Event-ID": "4"})
        assert (done.status_code, done.content) == (204, b"")
        wrong = api.get(PAGES.format(service.run.id), headers=LIVE | {"Last-Event-ID": "x"})
        assert wrong.status_code == 422


def test_long_logs_come_in_pieces(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting in between, and without a gap."""
    monkeypatch.setattr(module, "LINES_AT_ONCE", 7)
    wanted = [str(n) for n in range(100)]
    service.log(*wanted)
    service.end()
    with service.client() as api, followed(api, service.run.id) as events:
        assert events.messages() == wanted


def test_followers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be more than there are threads. One more is refused, until one has gone without a good-bye."""
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.5)
    with service.client() as api:
        with contextlib.ExitStack() as followers:
            streams = [followers.enter_context(followed(api, service.run.id)) for _ in range(FOLLOWERS)]
            assert [events.next() for events in streams] == [{"retry": "3000"}] * FOLLOWERS
            refused = api.get(PAGES.format(service.run.id), headers=LIVE)
            assert refused.status_code == 429
            assert refused.json()["type"] == "/problems/too-many-requests"
            assert refused.headers["retry-after"]
            assert service.get().status_code == 200

        def again() -> bool:
            with api.stream("GET", PAGES.format(service.run.id), headers=LIVE) as response:
                return response.status_code == 200

        assert eventually(again, 20, 0.02)


def test_silence(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments keep the connection open."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    with service.client() as api, followed(api, service.run.id) as events:
        assert events.next() == {"retry": "3000"}
        assert events.next() == {"": "ping"}
        service.log("there")
        said = next(event for event in events if event != {"": "ping"})
        assert json.loads(said["data"])["message"] == "there"


def test_connections_end_in_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the event `end`: the client comes back, with a token that holds."""
    monkeypatch.setattr(module, "FOLLOW_S", 0.1)
    service.log("one")
    with service.client() as api, followed(api, service.run.id) as events:
        kinds = [sorted(event) for event in events]
    assert kinds == [["retry"], ["data", "id"]]


def test_who_may_not_see_it_any_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower whose group lost the job is let go."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    with service.client("bob", "team") as api, followed(api, service.run.id) as events:
        assert events.next() == {"retry": "3000"}
        job = service.store.job(service.run.job_id)
        service.store._jobs[job.id] = replace(job, request=a_request(share_with=()))
        assert {*map(str, events)} <= {str({"": "ping"})}
        assert api.get(PAGES.format(service.run.id), headers=LIVE).status_code == 404


def test_a_store_that_is_away(service: Service) -> None:
    """The connection outlives it."""
    with service.client() as api, followed(api, service.run.id) as events:
        assert events.next() == {"retry": "3000"}
        service.logs.away = True
        for _ in range(2):
            assert service.logs.refused.acquire(timeout=20)
        service.logs.away = False
        service.log("there again")
        assert json.loads(events.next()["data"])["message"] == "there again"
