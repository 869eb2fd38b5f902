"""Keys at work: who gets them when a job is made, and what their states mean for real runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from airberg.errors import InvalidRequest
from airberg.plan.child import ChildPlanner
from airberg.plan.model import IngestRequest, Transformation
from support.deployment import Deployment, write_scenario

USERS = {
    "name": "users",
    "cursor": "id",
    "primary_key": [["id"]],
    "generate": {"count": 10, "from": 1, "fields": {"id": "$i", "email": "user$i@example.com"}},
}


@pytest.fixture
def deployment(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A deployment with keys of several kinds; child processes find it too."""
    monkeypatch.setenv("AIRBERG_SOURCES__PYAIRBYTE_DIR", str(pyairbyte_dir))
    monkeypatch.setenv("AIRBERG_SOURCES__CONNECTORS_DIR", str(connectors_dir))
    made = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)
    made.keys.create("crm", owners={"ann@example.com"})
    made.keys.create("legal", roles={"lawyers"})
    made.keys.create("off")
    made.keys.disable("off", actor="ann")
    made.keys.create("gone")
    made.keys.destroy("gone", actor="ann")
    return made


# ---- when a job is made ----------------------------------------------------------------------------------


def request(*keys: str, owner_id: str = "ann@example.com") -> IngestRequest:
    """A job that encrypts one column after the other, with these keys."""
    rules = [
        Transformation(column=column, transformation_type="encrypt", encryption_key_name=key)
        for column, key in zip(("email", "id"), keys, strict=False)
    ]
    return IngestRequest(
        name="users",
        source_name="source-scripted",
        schema_name="shop",
        mode="append",
        owner_id=owner_id,
        column_transformations=tuple(rules),
    )


@pytest.mark.parametrize("preflight", [True, False], ids=["checked", "unchecked"])
def test_keys_that_a_job_may_not_have(deployment: Deployment, tmp_path: Path, *, preflight: bool) -> None:
    """All of them are named, in a child process and without one: the place in the request, and the reason."""
    config = {"scenario": str(write_scenario(tmp_path, {"streams": [USERS]}))}
    planner = ChildPlanner(deployment.settings)

    def problems(asked: IngestRequest, *roles: str) -> list[tuple[str, str]]:
        try:
            planner.prepare(asked, config, domain=None, preflight=preflight, roles=frozenset(roles))
        except InvalidRequest as e:
            return [(p.pointer, p.code) for p in e.problems]
        return []

    first, second = (f"/column_transformations/{i}/encryption_key_name" for i in (0, 1))
    assert problems(request("off", "nope")) == [(first, "key-disabled"), (second, "unknown-key")]
    assert problems(request("gone", "legal")) == [(first, "key-destroyed"), (second, "key-not-allowed")]
    assert problems(request("crm", "legal", owner_id="bob"), "ann@example.com") == [
        (first, "key-not-allowed"),
        (second, "key-not-allowed"),
    ]
    assert problems(request("crm", "legal"), "lawyers") == []
