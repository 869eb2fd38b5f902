"""The examples of bodies in the OpenAPI document work as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.contract_ground import Ground
from support.contract_service import running_contract_service


@pytest.fixture
def ground(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Ground]:
    """A new service."""
    database = Path(shutil.copy(migrated_sqlite, tmp_path / "jobs.db"))
    with running_contract_service(tmp_path, database) as service, Ground(service) as ground:
        yield ground


def test_every_example_of_a_body_is_taken(ground: Ground) -> None:
    """By a service that has nothing yet but what the path names."""
    refused = {}
    tried = 0
    for name, (_, _, operation) in ground.operations().items():
        for number, example in enumerate(ground.examples(operation) if "requestBody" in operation else ()):
            request = ground.request(name)
            run = {"run_id": request["json"]["run_id"]} if name == "rewind_job" else {}  # one that is there
            request["json"] = example | run
            if name == "destroy_key":  # the example confirms by name, and is of a key with a newer version
                key = example["confirm"]
                ground.admin.post("/api/keys", json={"name": key})
                ground.admin.post(f"/api/keys/{key}/rotate")
                request["url"] = f"/api/keys/{key}/destroy"
            answer = ground.admin.request(**request)
            tried += 1
            if answer.status_code not in (200, 201, 202, 204):
                refused[name, number] = f"{answer.status_code} {answer.text[:300]}"
    assert refused == {}
    assert tried > 8
