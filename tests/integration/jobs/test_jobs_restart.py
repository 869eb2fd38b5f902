"""PostgreSQL restarts in the middle of a thousand requests: nothing is lost, and callers are told to wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from airberg.api.app import create_app
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.settings import ApiSettings, Settings
from support.api_service import BODY, running_service
from support.postgresql import NoServer, Server, running_server
from support.served import served

REQUESTS = 1_000
CLIENTS = 8


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own: others must not feel its restart."""
    try:
        with running_server() as server:
            yield server
    except NoServer as e:
        pytest.skip(str(e))


def ask(api: httpx.Client, number: int) -> tuple[str, httpx.Response]:
    """One request in four reads; the others make jobs, each under a key of its own."""
    if number % 4 == 0:
        return "read", api.get("/api/jobs", params={"limit": 5})
    body: dict[str, Any] = BODY | {"name": f"job {number}"}
    return "made", api.post(
        "/api/airbyte/ingest",
        params={"preflight": "skip"},
        headers={"Idempotency-Key": f"key {number}"},
        json=body,
    )


def test_a_restart_in_the_middle(server: Server, tmp_path: Path) -> None:
    """Every answer is a good one or 503 with Retry-After; what was refused succeeds when it is sent again."""
    settings = Settings(home=tmp_path / "sql", store_url=server.url, api=ApiSettings(reconcile_every_s=0.2))
    ensure_master_key(settings)
    upgrade(settings.database_url)
    store = open_store(settings)
    answers: Counter[tuple[str, int]] = Counter()
    refused: list[int] = []
    quarter, felt = threading.Event(), threading.Event()
    done = 0
    lock = threading.Lock()
    with (
        running_service(tmp_path / "twins") as twins,
        served(create_app(replace(twins.parts, store=store))) as url,
        httpx.Client(base_url=url, headers=twins.api.headers, trust_env=False, timeout=60) as api,
    ):

        def one(number: int) -> None:
            nonlocal done
            kind, answer = ask(api, number)
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["error"]
            with lock:
                answers[kind, answer.status_code] += 1
                if answer.status_code == 503:
                    refused.append(number)
                    felt.set()
                done += 1
                if done == REQUESTS // 4:
                    quarter.set()

        def restart() -> None:
            assert quarter.wait(60)
            server.stop()
            assert felt.wait(60)
            server.start()

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            restarting = pool.submit(restart)
            list(pool.map(one, range(REQUESTS)))
            restarting.result(60)
        assert set(answers) <= {("read", 200), ("made", 201), ("read", 503), ("made", 503)}, answers
        for number in refused:
            _, answer = ask(api, number)
            assert answer.status_code in (200, 201), answer.text
        names = [job.request.name for job in store.jobs()]
    assert sorted(names) == sorted(f"job {n}" for n in range(REQUESTS) if n % 4)
    store.close()
