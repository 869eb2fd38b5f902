"""PostgreSQL into Iceberg with source-postgres-lite, as an own connector: values are those of PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from airberg.errors import ConfigurationFailed, InvalidRequest
from airberg.settings import SyncSettings
from support.deployment import Deployment
from support.duckdb_reader import duckdb_rows
from support.postgres_lite import PASSWORD

Owner = psycopg.Connection[Any]


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, postgres_lite: Path) -> Deployment:
    """A deployment that declares the connector, and makes a checkpoint at every state."""
    sync = SyncSettings(checkpoint_seconds=0.0)
    made = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, sync)
    with made.settings.connectors_file.open("a") as file:
        file.write(f'[connectors.source-postgres-lite]\nexecutable = "{postgres_lite}"\n')
    return made


def written(run: Any) -> list[int]:
    """Rows that each stream of a run wrote."""
    return [s.rows_written for s in run.report.streams]


ORDERS = """
CREATE TABLE shop.orders (
    region text, id bigint, updated_at timestamptz NOT NULL, amount numeric(30,12) NOT NULL, rate numeric,
    total numeric(38), paid timestamp, day date, at time, ref uuid NOT NULL, doc jsonb, body bytea,
    tags text[], prices numeric(20,2)[], state shop.state, PRIMARY KEY (region, id)
);
INSERT INTO shop.orders SELECT
    CASE i % 3 WHEN 0 THEN 'north' WHEN 1 THEN 'süd' ELSE '' END, i,
    timestamptz '2026-01-01 00:00Z' + (i / 7) * interval '1 s 1 us',
    (i::numeric * 123456789012.123456789012) % 999999999999999999,
    CASE WHEN i % 5 > 0 THEN i / 7.0::numeric END, 10::numeric ^ 37 + i,
    timestamp '2026-03-29 02:30:00.000001' + i * interval '1 h', date '1999-12-31' + i,
    time '00:00' + i * interval '1.000001 s', md5(i::text)::uuid,
    jsonb_build_object('i', i, 'n', 0.10 + i, 'x', NULL), decode(md5(i::text), 'hex'),
    CASE WHEN i % 4 > 0 THEN ARRAY['a', NULL, 'ü' || i] END, ARRAY[i, NULL, 123456789012345678 - i],
    (enum_range(NULL::shop.state))[1 + i % 2]
FROM generate_series(1, 500) i
"""


def as_postgresql_says(owner: Owner, where: str = "true") -> list[dict[str, Any]]:
    """Rows of `orders` as psycopg reads them, in the types of our columns."""
    cursor = owner.execute(f"SELECT * FROM shop.orders WHERE {where}")
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for row in rows:
        row["updated_at"] = row["updated_at"].astimezone(UTC)
        row["rate"] = None if row["rate"] is None else format(row["rate"], "f")
        row["ref"] = str(row["ref"])
        row["prices"] = [None if p is None else str(p) for p in row["prices"]]
    return sorted(rows, key=lambda r: (r["region"], r["id"]))


def in_the_lake(deployment: Deployment) -> list[dict[str, Any]]:
    """Rows of the table, without our own columns; JSON read."""
    table = deployment.table("orders")
    rows = table.scan().to_arrow().to_pylist()
    key = lambda r: r["_airbyte_raw_id"]  # noqa: E731
    assert sorted(duckdb_rows(table), key=key) == sorted(rows, key=key)
    out = [{k: v for k, v in row.items() if not k.startswith("_airbyte")} for row in rows]
    for row in out:
        row["doc"] = json.loads(row["doc"])
        row["amount"] = row["amount"] if isinstance(row["amount"], Decimal) else Decimal(row["amount"])
    return sorted(out, key=lambda r: (r["region"], r["id"]))


@pytest.fixture
def orders(shop: Owner) -> Owner:
    """500 orders of many types, with a composite key and a cursor that several share."""
    shop.execute("CREATE TYPE shop.state AS ENUM ('open', 'closed')")
    shop.execute(ORDERS)
    return shop


def test_merge_by_key_is_what_postgresql_has(
    deployment: Deployment, orders: Owner, shop_config: dict[str, Any]
) -> None:
    """After inserts, updates and a late commit, each run leaves the table's rows, exact to the last digit."""
    cast = {"column": "amount", "transformation_type": "cast", "target_type": "decimal(30,12)"}
    config = shop_config | {"checkpoint_rows": 150}
    job = deployment.job_of("source-postgres-lite", config, "merge", column_transformations=[cast])
    [plan] = job.plan.streams
    assert (plan.sync_mode, plan.merge_key, plan.cursor) == (
        "incremental",
        (("region",), ("id",)),
        ("updated_at",),
    )
    assert PASSWORD not in repr(job)
    assert written(deployment.run(job, "run-1")) == [500]
    assert in_the_lake(deployment) == as_postgresql_says(orders)
    assert len(deployment.table("orders").snapshots()) > 3  # a checkpoint at each state

    later = "updated_at = '2026-02-01', amount = -amount, rate = 'NaN', doc = '{}', state = 'open'"
    orders.execute(f"UPDATE shop.orders SET {later} WHERE id % 50 = 0")
    orders.execute("INSERT INTO shop.orders SELECT 'new', o.* FROM (SELECT id, timestamptz '2026-02-02', amount, rate, total, paid, day, at, ref, doc, body, tags, prices, state FROM shop.orders WHERE id < 4) o")  # fmt: skip  # noqa: E501
    # 10 changed, 3 new, and 3 that shared the last cursor with one of the changed.
    assert written(deployment.run(job, "run-2")) == [16]
    assert in_the_lake(deployment) == as_postgresql_says(orders)
    assert written(deployment.run(job, "run-3")) == [0]


