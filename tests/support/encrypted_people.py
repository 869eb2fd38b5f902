"""A table with encrypted columns of every kind, made by two real runs with a rotation of the key between.

It is appended to, so that its Parquet files alone hold all rows: engines without Iceberg read it, too.
"""

from __future__ import annotations

import base64
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from airberg.plan.model import TableRequest
from support.deployment import Deployment, write_scenario

KEY = "crm"
NAME = "shop.people"
BIG = "päß" * 262_144  # 1 MB of characters, more in UTF-8


def utc(*parts: int) -> dt.datetime:
    """A moment in UTC."""
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc]  # year, month, day at least


def typed(name: str, **more: str) -> dict[str, Any]:
    """A type that may be null."""
    return {"type": ["null", name], **more}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "email": typed("string"),
        "name": typed("string"),
        "contact": {
            "type": ["null", "object"],
            "properties": {"phone": typed("string"), "city": typed("string")},
        },
        "amount": typed("string"),
        "born": typed("string", format="date"),
        "seen": typed("string", format="date-time", airbyte_type="timestamp_with_timezone"),
        "woken": typed("string", format="date-time", airbyte_type="timestamp_without_timezone"),
        "visits": typed("integer"),
        "score": typed("number"),
        "active": typed("boolean"),
        "rank": typed("integer"),
        "ratio": typed("number"),
        "wakes": typed("string", format="time", airbyte_type="time_without_timezone"),
        "photo": typed("string", contentEncoding="base64"),
        "tags": {"type": ["null", "array"], "items": {"type": "string"}},
    },
}
ENCRYPTED: dict[str, str] = {
    "email": "string",
    "name": "string",
    "contact.phone": "string",
    "amount": "decimal(12,2)",
    "born": "date",
    "seen": "timestamptz",
    "woken": "timestamp",
    "visits": "long",
    "score": "double",
    "active": "boolean",
    "rank": "short",
    "ratio": "float",
    "wakes": "time",
    "photo": "binary",
    "tags": "list<string>",
}
"""Encrypted columns and their types before encryption; `email` is deterministic, the others are random."""

PEOPLE: tuple[dict[str, Any], ...] = (
    {
        "id": 1,
        "email": "ann@example.com",
        "name": 'Änne 😀 O\'Neil \\ "x"',
        "contact": {"phone": "+49 1", "city": "Ulm"},
        "amount": Decimal("1.50"),
        "born": dt.date(1990, 5, 17),
        "seen": utc(2026, 1, 2, 3, 4, 5, 123456),
        "woken": dt.datetime(2026, 1, 2, 3, 4, 5),
        "visits": 2**63 - 1,
        "score": 0.1,
        "active": True,
        "rank": -32768,
        "ratio": 0.10000000149011612,
        "wakes": dt.time(6, 30, 0, 5),
        "photo": b"\x00\xff'",
        "tags": ["a", "ü"],
    },
    {
        "id": 2,
        "email": "",
        "name": "",
        "contact": {"phone": "", "city": None},
        "amount": Decimal("-9999999999.99"),
        "born": dt.date(1969, 12, 31),
        "seen": utc(1969, 12, 31, 23, 59, 59),
        "woken": dt.datetime(1970, 1, 1),
        "visits": 0,
        "score": -1.5e300,
        "active": False,
        "rank": 0,
        "ratio": -0.5,
        "wakes": dt.time(0),
        "photo": b"",
        "tags": [],
    },
    {"id": 3} | dict.fromkeys(SCHEMA["properties"].keys() - {"id"}),
    {"id": 4, "name": BIG, "email": "ann@example.com", "contact": {"phone": None, "city": "Bonn"}},
)
LATER: tuple[dict[str, Any], ...] = (
    PEOPLE[0] | {"id": 5, "name": "Ünal", "tags": ["z"]},
    {"id": 6, "email": "名前@example.com", "visits": -1, "contact": {"phone": "110", "city": None}},
)
"""Rows that come after the rotation."""


def rows() -> list[dict[str, Any]]:
    """All rows as they are without encryption, by their ids."""
    return [dict.fromkeys(SCHEMA["properties"]) | row for row in (*PEOPLE, *LATER)]


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the source sends it."""
    return {name: _sent(value) for name, value in row.items()}


def _sent(value: Any) -> Any:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Decimal) else value


def load_people(deployment: Deployment, folder: Path) -> Table:
    """Make the key and the table: four rows, a rotation, two rows more."""
    deployment.keys.create(KEY, exist_ok=True)
    encrypt: list[dict[str, Any]] = [
        {"column": name, "transformation_type": "encrypt", "encryption_key_name": KEY} for name in ENCRYPTED
    ]
    casts = [
        {"column": name, "transformation_type": "cast", "target_type": ENCRYPTED[name]}
        for name in ("amount", "rank", "ratio")
    ]
    scenario = write_scenario(folder, _people(PEOPLE))
    job = deployment.job(
        scenario,
        column_transformations=[*encrypt, *casts],
        tables=(TableRequest(stream="people", sort_by=("email",)),),
    )
    deployment.run(job, "run-1")
    deployment.keys.rotate(KEY, actor="test")
    write_scenario(folder, _people((*PEOPLE, *LATER)))
    deployment.run(job, "run-2")
    return deployment.table("people")


def _people(people: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    stream = {"name": "people", "cursor": "id", "json_schema": SCHEMA, "records": [record(p) for p in people]}
    return {"streams": [stream]}


ADDRESSES = ("ann@example.com", "", None, "名前@example.com")


def load_users(deployment: Deployment, folder: Path) -> Table:
    """`quickstart.users` as the pages of the documentation have it, with the addresses above."""
    properties = {"id": {"type": "integer"}, "email": typed("string")}
    users = {
        "name": "users",
        "json_schema": {"type": "object", "properties": properties},
        "records": [{"id": number, "email": address} for number, address in enumerate(ADDRESSES)],
    }
    job = deployment.job(
        write_scenario(folder, {"streams": [users]}, "users.json"),
        schema_name="quickstart",
        column_transformations=[{"column": "email", "transformation_type": "encrypt"}],
    )
    deployment.run(job, "run-1")
    return deployment.table("users", "quickstart")
