"""Keys at work: who gets them when a job is made, and what their states mean for real runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airberg.errors import ConfigurationFailed, InvalidRequest, TransientFailed
from airberg.jobs.model import RunStatus
from airberg.keys.cipher import decrypt_value
from airberg.plan.child import ChildPlanner
from airberg.plan.model import IngestRequest, TableRequest, Transformation
from airberg.quoted import quoted
from support.deployment import Deployment, write_scenario

KEYED = "crm"


def users(count: int, note: str = "", cursor: str | None = "id") -> dict[str, Any]:
    """A stream of users, which are told by their addresses."""
    fields = {"id": "$i", "email": "user$i@example.com", "note": f"{note} $i"}
    return {
        "name": "users",
        "cursor": cursor,
        "primary_key": [["email"]],
        "generate": {"count": count, "from": 1, "fields": fields},
    }


def all_users(count: int, note: str) -> dict[str, Any]:
    """A scenario in which each run reads all users."""
    return {"streams": [users(count, note, cursor=None)]}


def encrypted(column: str = "email", key: str = KEYED) -> dict[str, str]:
    """A transformation that encrypts."""
    return {"column": column, "transformation_type": "encrypt", "encryption_key_name": key}


@pytest.fixture
def deployment(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A deployment with keys of several kinds; child processes find it too."""
    monkeypatch.setenv("AIRBERG_SOURCES__PYAIRBYTE_DIR", str(pyairbyte_dir))
    monkeypatch.setenv("AIRBERG_SOURCES__CONNECTORS_DIR", str(connectors_dir))
    made = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)
    made.keys.create(KEYED, owners={"ann@example.com"})
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
    config = {"scenario": str(write_scenario(tmp_path, {"streams": [users(10)]}))}
    planner = ChildPlanner(deployment.settings)

    def problems(asked: IngestRequest, *roles: str) -> list[tuple[str, str]]:
        try:
            planner.prepare(asked, config, preflight=preflight, roles=frozenset(roles))
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


# ---- when a job runs -------------------------------------------------------------------------------------


def key_ids(deployment: Deployment, column: str = "email") -> Counter[int]:
    """How many values of the users were encrypted with each key id."""
    return Counter(int.from_bytes(v[1:5], "big") for (v,) in deployment.rows("users", column))


def read(deployment: Deployment, aad: str, column: str = "email") -> list[str]:
    """The values of the users, decrypted, sorted."""
    keys = deployment.keys.versions(KEYED)
    return sorted(decrypt_value(keys, v, aad.encode()).decode() for (v,) in deployment.rows("users", column))


def addresses(count: int) -> list[str]:
    """The addresses of the first users, sorted."""
    return sorted(f"user{i}@example.com" for i in range(1, count + 1))


@pytest.mark.parametrize("state", ["disabled", "destroyed"])
@pytest.mark.parametrize("stale", [False, True], ids=["planned", "stale"])
def test_a_key_out_of_use_stops_a_run_before_anything_else(
    deployment: Deployment, tmp_path: Path, state: str, *, stale: bool
) -> None:
    """The connector is not even asked for its streams, no table is made, and there is no retry."""
    flag = tmp_path / "connector-was-started"
    parts = {verb: {"steps": [{"touch": str(flag)}]} for verb in ("check", "discover", "read")}
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [users(10)]} | parts), column_transformations=[encrypted()]
    )
    if stale:
        assert job.plan is not None
        deployment.store.set_plan(job.id, msgspec.structs.replace(job.plan, discovered_at=0.0))
    flag.unlink()
    if state == "disabled":
        deployment.keys.disable(KEYED, actor="eve")
    else:
        deployment.keys.destroy(KEYED, actor="eve")
    with pytest.raises(ConfigurationFailed) as e:
        deployment.run(job)
    assert (e.value.code, e.value.exit_code) == (f"key-{state}", 2)
    assert quoted(KEYED) in e.value.message
    (run,) = deployment.store.runs(job.id)
    assert (run.status, run.error_code) == (RunStatus.FAILED, f"key-{state}")
    assert not flag.exists()
    assert not deployment.catalog.table_exists(("shop", "users"))
    if state == "disabled":
        deployment.keys.enable(KEYED, actor="ann")
        assert deployment.run(job, "run-2").status is RunStatus.COMPLETED
        assert flag.exists()
        assert read(deployment, "shop.users.email") == addresses(10)


