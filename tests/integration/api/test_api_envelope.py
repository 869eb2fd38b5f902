"""What every answer has: a request id, headers for browsers; no origin may read it unless it is allowed."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from airberg.logs.context import log_fields
from support.at_once import at_once
from support.conditions import eventually
from support.memory_service import MemoryService, running_memory_service

PLANTED = "planted-s3cret-4711"
ORIGIN = "https://portal.example.com"
STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'"


def with_failures(app: FastAPI) -> None:
    """Routes that fail, and one that tells what a thread sees."""

    @app.get("/fails")
    def fails() -> None:
        raise ValueError(PLANTED)

    @app.get("/fields")
    def fields() -> dict[str, str]:
        return log_fields()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryService]:
    """The service with defaults."""
    with running_memory_service(tmp_path_factory.mktemp("envelope"), change=with_failures) as running:
        yield running


@pytest.fixture(scope="module")
def behind_https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryService]:
    """The service behind a TLS proxy, with an origin that may call it."""
    home = tmp_path_factory.mktemp("https")
    public = {"public_url": "https://airberg.example.com"}
    with running_memory_service(home, api=public, limits={"cors_origins": (ORIGIN,)}) as running:
        yield running


ANSWERS = [
    ("GET", "/api/health/live", 200),
    ("GET", "/api/jobs", 200),
    ("GET", "/nowhere", 404),
    ("DELETE", "/api/health/live", 405),
    ("POST", "/api/airbyte/ingest", 413),
    ("GET", "/fails", 500),
    ("GET", "/openapi.json", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_has_id_and_headers(service: MemoryService, method: str, path: str, status: int) -> None:
    """Also the refusals of the layers around the routes."""
    content = b"[" + b"0" * 2_000_000 if status == 413 else None
    answer = service.api.request(method, path, content=content)
    assert answer.status_code == status
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Content-Security-Policy"] == STRICT_POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_an_unauthenticated_answer_has_them_too(service: MemoryService) -> None:
    """401 is no exception, and metadata that may be cached says so itself."""
    with service.client() as stranger:
        assert re.fullmatch(r"[0-9a-f]{32}", stranger.get("/api/jobs").headers["X-Request-Id"])
        metadata = stranger.get("/.well-known/oauth-protected-resource")
        assert metadata.headers["Cache-Control"] == "public, max-age=300"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-Id": "01HV-abc_d.e:f"}, "01HV-abc_d.e:f"),
        ({"X-Correlation-Id": "corr-7"}, "corr-7"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({"X-Request-Id": "a b"}, None),
        ({"X-Request-Id": "x" * 65}, None),
        ({"X-Request-Id": 'a"}{'}, None),
        ({"X-Request-Id": ""}, None),
        ({"traceparent": "00-short-ab-01"}, None),
    ],
)
def test_a_well_formed_id_is_kept(
    service: MemoryService, headers: dict[str, str], expected: str | None
) -> None:
    """Anything else is replaced: ids stand in log lines."""
    found = service.api.get("/fields", headers=headers)
    assert found.headers["X-Request-Id"] == found.json()["request_id"]
    if expected is None:
        assert re.fullmatch(r"[0-9a-f]{32}", found.json()["request_id"])
    else:
        assert found.json()["request_id"] == expected


def test_the_access_log_has_the_template_and_no_values(
    service: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    """A path may hold anything, and so may a query."""
    ours = ("/api/jobs/{job_id}", "")  # a line of an earlier test's service may come late

    def lines() -> list[logging.LogRecord]:
        found = [r for r in caplog.records if r.name == "airberg.access"]
        return [r for r in found if r.__dict__["route"] in ours]

    with caplog.at_level(logging.INFO, "airberg.access"):
        service.api.get(f"/api/jobs/{PLANTED}", params={"x": PLANTED})
        assert eventually(lambda: len(lines()) == 1)  # written after the answer
        service.api.get(f"/{PLANTED}")
        assert eventually(lambda: len(lines()) == 2)
    assert [(r.__dict__["route"], r.__dict__["status"]) for r in lines()] == [
        ("/api/jobs/{job_id}", 422),
        ("", 404),
    ]
    assert PLANTED not in caplog.text
    assert all(r.__dict__["ms"] > 0 for r in lines())


# ---- browsers --------------------------------------------------------------------------------------------


def test_no_origin_may_call_by_default(service: MemoryService) -> None:
    """Neither the question beforehand nor the answer allows anything."""
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    for answer in (
        service.api.options("/api/jobs", headers=asked),
        service.api.get("/api/jobs", headers={"Origin": ORIGIN}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_an_allowed_origin_may_call_and_others_may_not(behind_https: MemoryService) -> None:
    """Without cookies, and with the headers that the API knows. Refusals can be read as well."""
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, if-match",
    }
    allowed = behind_https.api.options("/api/jobs", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    refused = behind_https.api.options("/api/jobs", headers=asked | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in refused.headers
    with behind_https.client() as stranger:
        answer = stranger.get("/api/jobs", headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)


def test_https_is_for_good_where_users_have_it(behind_https: MemoryService) -> None:
    """Only then: else a development machine would lock itself out."""
    answer = behind_https.api.get("/api/jobs")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "origin", ["*", "portal.example.com", "https://a.example/", "null", "https://*.example.com"]
)
def test_settings_refuse_what_is_no_origin(tmp_path: Path, origin: str) -> None:
    """An address with a path would never match, and `*` would open the API to every page."""
    with (
        pytest.raises(ValueError, match="an origin is"),
        running_memory_service(tmp_path, limits={"cors_origins": (origin,)}),
    ):
        pass


def test_the_page_runs_its_own_scripts_alone(service: MemoryService) -> None:
    """The policy names each script of the page: the external one by address, the inline one by its hash."""
    page = service.api.get("/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    [external] = re.findall(r'<script src="([^"]+)"', page.text)
    [inline] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert policy["script-src"].split() == [external, f"'sha256-{digest}'"]
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    [style] = re.findall(r'rel="stylesheet" href="([^"]+)"', page.text)
    assert style in policy["style-src"].split()
    assert "url: '/openapi.json'" in page.text


def test_ids_of_requests_at_once_do_not_mix(service: MemoryService) -> None:
    """Each of many requests in flight sees its own."""

    def one(number: int) -> bool:
        with httpx.Client(base_url=service.url, trust_env=False) as client:
            found = client.get("/fields", headers={"X-Request-Id": f"r{number}"})
        return bool(found.json()["request_id"] == f"r{number}")

    assert at_once(*[partial(one, number) for number in range(20)]) == [True] * 20
