"""A thousand requests made of the OpenAPI document: nothing breaks, and nothing but the document is answered.

`make chaos` plays the long form, `tests/chaos/test_chaos_api.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.api_cases import Played, play
from support.contract_ground import Ground
from support.contract_service import ContractService, running_contract_service

SEED = 7
ALL_SCOPES = ("ingest:read", "ingest:write", "keys:admin")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[ContractService]:
    """The service on a job store in SQLite; the other parts are in memory."""
    home = tmp_path_factory.mktemp("any-request")
    database = shutil.copy(migrated_sqlite, home / "jobs.db")
    with running_contract_service(home, database) as service:
        yield service


def assert_kept(played: Played) -> None:
    """The service did what the document says."""
    assert not played.faults, "\n".join(f"{what}\n    {how}" for what, how in played.faults.items())


def test_a_thousand_requests(service: ContractService) -> None:
    """Of somebody who may do everything: examples, limits of each field, random ones, walks over links."""
    headers = {"Authorization": f"Bearer {service.token('ann', *ALL_SCOPES, roles=('ingest-admin',))}"}
    phases = ("examples", "coverage", "fuzzing", "stateful")
    played = play(service.url, headers, seed=SEED, examples=3, phases=phases)
    assert_kept(played)
    assert played.total >= 1000
    assert set(played.cases) >= set(phases)
    statuses = played.by_status()
    assert {200, 201, 202, 404, 422} <= set(statuses), statuses


def test_requests_of_an_insider(service: ContractService) -> None:
    """Who knows ids of jobs and runs, and what bodies may be: most of it is carried out."""
    with Ground(service) as ground:
        token = service.token("ann", *ALL_SCOPES, roles=("sales",))
        phases = ("fuzzing", "stateful")
        headers = {"Authorization": f"Bearer {token}"}
        played = play(service.url, headers, seed=SEED, examples=5, phases=phases, insider=ground)
    assert_kept(played)
    statuses = played.by_status()
    del statuses[401]  # the same requests without a token
    carried_out = sum(count for status, count in statuses.items() if status < 300)
    assert carried_out > sum(statuses.values()) / 2, statuses


def test_requests_without_a_token(service: ContractService) -> None:
    """Get nothing but challenges, where a token is needed."""
    played = play(service.url, {}, seed=SEED, examples=2, phases=("examples", "fuzzing"))
    assert_kept(played)
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    secured = {
        f"{m.upper()} {p}" for p, item in document["paths"].items() for m, o in item.items() if o["security"]
    }
    assert len(secured) > 20
    got = {(operation, status) for operation, status in played.statuses if operation in secured}
    assert {status for _, status in got} == {400, 401}, got  # 400: a header that is no token
