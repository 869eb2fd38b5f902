"""An address that does not know a method says which it does."""

from __future__ import annotations

from pathlib import Path

import httpx

from support.contract_service import running_contract_service


def test_allow_names_every_method_of_an_address(tmp_path: Path) -> None:
    """Whatever route of it comes first."""
    with (
        running_contract_service(tmp_path) as service,
        httpx.Client(base_url=service.url, trust_env=False) as api,
    ):
        for path, methods in [
            ("/api/jobs/8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d", {"GET", "PATCH", "DELETE"}),
            ("/api/keys", {"GET", "POST"}),
            ("/api/keys/pii/access", {"PUT"}),
            ("/openapi.json", {"GET", "HEAD"}),
        ]:
            answer = api.request("OPTIONS", path)
            assert answer.status_code == 405
            assert set(answer.headers["Allow"].split(", ")) == methods
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_who_may_not_call_is_not_told_what_is_wrong_with_a_body(tmp_path: Path) -> None:
    """Not even with one that is no JSON, which the framework reads before it looks at who calls."""
    headers = {"Content-Type": "application/json"}
    with running_contract_service(tmp_path) as service:
        with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as stranger:
            assert stranger.post("/api/keys", content=b"{").status_code == 401
        with service.client("ann", "ingest:read") as reader:
            refused = reader.post("/api/keys", content=b"{", headers=headers)
            assert refused.status_code == 403
            assert 'scope="keys:admin"' in refused.headers["WWW-Authenticate"]
        with service.client("ann", "keys:admin") as admin:
            wrong = admin.post("/api/keys", content=b"{", headers=headers)
            assert wrong.status_code == 422
            assert wrong.json()["errors"][0]["code"] == "bad-json"