def test_a_key_may_be_rotated_between_runs(deployment: Deployment, tmp_path: Path) -> None:
    """Each run writes with the version of its time, and all rows stay readable."""
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [users(10)]}), column_transformations=[encrypted()]
    )
    ids = []
    for number in (1, 2, 3):
        write_scenario(tmp_path, {"streams": [users(10 * number)]})
        ids.append(deployment.keys.primary(KEYED).key_id)
        deployment.run(job, f"run-{number}")
        deployment.keys.rotate(KEYED, actor="ann")
    assert key_ids(deployment) == dict.fromkeys(ids, 10)
    assert len(ids) == len(set(ids)) == 3
    assert read(deployment, "shop.users.email") == addresses(30)


def test_what_a_destroyed_version_encrypted_is_unreadable(deployment: Deployment, tmp_path: Path) -> None:
    """Its rows are lost, those of the other version are not; when all are destroyed, nothing opens."""
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [users(10)]}), column_transformations=[encrypted()]
    )
    deployment.run(job, "run-1")
    lost = {v for (v,) in deployment.rows("users", "email")}
    deployment.keys.rotate(KEYED, actor="ann")
    write_scenario(tmp_path, {"streams": [users(20)]})
    deployment.run(job, "run-2")
    deployment.keys.destroy(KEYED, actor="ann", version=1)
    keys, aad = deployment.keys.versions(KEYED), b"shop.users.email"
    readable = []
    for (value,) in deployment.rows("users", "email"):
        if value in lost:
            with pytest.raises(ConfigurationFailed) as e:
                decrypt_value(keys, value, aad)
            assert e.value.code == "cannot-decrypt"
        else:
            readable.append(decrypt_value(keys, value, aad).decode())
    assert sorted(readable) == sorted(set(addresses(20)) - set(addresses(10)))
    deployment.keys.destroy(KEYED, actor="ann")
    with pytest.raises(ConfigurationFailed) as gone:
        read(deployment, aad.decode())
    assert gone.value.code == "key-destroyed"


# ---- deterministic columns -------------------------------------------------------------------------------


def notes(deployment: Deployment) -> list[str]:
    """The notes of the users, sorted."""
    return [row[0] for row in deployment.rows("users", "note")]


def noted_version(deployment: Deployment) -> object:
    """The version of the key that the table notes."""
    return msgspec.json.decode(deployment.table("users").properties["airberg.encryption.email"])["version"]


@pytest.mark.parametrize("state", ["disabled", "destroyed"])
def test_a_merge_stays_with_its_version(deployment: Deployment, tmp_path: Path, state: str) -> None:
    """A rotation changes nothing; without the version nothing is merged, for it would find no row again."""
    scenario = write_scenario(tmp_path, all_users(10, "old"))
    job = deployment.job(scenario, "merge", column_transformations=[encrypted()])
    first = deployment.keys.primary(KEYED).key_id
    deployment.run(job, "run-1")
    deployment.keys.rotate(KEYED, actor="ann")
    write_scenario(tmp_path, all_users(12, "new"))
    deployment.run(job, "run-2")
    assert notes(deployment) == sorted(f"new {i}" for i in range(1, 13))
    assert (key_ids(deployment), noted_version(deployment)) == ({first: 12}, 1)

    flag = tmp_path / "connector-was-started"
    touch = {verb: {"steps": [{"touch": str(flag)}]} for verb in ("discover", "read")}
    write_scenario(tmp_path, all_users(14, "newer") | touch)
    change = deployment.keys.disable if state == "disabled" else deployment.keys.destroy
    change(KEYED, actor="eve", version=1)
    before = deployment.table("users").metadata
    with pytest.raises(ConfigurationFailed) as e:
        deployment.run(job, "run-3")
    assert e.value.code == "key-version-unusable"
    assert f'version 1 of the key "crm", which is {state}' in e.value.message
    assert ("Enable that version" in e.value.guidance) is (state == "disabled")
    assert (flag.exists(), deployment.table("users").metadata) == (False, before)
    with pytest.raises(InvalidRequest) as refused:  # a new job for that table, when it is made
        deployment.job(scenario, "merge", column_transformations=[encrypted()])
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("/schema_name", "table-does-not-fit")]
    if state == "disabled":
        deployment.keys.enable(KEYED, actor="ann", version=1)
        deployment.run(job, "run-4")
        assert notes(deployment) == sorted(f"newer {i}" for i in range(1, 15))
        assert key_ids(deployment) == {first: 14}


