"""Rates over real HTTP: per caller, and per address for credentials that do not hold."""

from __future__ import annotations

from pathlib import Path

from support.memory_service import MemoryService, running_memory_service


def test_each_caller_and_kind_has_an_allowance(tmp_path: Path) -> None:
    """The answer says what is left; 429 says when to come again; others go on, and so do health checks."""
    limits = {"reads_per_minute": 2, "writes_per_minute": 1, "source_questions_per_minute": 1}
    with running_memory_service(tmp_path, limits=limits) as service:
        first = service.api.get("/api/jobs")
        assert first.headers["RateLimit-Policy"] == '"reads";q=2;w=60'
        assert first.headers["RateLimit"] == '"reads";r=1;t=30'
        assert service.api.get("/api/jobs").headers["RateLimit"] == '"reads";r=0;t=60'
        refused = service.api.get("/api/jobs")
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/rate-limited")
        assert 0 < int(refused.headers["Retry-After"]) <= 30
        assert service.api.post("/api/airbyte/check", json={}).status_code == 422
        assert service.api.post("/api/airbyte/check", json={}).status_code == 429
        assert service.api.post("/api/jobs/x/trigger").status_code == 422
        assert service.api.post("/api/jobs/x/trigger").status_code == 429
        assert service.api.get("/api/health/live").status_code == 200
        with service.client(service.token("ingest:read", who="bob")) as bob:
            assert bob.get("/api/jobs").status_code == 200


def test_wrong_credentials_close_the_address(tmp_path: Path) -> None:
    """Tokens that do not hold, malformed ones and wrong machine tokens count; none at all does not."""
    with running_memory_service(tmp_path, limits={"failed_logins_per_minute": 3}) as service:
        with service.client() as stranger:
            assert [stranger.get("/api/jobs").status_code for _ in range(9)] == [401] * 9
        assert _status(service, "/api/jobs", "wrong") == 401
        assert _status(service, "/api/jobs", "not a token") == 400
        assert _status(service, "/internal/airflow/flows", "wrong") == 401
        assert _status(service, "/api/jobs", "wrong") == 429
        refused = service.api.get("/api/jobs")  # with a token that would hold
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/rate-limited")
        with service.client() as stranger:
            assert stranger.get("/api/jobs").status_code == 401


def test_wrong_service_keys_close_the_address(tmp_path: Path) -> None:
    """Whatever is wrong with them; a good one is not counted, and does not get in afterwards either."""
    with running_memory_service(tmp_path, limits={"failed_logins_per_minute": 3}) as service:
        made = service.api.post("/api/service-keys", json={"name": "n", "scopes": ["ingest:read"]}).json()
        good = made["key"]
        wrong = ["x", good[:-1] + "~", f"abk_{'0' * 32}_{'A' * 43}"]
        assert [_with_key(service, key) for key in (good, *wrong[:2], good)] == [200, 401, 401, 200]
        assert [_with_key(service, key) for key in (wrong[2], wrong[2], good)] == [401, 429, 429]


def _with_key(service: MemoryService, key: str) -> int:
    with service.client() as client:
        return client.get("/api/jobs", headers={"Authorization-PSK": key}).status_code


def test_addresses_are_told_by_trusted_proxies_alone(tmp_path: Path) -> None:
    """A client that writes the header itself gets no new allowance by it."""
    few = {"failed_logins_per_minute": 1}
    with running_memory_service(tmp_path / "a", limits=few) as service:
        assert _status(service, "/api/jobs", "wrong", "192.0.2.1") == 401
        assert _status(service, "/api/jobs", "wrong", "192.0.2.2") == 429
    with running_memory_service(
        tmp_path / "b", limits=few | {"trusted_proxies": ("127.0.0.0/8",)}
    ) as service:
        assert _status(service, "/api/jobs", "wrong", "192.0.2.1") == 401
        assert _status(service, "/api/jobs", "wrong", "192.0.2.2") == 401
        assert _status(service, "/api/jobs", "wrong", "192.0.2.1") == 429


def _status(service: MemoryService, path: str, token: str, forwarded: str | None = None) -> int:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with service.client(token) as client:
        return client.get(path, headers=headers).status_code
