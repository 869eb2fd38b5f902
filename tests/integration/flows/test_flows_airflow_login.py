"""The client of Airflow's API against a stand-in that misbehaves as wished."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airberg.errors import Unavailable
from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.credentials import AirflowCredentials
from airberg.settings import AirflowSettings, Settings

PASSWORD = "pass-word-of-the-service"


class FakeAirflow:
    """Answers as Airflow's REST API does.

    Attributes:
        valid: Tokens that are let in; each login adds one.
        forced: Status that every call except the login gets.
    """

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.logins = 0
        self.forced: int | None = None
        self.calls: list[str] = []
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/auth/token":
                    if sent != {"username": "airberg", "password": PASSWORD}:
                        self.answer(401, {"detail": f"no {sent}"})
                        return
                    with fake.lock:
                        fake.logins += 1
                        token = f"token-{fake.logins}"
                        fake.valid.add(token)
                    self.answer(201, {"access_token": token})
                    return
                self.do_GET()

            def do_GET(self) -> None:
                fake.calls.append(f"{self.command} {self.path}")
                if (self.headers.get("Authorization") or "").removeprefix("Bearer ") not in fake.valid:
                    self.answer(401, {"detail": "Invalid token"})
                elif fake.forced is not None:
                    self.answer(fake.forced, {"detail": "forced"})
                else:
                    self.answer(200, {"state": "running", "is_paused": False})

            def log_message(self, *_arguments: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def client(self, tmp_path: Path, **credentials: Any) -> AirflowOrchestrator:
        """A client that talks to it."""
        settings = Settings(home=tmp_path, airflow=AirflowSettings(port=self.server.server_port))
        return AirflowOrchestrator(
            settings, msgspec.structs.replace(AirflowCredentials(password=PASSWORD), **credentials)
        )


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    """A stand-in."""
    fake = FakeAirflow()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def test_one_login_serves_many_calls_and_threads(airflow: FakeAirflow, tmp_path: Path) -> None:
    """However many threads call at once, one logs in."""
    client = airflow.client(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda n: client.run_state("airberg_x", f"run-{n}"), range(24)))
    client.close()
    assert states == ["running"] * 24
    assert airflow.logins == 1


def test_a_token_that_has_run_out_is_replaced(airflow: FakeAirflow, tmp_path: Path) -> None:
    """A 401 leads to one new login, and the call is answered."""
    client = airflow.client(tmp_path)
    assert client.is_paused("airberg_x") is False
    airflow.valid.clear()
    assert client.is_paused("airberg_x") is False
    client.close()
    assert airflow.logins == 2


def test_a_wrong_password_is_said_without_showing_it(airflow: FakeAirflow, tmp_path: Path) -> None:
    """A refused login names the setting to check, and neither password nor answer."""
    client = airflow.client(tmp_path, password="wrong-password")
    with pytest.raises(Unavailable) as caught:
        client.is_paused("airberg_x")
    client.close()
    assert caught.value.code == "orchestrator-login-refused"
    assert "AIRBERG_AIRFLOW__PASSWORD" in caught.value.sentence()
    assert "wrong-password" not in caught.value.sentence()


def test_a_static_token_is_used_as_it_is(airflow: FakeAirflow, tmp_path: Path) -> None:
    """With a token nobody logs in; a refused one names its setting."""
    airflow.valid.add("static")
    good, bad = airflow.client(tmp_path, token="static"), airflow.client(tmp_path, token="spent-token")
    assert good.is_paused("airberg_x") is False
    with pytest.raises(Unavailable) as caught:
        bad.is_paused("airberg_x")
    good.close()
    bad.close()
    assert "AIRBERG_AIRFLOW__TOKEN" in caught.value.sentence()
    assert "spent-token" not in caught.value.sentence()
    assert airflow.logins == 0


@pytest.mark.parametrize("status", [302, 403, 422, 500, 503])
def test_an_unexpected_answer_is_unavailable(airflow: FakeAirflow, tmp_path: Path, status: int) -> None:
    """Any answer that is not foreseen says so with its status, so that the caller tries again."""
    client = airflow.client(tmp_path)
    airflow.forced = status
    for call in (client.is_paused, client.withdraw):
        with pytest.raises(Unavailable) as caught:
            call("airberg_x")
        assert caught.value.code == "orchestrator-refused"
        assert str(status) in caught.value.message
    client.close()


def test_ids_cannot_leave_their_place_in_the_path(airflow: FakeAirflow, tmp_path: Path) -> None:
    """A run id with slashes and dots stays one segment of the path."""
    client = airflow.client(tmp_path)
    client.run_state("airberg_x", "../../admin?x=1#y")
    client.close()
    assert airflow.calls[-1] == "GET /api/v2/dags/airberg_x/dagRuns/..%2F..%2Fadmin%3Fx%3D1%23y"