def test_an_overwrite_goes_on_with_the_next_version(deployment: Deployment, tmp_path: Path) -> None:
    """All rows are replaced, so they are equal among themselves; a merge then stays with that version."""
    scenario = write_scenario(tmp_path, all_users(10, "old"))
    asked = {"column_transformations": [encrypted()], "merge": ("email",)}
    layout = (TableRequest(stream="users", partition_by=("bucket(2, email)",)),)
    job = deployment.job(scenario, "overwrite", column_transformations=[encrypted()], tables=layout)
    first = deployment.keys.primary(KEYED).key_id
    deployment.run(job, "run-1")
    second = deployment.keys.rotate(KEYED, actor="ann").key_id
    deployment.run(job, "run-2")
    assert (key_ids(deployment), noted_version(deployment)) == ({first: 10}, 1)
    deployment.keys.destroy(KEYED, actor="ann", version=1)
    fails = {"after": 5, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    write_scenario(tmp_path, {"streams": [users(10, "old", cursor=None) | {"at": [fails]}]})
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-3", 1)
    assert (key_ids(deployment), noted_version(deployment)) == ({first: 10}, 1)
    deployment.run(job, "run-3", 2)
    assert (key_ids(deployment), noted_version(deployment)) == ({second: 10}, 2)
    assert read(deployment, KEYED) == addresses(10)
    write_scenario(tmp_path, all_users(11, "new"))
    deployment.run(deployment.job(scenario, "merge", **asked), "run-1")
    assert notes(deployment) == sorted(f"new {i}" for i in range(1, 12))
    assert key_ids(deployment) == {second: 11}


def test_new_tables_begin_with_the_oldest_version_in_use(deployment: Deployment, tmp_path: Path) -> None:
    """So tables of one key can be joined, whenever they were made."""
    deployment.keys.rotate(KEYED, actor="ann")
    second = deployment.keys.rotate(KEYED, actor="ann")
    deployment.keys.destroy(KEYED, actor="ann", version=1)
    assert [v.state for v in deployment.keys.describe(KEYED).versions] == ["destroyed", "active", "primary"]
    scenario = write_scenario(tmp_path, all_users(5, "a"))
    job = deployment.job(scenario, "merge", column_transformations=[encrypted(), encrypted("note")])
    deployment.run(job)
    assert noted_version(deployment) == 2
    (oldest, _) = deployment.keys.versions(KEYED)
    assert key_ids(deployment) == {oldest.key_id: 5}
    assert key_ids(deployment, "note") == {second.key_id: 5}
    assert "version" not in msgspec.json.decode(
        deployment.table("users").properties["airberg.encryption.note"]
    )


def test_tables_of_before_have_the_first_version(deployment: Deployment, tmp_path: Path) -> None:
    """A table that notes no version was encrypted with the first one, and notes it from then on."""
    scenario = write_scenario(tmp_path, all_users(10, "old"))
    job = deployment.job(scenario, "merge", column_transformations=[encrypted()])
    deployment.run(job, "run-1")
    name = "airberg.encryption.email"
    with deployment.table("users").transaction() as transaction:
        noted = msgspec.json.decode(deployment.table("users").properties[name])
        del noted["version"]
        transaction.set_properties({name: msgspec.json.encode(noted).decode()})
    deployment.keys.rotate(KEYED, actor="ann")
    deployment.keys.disable(KEYED, actor="ann", version=1)
    with pytest.raises(ConfigurationFailed) as e:
        deployment.run(job, "run-2")
    assert e.value.code == "key-version-unusable"
    deployment.keys.enable(KEYED, actor="ann", version=1)
    write_scenario(tmp_path, all_users(10, "new"))
    deployment.run(job, "run-3")
    assert (len(notes(deployment)), noted_version(deployment)) == (10, 1)
