"""Names and values that real and hostile sources send, from a connector process into tables and back."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.read import first_rows
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario
from support.duckdb_reader import duckdb_connection, duckdb_table

N, S = {"type": "integer"}, {"type": "string"}
DATE = {"type": "string", "format": "date"}
MOMENT = {"type": "string", "format": "date-time"}


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def stream(properties: dict[str, Any], records: list[Any], **members: Any) -> dict[str, Any]:
    """A stream that is read in full."""
    return {
        "name": "s",
        "json_schema": {"type": "object", "properties": properties},
        "records": records,
    } | members


def suffix(name: str) -> str:
    """The suffix of a name that could not stay."""
    return "_" + sha256(name.encode()).hexdigest()[:8]


NAMES = {
    "select": "select",
    "from": "from",
    "order by": "order by",
    "a.b": "a.b",
    'say "x"': 'say "x"',
    "`tick`; DROP TABLE s; --": "`tick`; DROP TABLE s; --",
    "名前": "名前",
    "🙂": "🙂",
    "Id": "Id",
    "id": "id" + suffix("id"),
    "": suffix(""),
    "nul\x00": "nul_" + suffix("nul\x00"),
    "k" * 10_000: "k" * 246 + suffix("k" * 10_000),
    "_airbyte_meta": "_airbyte_meta" + suffix("_airbyte_meta"),
}


def test_any_names_arrive_in_their_own_columns(deployment: Deployment, tmp_path: Path) -> None:
    """Reserved words, quotes, dots, case, control characters, 10,000 characters: read back by two engines."""
    properties: dict[str, Any] = dict.fromkeys(NAMES, N)
    properties |= {"a": {"type": "object", "properties": {"b": N, "B": N}}}
    record: dict[str, Any] = {name: i for i, name in enumerate(NAMES)} | {"a": {"b": 100, "B": 101}}
    record |= {"undeclared": 1, "u" * 10_000: 2}
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream(properties, [record])]}), "overwrite")
    assert job.plan is not None
    assert len(job.plan.warnings) == 7
    run = deployment.run(job)
    assert [s.values_nulled for s in run.report.streams] == [0]
    inside = {"b" + suffix("b"): 100, "B" + suffix("B"): 101}
    wanted = {kept: i for i, kept in enumerate(NAMES.values())} | {"a": inside}
    table = deployment.table("s")
    for found in (
        first_rows(table, 10),
        table.scan().to_arrow().to_pylist(),
        duckdb_table(table).to_pylist(),
    ):
        assert [{k: v for k, v in row.items() if k in wanted} for row in found] == [wanted]
    # What comes later does not move what is there.
    turned = {"ID": N} | dict(reversed(properties.items()))
    again = deployment.job(
        write_scenario(tmp_path, {"streams": [stream(turned, [record | {"ID": 7}])]}), "overwrite"
    )
    before = {field.name: field.field_id for field in table.schema().fields}
    deployment.run(again, "run-2")
    [row] = first_rows(deployment.table("s"), 10)
    assert {k: v for k, v in row.items() if k in wanted} == wanted
    assert row["ID" + suffix("ID")] == 7
    after = {field.name: field.field_id for field in deployment.table("s").schema().fields}
    assert after.items() >= before.items()
    assert list(after)[: len(before)] == list(before)


def test_values_of_every_kind(deployment: Deployment, tmp_path: Path) -> None:
    """What a column holds arrives without loss; what it cannot hold is null with its reason."""
    lines = [
        '{"n": 1, "t": "a\\u0000b", "big": ' + "9" * 38 + ', "x": 1e400, "u": [1, "a"]}',
        '{"n": ' + "9" * 5_000 + ', "t": "\\ud800", "big": 1e38, "x": -0.0, "u": {"a": [1.10]}}',
        '{"n": NaN, "t": 12.50, "big": "7", "x": Infinity, "u": null, "n": 3, "deep": '
        + "[" * 50
        + "]" * 50
        + "}",
    ]
    message = '{"type":"RECORD","record":{"stream":"s","emitted_at":1,"data":%s}}'
    properties = {
        "n": N,
        "t": S,
        "big": {"type": "string", "airbyte_type": "big_integer"},
        "x": {"type": "number"},
        "u": {"oneOf": [N, S, {"type": "array"}]},
        "deep": {},
    }
    steps = [{"line": message % line} for line in lines]
    scenario = {"streams": [stream(properties, [], counts=False, status=False)], "read": {"steps": steps}}
    run = deployment.run(deployment.job(write_scenario(tmp_path, scenario), "overwrite"))
    rows = first_rows(deployment.table("s"), 10)
    own = [{k: v for k, v in row.items() if not k.startswith("_airbyte")} for row in rows]
    assert [r["n"] for r in own] == [1, None, 3]
    assert [r["t"] for r in own] == ["a\x00b", "\ufffd", "12.50"]
    assert [None if r["big"] is None else int(r["big"]) for r in own] == [10**38 - 1, None, 7]
    assert [str(r["x"]) for r in own] == ["None", "-0.0", "None"]
    assert [r["u"] and r["u"].replace(" ", "") for r in own] == ['[1,"a"]', '{"a":[1.10]}', None]
    assert own[2]["deep"] == "[" * 50 + "]" * 50
    changes = [[(c["field"], c["reason"]) for c in row["_airbyte_meta"]["changes"] or []] for row in rows]
    too_large = "DESTINATION_FIELD_SIZE_LIMITATION"
    assert [sorted(c) for c in changes] == [
        [("x", too_large)],
        [("big", too_large), ("n", too_large)],
        [("x", "DESTINATION_TYPECAST_ERROR")],
    ]
    assert [s.values_nulled for s in run.report.streams] == [4]


def test_dates_before_christ_and_after_9999(deployment: Deployment, tmp_path: Path) -> None:
    """Stored as what they are, found again as merge keys, read by two engines and by our own command."""
    properties = {"d": DATE, "at": MOMENT, "o": {"type": "object", "properties": {"d": DATE}}, "v": N}

    def row(day: str, at: str, v: int) -> dict[str, Any]:
        return {"d": day, "at": at, "o": {"d": day}, "v": v}

    first = [
        row("0044-03-15 BC", "0044-03-15T12:00:00+02:00 BC", 1),
        row("2026-01-02", "2026-01-02T00:00:00Z", 2),
        row("12026-01-02", "9999-12-31T23:59:59-05:00", 3),
    ]
    source = stream(properties, first, primary_key=[["d"]])
    job = deployment.job(write_scenario(tmp_path, {"streams": [source]}), "merge")
    deployment.run(job)
    second = [row("-0043-03-15", "-0043-03-15T12:00:00Z", 4), row("12026-01-02", "12026-01-02T00:00:00Z", 5)]
    write_scenario(tmp_path, {"streams": [source | {"records": second}]})
    deployment.run(job, "run-2")
    table = deployment.table("s")
    wanted = [
        ("-0043-03-15", "-0043-03-15 12:00:00.000000Z", 4),
        ("2026-01-02", "2026-01-02 00:00:00.000000Z", 2),
        ("12026-01-02", "12026-01-02 00:00:00.000000Z", 5),
    ]
    scanned = table.scan().to_arrow().sort_by("d")
    texts = [scanned[c].cast(pa.string()).to_pylist() for c in ("d", "at")]
    assert list(zip(*texts, scanned["v"].to_pylist(), strict=True)) == wanted
    assert [r["o"]["d"] for r in sorted(first_rows(table, 9), key=lambda r: r["v"])][1:] == [
        "-0043-03-15",
        "12026-01-02",
    ]
    metadata = table.metadata_location.removeprefix("file://")
    shown = duckdb_connection().execute(
        'SELECT d::VARCHAR, epoch_us("at"), v FROM iceberg_scan(?) ORDER BY d', [metadata]
    )
    assert [(r[0], r[2]) for r in shown.fetchall()] == [
        ("0044-03-15 (BC)", 4),
        ("2026-01-02", 2),
        ("12026-01-02", 5),
    ]


@pytest.mark.parametrize("count", [300, 2_000])
def test_wide_tables(deployment: Deployment, tmp_path: Path, count: int) -> None:
    """Hundreds of columns, thousands: written, read back by two engines, and widened by one more."""
    kinds = [N, S, {"type": "number"}, {"type": "boolean"}, MOMENT]
    values = [
        lambda i: i,
        lambda i: f"t{i}",
        lambda i: i + 0.5,
        lambda i: i % 2 == 0,
        lambda i: f"2026-01-02T03:04:{i % 60:02}Z",
    ]
    properties = {f"c{i}": kinds[i % 5] for i in range(count)}
    records = [{f"c{i}": values[i % 5](i + r) for i in range(count)} for r in range(20)]
    scenario = write_scenario(tmp_path, {"streams": [stream(properties, records)]})
    job = deployment.job(scenario, "overwrite")
    deployment.run(job)
    table = deployment.table("s")
    for found in (table.scan().to_arrow(), duckdb_table(table)):
        assert found.num_rows == 20
        assert found.num_columns == count + 4
        assert sorted(found["c0"].to_pylist()) == list(range(20))
        assert sorted(found[f"c{count - 4}"].to_pylist()) == sorted(f"t{count - 4 + r}" for r in range(20))
    wider = properties | {"one_more": N}
    write_scenario(tmp_path, {"streams": [stream(wider, [records[0] | {"one_more": 1}])]})
    deployment.run(deployment.job(scenario, "overwrite"), "run-2")
    [row] = first_rows(deployment.table("s"), 5)
    assert (row["one_more"], row["c0"], len(row)) == (1, 0, count + 5)


def test_a_broken_line_ends_the_run_and_shows_nothing_of_itself(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of the line is told; what was in it is in no log and in no error."""
    caplog.set_level(logging.DEBUG)
    broken = '{"type":"RECORD","record":{"stream":"s","data":{"iban":"DE89-planted-secret'
    scenario = {"streams": [stream({"iban": S}, [])], "read": {"steps": [{"line": broken}]}}
    job = deployment.job(write_scenario(tmp_path, scenario))
    with pytest.raises(TransientFailed, match=r"Line [0-9]+ of the connector's output") as caught:
        deployment.run(job)
    assert caught.value.code == "malformed-message"
    run = deployment.store.runs(job.id)[0]
    assert run.error_code == "malformed-message"
    assert "planted" not in f"{caplog.text} {run.error} {caught.value!r}"


