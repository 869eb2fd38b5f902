"""From the HTTP call to rows that two engines read, in every mode, with a real connector."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

from airberg.keys.cipher import decrypt_value
from airberg.keys.open import open_keys
from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from support.airflow_stack import AirflowStack
from support.duckdb_reader import duckdb_rows
from support.live_stack import LiveStack

CONFIG = {"count": 120, "seed": 7, "always_updated": False, "parallelism": 1, "records_per_slice": 40}


def body(mode: str, **changes: Any) -> dict[str, Any]:
    """A job that loads source-faker."""
    return {
        "name": f"faker {mode}",
        "source_name": "source-faker",
        "source_config": CONFIG,
        "schema_name": f"shop_{mode}",
        "mode": mode,
        "streams": ["users", "products", "purchases"],
    } | changes


def sent_by_connector(live: LiveStack, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What the connector itself says with the same configuration, read without Airberg's pipeline."""
    described = next(live.settings.connectors_dir.glob("source-faker/*/launch.json"))
    launch = json.loads(described.read_bytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    command = [*launch["argv"], "discover", "--config", str(folder / "config.json")]
    messages = [json.loads(x) for x in subprocess.check_output(command).splitlines() if x.startswith(b"{")]
    catalog = next(m["catalog"] for m in messages if m["type"] == "CATALOG")
    configured = {
        "streams": [
            {"stream": s, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
            for s in catalog["streams"]
        ]
    }
    (folder / "catalog.json").write_text(json.dumps(configured))
    command = [*launch["argv"], "read", "--config", "config.json", "--catalog", "catalog.json"]
    out = subprocess.check_output(command, cwd=folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in out.splitlines():
        message = json.loads(line) if line.startswith(b"{") else {"type": "LOG"}
        if message["type"] == "RECORD":
            rows.setdefault(message["record"]["stream"], []).append(message["record"]["data"])
    return rows


def table_rows(live: LiveStack, schema: str, name: str) -> list[dict[str, Any]]:
    """All rows as DuckDB reads them, after checking that pyiceberg reads the same."""
    table = find_table(open_catalog(live.settings), (schema,), name)
    assert table is not None
    rows = duckdb_rows(table)
    ours = table.scan().to_arrow().to_pylist()
    key = lambda r: r["_airbyte_raw_id"]  # noqa: E731
    assert sorted(rows, key=key) == sorted(ours, key=key)
    return rows


def snapshots(live: LiveStack, schema: str, name: str) -> int:
    """How many snapshots a table has."""
    table = find_table(open_catalog(live.settings), (schema,), name)
    assert table is not None
    return len(table.snapshots())


def test_append_with_transformations(live: LiveStack, airflow_stack: AirflowStack, tmp_path: Path) -> None:
    """Counts, types and values equal what was sent; encrypted decrypts; the second run adds only new rows.

    A flow that waits for one of the tables starts after the first run, and not after the second.
    """
    downstream = "downstream_of_users"
    airflow_stack.add_downstream(downstream, 'Asset("iceberg://shop_append.users")')
    job_id = live.submit(
        body(
            "append",
            domain="Sales",
            tags=["e2e"],
            column_transformations=[
                {"stream": "users", "column": "email", "transformation_type": "encrypt"},
                {"stream": "users", "column": "name", "transformation_type": "rename", "new_name": "first"},
                {
                    "stream": "products",
                    "column": "price",
                    "transformation_type": "cast",
                    "target_type": "decimal(12,2)",
                },
                {"stream": "users", "column": "address.city", "transformation_type": "encrypt"},
            ],
        )
    )
    run = live.finished_run(job_id)
    assert run["status"] == "completed", run
    sent = sent_by_connector(live, tmp_path)
    assert {s["stream"]: s["rows_written"] for s in run["streams"]} == {k: len(v) for k, v in sent.items()}

    keys = open_keys(live.settings).versions("default")
    users = {r["id"]: r for r in table_rows(live, "shop_append", "users")}
    for record in sent["users"]:
        row = users[record["id"]]
        assert decrypt_value(keys, row["email"], b"shop_append.users.email").decode() == record["email"]
        city = decrypt_value(keys, row["address"]["city"], b"shop_append.users.address.city")
        assert city.decode() == record["address"]["city"]
        assert row["first"] == record["name"]
        assert (row["age"], row["title"], row["height"]) == (record["age"], record["title"], record["height"])
        assert row["created_at"].isoformat() == record["created_at"]
    products = {r["id"]: r for r in table_rows(live, "shop_append", "products")}
    assert all(products[p["id"]]["price"] == Decimal(str(p["price"])) for p in sent["products"])
    purchases = {r["id"]: r for r in table_rows(live, "shop_append", "purchases")}
    assert all(purchases[p["id"]]["user_id"] == p["user_id"] for p in sent["purchases"])

    again = live.trigger(job_id)
    assert again["status"] == "completed"
    assert again["rows_written"] == 0
    assert len(table_rows(live, "shop_append", "users")) == len(sent["users"])
    [[event]] = airflow_stack.downstream_events(downstream)
    assert (event["uri"], event["extra"]["run_id"]) == ("iceberg://shop_append.users/", run["id"])
    assert event["extra"]["rows_written"] == len(sent["users"])

    proposals = Path(run["metadata"]).read_text()
    assert "urn:li:domain:sales" in proposals
    assert "urn:li:tag:e2e" in proposals
    assert "urn:li:corpuser:ann@example.com" in proposals


def test_overwrite_swaps_the_table(live: LiveStack) -> None:
    """The same table, one more snapshot, the same rows."""
    job_id = live.submit(body("overwrite"))
    assert live.finished_run(job_id)["status"] == "completed"
    before = {r["id"]: r["name"] for r in table_rows(live, "shop_overwrite", "users")}
    assert snapshots(live, "shop_overwrite", "users") == 1
    assert live.trigger(job_id)["status"] == "completed"
    assert {r["id"]: r["name"] for r in table_rows(live, "shop_overwrite", "users")} == before
    assert snapshots(live, "shop_overwrite", "users") == 2


def test_merge_has_no_duplicates(live: LiveStack) -> None:
    """A source that sends every row again in each run: one row per key stays, with the newest values."""
    config = CONFIG | {"always_updated": True}
    job_id = live.submit(body("merge", source_config=config, streams=["users"]))
    assert live.finished_run(job_id)["status"] == "completed"
    first = {r["id"]: r["updated_at"] for r in table_rows(live, "shop_merge", "users")}
    run = live.trigger(job_id)
    assert run["status"] == "completed"
    assert run["rows_written"] == len(first)
    rows = table_rows(live, "shop_merge", "users")
    assert len(rows) == len(first)
    assert all(r["updated_at"] > first[r["id"]] for r in rows)
