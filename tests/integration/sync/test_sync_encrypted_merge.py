"""Merges by an encrypted key: changes that a database sends find the rows that they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

import airberg
from airberg.keys.cipher import decrypt_value
from airberg.lake.live import has_delete_files
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario
from support.duckdb_reader import duckdb_rows

SCHEMA = {
    "properties": {
        "email": {"type": "string"},
        "name": {"type": ["null", "string"]},
        "visits": {"type": ["null", "integer"]},
        "_ab_cdc_lsn": {"type": "integer"},
        "_ab_cdc_deleted_at": {"type": ["null", "string"], "format": "date-time"},
    }
}
Change = tuple[str, str | None]
"""An address and its new name; None: the row was deleted."""

FIRST: list[Change] = [
    ("ann@x", "Ann"),
    ("bob@x", "Bob"),
    ("", "no address"),
    ("名前@x", "Ü"),
    ("ann@x", "Änne"),
]
SECOND: list[Change] = [
    ("bob@x", "Bobby"),
    ("cy@x", "Cy"),
    ("ann@x", None),
    ("ANN@x", "another one"),
    ("", "still none"),
]
THIRD: list[Change] = [
    ("ann@x", "back"),
    ("cy@x", None),
    ("名前@x", "名"),
    ("cy@x", "Cyrus"),
    ("bob@x", None),
]


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def stream(changes: list[Change]) -> dict[str, Any]:
    """The log of changes of a table whose key is the address; a state after every fourth one."""
    records = [
        {
            "email": email,
            "name": name,
            "visits": lsn,
            "_ab_cdc_lsn": lsn,
            "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z" if name is None else None,
        }
        for lsn, (email, name) in enumerate(changes, 1)
    ]
    return {
        "name": "users",
        "cursor": "_ab_cdc_lsn",
        "primary_key": [["email"]],
        "json_schema": SCHEMA,
        "state_every": 4,
        "records": records,
    }


def after(changes: list[Change]) -> dict[str, tuple[str, int]]:
    """What a table holds after all changes: address → name and number of the last change."""
    found: dict[str, tuple[str, int]] = {}
    for number, (email, name) in enumerate(changes, 1):
        found.pop(email, None)
        if name is not None:
            found[email] = (name, number)
    return found


def by_reader(deployment: Deployment) -> list[tuple[Any, ...]]:
    """The rows as `read_table` reads them."""
    found = airberg.read_table("shop.users", ["email", "name", "visits"], settings=deployment.settings)
    return [(row["email"], row["name"], row["visits"]) for row in found.to_pylist()]


def by_duckdb(deployment: Deployment) -> list[tuple[Any, ...]]:
    """The rows as DuckDB reads the Iceberg table, decrypted value by value."""
    keys = deployment.keys.versions("crm")

    def plain(value: bytes, aad: str) -> str:
        return decrypt_value(keys, value, aad.encode()).decode()

    return [
        (
            plain(row["email"], "crm"),
            plain(row["name"], "shop.users.name"),
            int(plain(row["visits"], "shop.users.visits")),
        )
        for row in duckdb_rows(deployment.table("users"))
    ]


@pytest.mark.parametrize("delete_format", ["position", "vector", "copy-on-write"])
def test_changes_find_their_rows(
    deployment: Deployment,
    tmp_path: Path,
    delete_format: Literal["position", "vector", "copy-on-write"],
) -> None:
    """Insert, update and delete, in one run and over several; also after the key was rotated."""
    deployment.keys.create("crm")
    rules = [
        {"column": name, "transformation_type": "encrypt", "encryption_key_name": "crm"}
        for name in ("email", "name", "visits")
    ]
    job = deployment.job(
        write_scenario(tmp_path, {"streams": [stream(FIRST)]}),
        "merge",
        column_transformations=rules,
        delete_format=delete_format,
    )
    log: list[Change] = []
    deletes = False
    for number, changes in enumerate((FIRST, SECOND, THIRD)):
        log += changes
        write_scenario(tmp_path, {"streams": [stream(log)]})
        if number == 2:
            deployment.keys.rotate("crm", actor="test")
        deployment.run(job, f"run-{number}")
        deletes |= has_delete_files(deployment.table("users"))
        wanted = sorted((email, name, last) for email, (name, last) in after(log).items())
        assert sorted(by_reader(deployment)) == sorted(by_duckdb(deployment)) == wanted
    late = airberg.read_table("shop.users", ["name"], where="_ab_cdc_lsn > 11", settings=deployment.settings)
    assert sorted(late["name"].to_pylist()) == sorted(n for n, last in after(log).values() if last > 11)
    assert deletes == (delete_format != "copy-on-write")
    stored = deployment.table("users").scan().to_arrow()
    assert len({value[1:5] for value in stored["email"].to_pylist()}) == 1
    assert len({value[1:5] for value in stored["name"].to_pylist()}) == 2