def test_append_reads_only_what_is_new(
    deployment: Deployment, orders: Owner, shop_config: dict[str, Any]
) -> None:
    """The second run adds the changed rows, the third nothing; a failed run goes on where it stood."""
    job = deployment.job_of("source-postgres-lite", shop_config)
    assert written(deployment.run(job, "run-1")) == [500]
    orders.execute("UPDATE shop.orders SET updated_at = now() WHERE id <= 10")
    assert written(deployment.run(job, "run-2")) == [10]
    assert written(deployment.run(job, "run-3")) == [0]
    assert len(in_the_lake(deployment)) == 510
    orders.execute("ALTER TABLE shop.orders RENAME TO gone")
    with pytest.raises(ConfigurationFailed, match=r"There is no table shop\.orders that may"):
        deployment.run(job, "run-4")


EDGES = """
CREATE TABLE shop.edges AS SELECT
    date '0044-03-15 BC' AS ides, date 'infinity' AS never, date '5874897-12-31' AS last,
    timestamp '0044-03-15 12:00:00.000001 BC' AS past, timestamptz '-infinity' AS ever,
    timestamptz '12026-01-01 00:00+05:30' AS far, 'NaN'::float8 AS nan, 0.1::float4 AS tenth,
    timetz '01:00:00+05:30' AS zoned, -9223372036854775808 AS least,
    1e40::numeric + 1.5 AS big, 'NaN'::numeric(10) AS none, '1e37'::numeric(38) AS digits,
    ARRAY[[1, 2], [3, 4]] AS grid, ARRAY[1.10, NULL] AS prices
"""


def test_a_full_copy_keeps_edges(deployment: Deployment, shop: Owner, shop_config: dict[str, Any]) -> None:
    """BC and far dates are exact; what no column can hold is null, and the row says so."""
    shop.execute(EDGES)
    job = deployment.job_of("source-postgres-lite", shop_config, "overwrite")
    assert written(deployment.run(job, "run-1")) == [1]
    found = deployment.table("edges").scan().to_arrow()
    told = shop.execute(
        "SELECT ides - date '1970-01-01', last - date '1970-01-01', "
        "(extract(epoch FROM past) * 1000000)::int8, (extract(epoch FROM far) * 1000000)::int8, "
        "big::text FROM shop.edges"
    ).fetchone()
    assert told is not None

    def number(name: str, kind: pa.DataType) -> int:
        return int(found[name].cast(kind)[0].as_py())

    assert (number("ides", pa.int32()), number("last", pa.int32())) == told[:2]
    assert (number("past", pa.int64()), number("far", pa.int64())) == told[2:4]
    rest = ("never", "ever", "nan", "tenth", "zoned", "least", "big", "none", "digits", "grid", "prices")
    assert found.select(rest).to_pylist() == [
        {
            "never": None,
            "ever": None,
            "nan": None,
            "tenth": 0.1,
            "zoned": pa.scalar(19 * 3_600_000_000 + 30 * 60_000_000, pa.time64("us")).as_py(),
            "least": -(2**63),
            "big": told[4],
            "none": None,
            "digits": Decimal(10**37),
            "grid": "[[1,2],[3,4]]",  # of a table made from a query, PostgreSQL knows no dimensions
            "prices": '["1.10",null]',
        }
    ]
    changes = found["_airbyte_meta"][0].as_py()["changes"]
    assert {c["field"] for c in changes} == {"never", "ever", "nan", "none"}


def test_a_wrong_password_is_refused_without_being_shown(
    deployment: Deployment, shop: Owner, shop_config: dict[str, Any]
) -> None:
    """The refusal has PostgreSQL's words."""
    shop.execute("CREATE TABLE shop.t (id int)")
    config = shop_config | {"password": "not the password"}
    with pytest.raises(InvalidRequest, match="password authentication failed") as caught:
        deployment.job_of("source-postgres-lite", config)
    assert "not the password" not in str(caught.value)
