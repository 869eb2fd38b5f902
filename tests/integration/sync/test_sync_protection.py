"""Hashed and masked columns in real runs, and tables whose columns are protected otherwise."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from airberg.errors import ConfigurationFailed, InvalidRequest, TransientFailed
from airberg.jobs.model import Job
from airberg.keys.kek import derive_key
from airberg.lake.note import read_note
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario

HASHED = {"column": "email", "transformation_type": "hash"}
MASKED = {"column": "card", "transformation_type": "mask"}


@pytest.fixture(params=[True, False], ids=["compiled", "python"])
def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment that makes a checkpoint at every state, with either reader of records."""
    sync = SyncSettings(checkpoint_seconds=0.0, compiled_reader=request.param)
    return _with_key(Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, sync))


@pytest.fixture
def compiled(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment with the compiled reader, where the reader does not matter."""
    return _with_key(Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir))


def _with_key(made: Deployment) -> Deployment:
    made.keys.create("crm")
    return made


def users(count: int, item: str = "first", **members: Any) -> dict[str, Any]:
    """A stream of users with a cursor, told by their addresses."""
    fields = {"id": "$i", "email": "user$i@example.com", "card": "4111-2222-$i", "item": f"{item} $i"}
    return {
        "name": "users",
        "cursor": "id",
        "primary_key": [["email"]],
        "state_every": 5,
        "generate": {"count": count, "from": 1, "fields": fields},
    } | members


def scenario(folder: Path, count: int = 3, item: str = "first", **members: Any) -> Path:
    """A scenario with this stream alone."""
    return write_scenario(folder, {"streams": [users(count, item, **members)]})


def job(deployment: Deployment, folder: Path, *rules: dict[str, Any], **members: Any) -> Job:
    """A job that reads three users."""
    return deployment.job(scenario(folder), column_transformations=list(rules), **members)


def properties(deployment: Deployment) -> dict[str, Any]:
    """What the table says of its protected columns, by the names of the properties."""
    prefixes = ("airberg.encryption.", "airberg.hash.", "airberg.mask.")
    found = deployment.table("users").properties
    return {k: json.loads(v) for k, v in found.items() if k.startswith(prefixes)}


def hashed(deployment: Deployment, text: str, key: str = "default") -> str:
    """The hash of a text, as the documentation says it is made."""
    raw = deployment.keys.versions(key)[0].raw
    return hmac.digest(derive_key(raw, b"airberg hash v1"), text.encode(), "sha256").hex()


# ---- runs ------------------------------------------------------------------------------------------------


def test_a_merge_by_a_hashed_key(deployment: Deployment, tmp_path: Path) -> None:
    """The second run finds the rows of the first, also after a rotation; nothing is there in clear."""
    made = job(deployment, tmp_path, HASHED, MASKED, mode="merge", archive_staging=True)
    deployment.run(made, "run-1")
    deployment.keys.rotate("default", actor="ann")
    scenario(tmp_path, 4, "second", cursor=None)
    deployment.store.set_plan(made.id, _stale(deployment, made))
    deployment.run(made, "run-2")
    expected = [
        (hashed(deployment, f"user{i}@example.com"), f"*******22-{i}", f"second {i}") for i in range(1, 5)
    ]
    assert deployment.rows("users", "email", "card", "item") == sorted(expected, key=repr)
    assert properties(deployment) == {
        "airberg.hash.email": {"key": "default", "alg": "HMAC-SHA256/hex", "type": "string", "version": 1},
        "airberg.mask.card": {"keep_last": 4, "mask_char": "*", "type": "string"},
    }


def _stale(deployment: Deployment, made: Job) -> Any:
    return msgspec.structs.replace(deployment.store.job(made.id).plan, discovered_at=0.0)


def test_what_is_hashed_or_masked_is_kept_nowhere_else(deployment: Deployment, tmp_path: Path) -> None:
    """Not in the archive, and the state is sealed: its cursor could be such a column."""
    made = job(deployment, tmp_path, HASHED, MASKED, {"column": "id", "transformation_type": "hash"})
    archived = job(deployment, tmp_path, HASHED, MASKED, archive_staging=True, schema_name="other")
    for one in (made, archived):
        deployment.run(one)
    (file,) = (deployment.home / "archive").rglob("*.zst")
    text = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().decode()
    assert [sorted(json.loads(line)["data"]) for line in text.splitlines()] == [["id", "item"]] * 3
    table = deployment.table("users")
    (note,) = (v for k, v in table.properties.items() if k.startswith("airberg.checkpoint."))
    assert read_note(table, str(made.id), deployment.parts.sealer) is not None
    with pytest.raises(ConfigurationFailed):
        read_note(table, str(made.id), None)
    assert "example.com" not in note


def test_equal_values_have_equal_hashes_in_all_tables(compiled: Deployment, tmp_path: Path) -> None:
    """Whatever their column is called; under another key they have others."""
    renamed = {"column": "email", "transformation_type": "rename", "new_name": "mail"}
    for schema, rules in {
        "one": [HASHED],
        "two": [HASHED, renamed],
        "three": [HASHED | {"encryption_key_name": "crm"}],
    }.items():
        compiled.run(job(compiled, tmp_path, *rules, schema_name=schema))
    one, two, three = (
        {row[name] for row in compiled.table("users", schema).scan().to_arrow().to_pylist()}
        for schema, name in (("one", "email"), ("two", "mail"), ("three", "email"))
    )
    assert one == two == {hashed(compiled, f"user{i}@example.com") for i in (1, 2, 3)}
    assert three == {hashed(compiled, f"user{i}@example.com", "crm") for i in (1, 2, 3)}


# ---- tables that are there -------------------------------------------------------------------------------

AS_TEXT = {"column": "email", "transformation_type": "cast", "target_type": "string"}
OTHERS: list[tuple[list[dict[str, Any]], str]] = [
    ([], "/column_transformations"),
    (
        [{"column": "email", "transformation_type": "cast", "target_type": "string"}],
        "/column_transformations/0",
    ),
    ([HASHED | {"encryption_key_name": "crm"}], "/column_transformations/0"),
    ([MASKED, MASKED | {"column": "email"}], "/column_transformations/1"),
    ([{"column": "email", "transformation_type": "encrypt"}], "/column_transformations/0"),
]


def test_another_protection_is_refused_when_a_job_is_made(compiled: Deployment, tmp_path: Path) -> None:
    """The column, what the table has, what the job would do, the ways out; and the place in the request."""
    compiled.run(job(compiled, tmp_path, HASHED))
    for rules, pointer in OTHERS:
        with pytest.raises(InvalidRequest) as e:
            job(compiled, tmp_path, *rules)
        (first, *_) = sorted(e.value.problems, key=lambda p: "email" not in p.message)
        assert (first.pointer, first.code) == (pointer, "protection-differs")
        assert '"email" of shop.users is hashed with the key "default" in the table' in first.message
        assert "another schema_name" in first.guidance
    job(compiled, tmp_path, HASHED)
    job(compiled, tmp_path, {"column": "email", "transformation_type": "drop"})


def test_another_protection_ends_a_run_before_it_reads(compiled: Deployment, tmp_path: Path) -> None:
    """A job that was made when there was no table; its table is as it was."""
    flag = tmp_path / "was-read"
    first = job(compiled, tmp_path, HASHED)
    read = {"read": {"steps": [{"touch": str(flag)}]}}
    path = write_scenario(tmp_path, {"streams": [users(3)]} | read, "second.json")
    second = compiled.job(path, column_transformations=[MASKED | {"column": "email"}])
    compiled.run(first)
    before = compiled.table("users").metadata_location
    with pytest.raises(ConfigurationFailed) as e:
        compiled.run(second)
    assert (e.value.code, e.value.exit_code) == ("protection-differs", 2)
    assert "would be masked" in e.value.message
    assert not flag.exists()
    assert compiled.table("users").metadata_location == before


def test_what_another_job_protects_stays_noted(compiled: Deployment, tmp_path: Path) -> None:
    """A job that does not have the column adds rows without it, and forgets nothing."""
    compiled.run(job(compiled, tmp_path, HASHED, MASKED))
    before = properties(compiled)
    dropped = [{"column": c, "transformation_type": "drop"} for c in ("email", "card")]
    compiled.run(job(compiled, tmp_path, *dropped))
    assert properties(compiled) == before
    assert [row[0] for row in compiled.rows("users", "email")].count(None) == 3


def test_an_overwrite_changes_rows_and_their_protection_together(
    compiled: Deployment, tmp_path: Path
) -> None:
    """While it works, and when it fails, the table says what is true of the rows that are there."""
    masked = MASKED | {"column": "email"}
    first = job(compiled, tmp_path, masked, mode="overwrite")
    compiled.run(first)
    masks = properties(compiled)
    assert list(masks) == ["airberg.mask.email"]
    second = job(compiled, tmp_path, HASHED, mode="overwrite")
    fails = {"after": 2, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    scenario(tmp_path, at=[fails])
    with pytest.raises(TransientFailed):
        compiled.run(second, "run-1", 1)
    assert properties(compiled) == masks
    compiled.run(second, "run-1", 2)
    assert list(properties(compiled)) == ["airberg.hash.email"]
    assert compiled.rows("users", "email") == sorted(
        [(hashed(compiled, f"user{i}@example.com"),) for i in (1, 2, 3)], key=repr
    )


def test_a_table_without_rows_may_change(compiled: Deployment, tmp_path: Path) -> None:
    """A first run that failed leaves nothing that another protection could contradict."""
    fails = {"after": 1, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    first = compiled.job(scenario(tmp_path, at=[fails]), column_transformations=[HASHED])
    with pytest.raises(TransientFailed):
        compiled.run(first)
    assert list(properties(compiled)) == ["airberg.hash.email"]
    compiled.run(job(compiled, tmp_path, MASKED | {"column": "email"}))
    assert list(properties(compiled)) == ["airberg.mask.email"]