def test_the_connectors_reason_and_last_words_are_the_runs_error(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A TRACE error with exit code 0: both the reason and stderr are told, without secrets."""
    steps = [
        {"stderr": "KeyError: 'tenant' of hunter2-hunter2"},
        {"trace_error": {"message": "API key revoked", "failure_type": "config_error"}},
    ]
    scenario = {"streams": [stream({"n": N}, [])], "read": {"end": steps}}
    job = deployment.job(write_scenario(tmp_path, scenario))
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job)
    assert caught.value.message.startswith("API key revoked. The connector ended with exit code 0")
    assert "KeyError: 'tenant'" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_type_that_changes_ends_the_run_before_anything_is_written(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Inside lists of structs too: column, both types and the ways out are told; the table stays."""
    items = {"type": "array", "items": {"type": "object", "properties": {"n": N}}}
    changed = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "number"}}}}
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream({"l": items}, [{"l": [{"n": 1}]}])]}))
    deployment.run(job)
    snapshots = deployment.table("s").metadata.snapshots
    write_scenario(tmp_path, {"streams": [stream({"l": changed}, [{"l": [{"n": 1.5}]}])]})
    sources = deployment.settings.sources.model_copy(update={"rediscover_after_s": 0.0})
    object.__setattr__(deployment.settings, "sources", sources)
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job, "run-2")
    assert caught.value.code == "column-type-changed"
    for part in ("l.element.n", "long", "double"):
        assert part in caught.value.message
    assert deployment.table("s").metadata.snapshots == snapshots
