"""source-postgres-lite over the protocol alone, against a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.postgres_lite import PASSWORD, Connector

Owner = psycopg.Connection[Any]

EVENTS = """
CREATE TABLE shop.events (id int PRIMARY KEY, updated_at timestamptz NOT NULL, v text);
INSERT INTO shop.events SELECT i, timestamptz '2026-01-01 00:00Z' + (i / 10) * interval '1 s', 'v' || i
FROM generate_series(1, 95) i
"""


def ids(said: Any, stream: str = "events") -> list[int]:
    """The ids, in the order in which they came."""
    assert said.exit_code == 0, said.text
    return [row["id"] for row in said.rows(stream)]


def properties(connector: Connector, stream: str) -> dict[str, Any]:
    """The schemas of a stream's columns."""
    return dict(connector.streams()[stream]["json_schema"]["properties"])


# ---- spec, check -------------------------------------------------------------------------------------------


def test_specification_marks_the_secret(connector: Connector) -> None:
    """It needs no configuration, and says which field is a secret."""
    [spec] = connector("spec").of("SPEC")
    fields = spec["connectionSpecification"]["properties"]
    assert [name for name, field in fields.items() if field.get("airbyte_secret")] == ["password"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "may read no table in shop"),
        ({"password": "another of mine"}, "password authentication failed"),
        ({"database": "nowhere"}, '"nowhere"'),
        ({"host": ""}, "`host` is missing"),
        ({"port": "5432"}, "`port` must be of type integer"),
        ({"ssl_mode": "maybe"}, "`ssl_mode` must be one of disable"),
        ({"ssl_mode": "require"}, "SSL"),
        ({"ssl_mode": "verify-ca"}, "needs `ssl_root_certificate`"),
        ({"host": "127.0.0.1", "port": 1}, "refused"),
    ],
    ids=str,
)
def test_a_failed_check_says_why_and_no_password(
    connector: Connector, shop_config: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    """What to correct, in one line; the password is in none of it."""
    said = connector("check", config=shop_config | change)
    assert said.exit_code == 0
    [status] = said.of("CONNECTION_STATUS")
    assert status["status"] == "FAILED"
    assert says in status["message"]
    assert not [p for p in (PASSWORD, "another of mine") if p in said.text]


def test_check_succeeds_where_there_is_something_to_read(connector: Connector, shop: Owner) -> None:
    """One readable table is enough."""
    shop.execute(EVENTS)
    assert connector("check").of("CONNECTION_STATUS") == [{"status": "SUCCEEDED"}]


# ---- discover ----------------------------------------------------------------------------------------------


def test_discover_knows_keys_cursors_and_what_may_be_null(connector: Connector, shop: Owner) -> None:
    """Composite keys in their order; cursors are NOT NULL; views have no key; partitions are not shown."""
    shop.execute("""
        CREATE TABLE shop.lines (b text, a int, updated_at timestamp NOT NULL, note text, PRIMARY KEY (a, b));
        CREATE UNIQUE INDEX ON shop.lines (updated_at) INCLUDE (note);
        CREATE TABLE shop.drafts (id int PRIMARY KEY, updated_at timestamp);
        CREATE VIEW shop.seen AS SELECT * FROM shop.lines;
        CREATE TABLE shop.parted (day date NOT NULL, id int NOT NULL, PRIMARY KEY (id, day))
            PARTITION BY RANGE (day);
        CREATE TABLE shop.parted_1 PARTITION OF shop.parted DEFAULT;
        CREATE TABLE shop.hidden (id int);
        CREATE TABLE shop.half (id int PRIMARY KEY, secret text, shown text NOT NULL);
        REVOKE ALL ON shop.hidden, shop.half FROM reader;
        GRANT SELECT (shown) ON shop.half TO reader;
        COMMENT ON COLUMN shop.lines.note IS 'For people.';
    """)
    found = connector.streams()
    assert set(found) == {"lines", "drafts", "seen", "parted", "half"}
    lines = found["lines"]
    assert lines["source_defined_primary_key"] == [["a"], ["b"]]
    assert lines["default_cursor_field"] == ["updated_at"]
    assert lines["supported_sync_modes"] == ["full_refresh", "incremental"]
    assert lines["json_schema"]["properties"]["a"] == {"type": "integer"}
    assert lines["json_schema"]["properties"]["note"] == {
        "type": ["null", "string"],
        "description": "For people.",
    }
    assert found["drafts"]["default_cursor_field"] == []
    assert found["seen"]["source_defined_primary_key"] == []
    assert found["seen"]["supported_sync_modes"] == ["full_refresh"]
    assert found["parted"]["source_defined_primary_key"] == [["id"], ["day"]]
    assert found["half"]["source_defined_primary_key"] == []
    assert list(found["half"]["json_schema"]["properties"]) == ["shown"]


NUMBERS = {
    "numeric": "big_number",
    "numeric(20,0)": "big_integer",
    "numeric(38)": "big_integer",
    "numeric(39)": "big_number",
    "numeric(36,-2)": "big_integer",
    "numeric(37,-2)": "big_number",
    "numeric(40,2)": "big_number",
    "shop.price": "big_number",
    "shop.counted": "big_integer",
}


def test_exact_numbers_are_declared_as_such(connector: Connector, shop: Owner) -> None:
    """What fits 38 digits is a big integer, through domains of domains too; the rest is text."""
    columns = ", ".join(f'"{kind}" {kind}' for kind in NUMBERS)
    shop.execute("CREATE DOMAIN shop.price AS numeric(12,2); CREATE DOMAIN shop.count AS numeric(18)")
    shop.execute("CREATE DOMAIN shop.counted AS shop.count CHECK (value >= 0)")
    shop.execute(f"CREATE TABLE shop.numbers ({columns})")
    found = properties(connector, "numbers")
    assert {kind: schema["airbyte_type"] for kind, schema in found.items()} == NUMBERS


# ---- values ------------------------------------------------------------------------------------------------

LONG = "1234567890123456789012345678901234567890.12345678900"
VALUES: list[tuple[str, str, Any]] = [
    ("bigint", "-9223372036854775808", -(2**63)),
    ("real", "0.1", 0.1),
    ("double precision", "0.1", 0.1),
    ("double precision", "'-Infinity'", "-Infinity"),
    ("numeric", LONG, LONG),
    ("numeric(20,4)", "0.5", "0.5000"),
    ("numeric", "'NaN'", "NaN"),
    ("boolean", "true", True),
    ("text", "E'Käse \"x\" \\\\ \\n\\u2028 \U0001f9c0'", 'Käse "x" \\ \n\u2028 \U0001f9c0'),
    ("char(4)", "'ab'", "ab"),  # to PostgreSQL the padding is no part of the value
    ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
    ("date", "'infinity'", "infinity"),
    ("date", "'12026-01-02'", "12026-01-02"),
    ("timestamp", "'2026-03-29 02:30:00.123456'", "2026-03-29T02:30:00.123456"),
    ("timestamp", "'0044-03-15 12:00 BC'", "0044-03-15T12:00:00 BC"),
    ("timestamptz", "'2026-03-29 02:30:00+05:30'", "2026-03-28T21:00:00+00:00"),
    ("timestamptz", "'-infinity'", "-infinity"),
    ("timestamptz", "'0044-03-15 12:00Z BC'", "0044-03-15T12:00:00+00:00 BC"),
    ("time", "'23:59:59.999999'", "23:59:59.999999"),
    ("timetz", "'12:00:00+05:30'", "12:00:00+05:30"),
    ("interval", "'1 month -3 days 00:00:01.5'", "P1M-3DT1.5S"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("jsonb", """'{"b": 1.10, "a": [null, "é"]}'""", {"a": [None, "é"], "b": 1.10}),
    ("json", """E'{"a":\n\r [1]}'""", {"a": [1]}),
    ("jsonb", "'null'", None),
    ("bytea", r"'\x00ff' || decode(repeat('ab', 100), 'hex')", None),
    ("shop.mood", "'so ''la'' la'", "so 'la' la"),
    ("shop.mood[]", "ARRAY['fine', NULL]::shop.mood[]", ["fine", None]),
    ("int[]", "ARRAY[1, NULL, 3]", [1, None, 3]),
    ("int[][]", "ARRAY[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ("numeric(30,20)[]", "ARRAY[1.12345678901234567890]", ["1.12345678901234567890"]),
    ("timestamptz[]", "ARRAY['2026-01-01 00:00Z'::timestamptz]", ["2026-01-01T00:00:00+00:00"]),
    ("jsonb[]", """ARRAY['{"a": 1}'::jsonb]""", [{"a": 1}]),
    ("bytea[]", r"ARRAY['\x00ff'::bytea]", ["\\x00ff"]),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("bit(3)", "B'101'", "101"),
    ("xml", "'<a>b</a>'", "<a>b</a>"),
    ("shop.pair", "ROW(1, 'x')::shop.pair", "(1,x)"),
    ("money", "12.5", "$12.50"),
    ("tsvector", "'a b'", "'a' 'b'"),
]  # fmt: skip


def test_values_are_those_of_postgresql(connector: Connector, shop: Owner) -> None:
    """Every kind of value in one row: none is rounded, moved or rewritten."""
    shop.execute("CREATE TYPE shop.mood AS ENUM ('fine', 'so ''la'' la')")
    shop.execute("CREATE TYPE shop.pair AS (a int, b text)")
    shop.execute("ALTER ROLE reader SET timezone = 'Asia/Kathmandu'")  # a role's own defaults change nothing
    shop.execute("ALTER ROLE reader SET intervalstyle = 'sql_standard'")
    try:
        columns = ", ".join(f"c{i} {kind}" for i, (kind, _, _) in enumerate(VALUES))
        shop.execute(f"CREATE TABLE shop.kinds ({columns})")
        shop.execute(f"INSERT INTO shop.kinds SELECT {', '.join(text for _, text, _ in VALUES)}")
        shop.execute("INSERT INTO shop.kinds DEFAULT VALUES")
        row, empty = connector.read("kinds", mode="full_refresh").rows("kinds")
    finally:
        shop.execute("ALTER ROLE reader RESET ALL")
    expected = {f"c{i}": value for i, (_, _, value) in enumerate(VALUES)}
    expected[f"c{[kind for kind, _, _ in VALUES].index('bytea')}"] = "AP+r" + "q6ur" * 33
    assert row == expected
    assert set(empty.values()) == {None}


def test_names_of_any_kind(connector: Connector, shop: Owner) -> None:
    """Names that SQL, JSON or psycopg could trip over; a table of more columns than a function takes."""
    many = ", ".join(f"c{i} int DEFAULT {i}" for i in range(300))
    shop.execute(
        f"""CREATE TABLE shop."T""o %s {{}}" ("a "" \\ %(x)s {{0}}" int PRIMARY KEY, "ä'" text, {many})"""
    )
    name = 'T"o %s {}'
    shop.execute(f"INSERT INTO shop.{psycopg.sql.Identifier(name).as_string()} VALUES (1, 'x')")
    [row] = connector.read(name, mode="full_refresh").rows(name)
    assert {k: v for k, v in row.items() if not k.startswith("c")} == {'a " \\ %(x)s {0}': 1, "ä'": "x"}
    assert [row[f"c{i}"] for i in range(300)] == list(range(300))


# ---- incremental -------------------------------------------------------------------------------------------


def test_incremental_takes_up_behind_the_last_row(
    connector: Connector, shop: Owner, shop_config: dict[str, Any]
) -> None:
    """From any state, among equal cursors too: no row is lost and none comes twice."""
    shop.execute(EVENTS)
    connector.config = shop_config | {"checkpoint_rows": 7}
    first = connector.read("events")
    assert ids(first) == list(range(1, 96))
    states = first.of("STATE")
    assert [s["sourceStats"]["recordCount"] for s in states] == [7] * 13 + [4]
    seen = 0
    for state in states:
        seen += state["sourceStats"]["recordCount"]
        assert ids(connector.read("events", state=[state])) == list(range(seen + 1, 96))
    assert first.statuses() == [("events", s) for s in ("STARTED", "RUNNING", "COMPLETE")]


def test_a_row_that_came_late_with_the_last_cursor_is_not_lost(connector: Connector, shop: Owner) -> None:
    """Before or behind the last key: the first has all rows of that cursor read again."""
    shop.execute(EVENTS)
    state = connector.read("events").of("STATE")[-1]
    shop.execute("UPDATE shop.events SET updated_at = (SELECT max(updated_at) FROM shop.events) WHERE id = 5")
    again = connector.read("events", state=[state])
    assert ids(again) == [5, *range(90, 96)]
    state = again.of("STATE")[-1]
    shop.execute("INSERT INTO shop.events SELECT 200, max(updated_at) FROM shop.events")
    behind = connector.read("events", state=[state])
    assert ids(behind) == [200]
    assert ids(connector.read("events", state=[behind.of("STATE")[-1]])) == []


def test_without_a_key_states_come_between_cursors(
    connector: Connector, shop: Owner, shop_config: dict[str, Any]
) -> None:
    """Rows of one cursor have no order then; each state is still exact."""
    shop.execute(EVENTS.replace("PRIMARY KEY", ""))
    connector.config = shop_config | {"checkpoint_rows": 7}
    first = connector.read("events")
    assert sorted(ids(first)) == list(range(1, 96))
    counts = [s["sourceStats"]["recordCount"] for s in first.of("STATE")]
    assert counts == [9, *[10] * 8, 6]
    for covered, state in zip((9, 19, 95), (*first.of("STATE")[:2], first.of("STATE")[-1]), strict=True):
        assert sorted(ids(connector.read("events", state=[state]))) == list(range(covered + 1, 96))


def test_infinity_is_no_end(connector: Connector, shop: Owner) -> None:
    """A row of the cursor infinity comes in each run, and rows behind the last finite cursor still come."""
    shop.execute(EVENTS)
    shop.execute("INSERT INTO shop.events VALUES (1000, 'infinity', '')")
    state = connector.read("events").of("STATE")[-1]
    shop.execute("INSERT INTO shop.events VALUES (96, '2026-02-01', '')")
    again = connector.read("events", state=[state])
    assert ids(again) == [96, 1000]
    assert again.of("STATE")[-1]["sourceStats"] == {"recordCount": 2}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("numeric", ["-1e30", "0.1", "0.10000000000000000000000000001", "1e40"]),
        ("date", ["0044-03-15 BC", "0001-01-01", "12026-01-01"]),
        ("text", ["", "Z", "a'b\\", "é"]),
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "f0000000-0000-0000-0000-000000000000"]),
        ("bigint", ["-9223372036854775808", "9223372036854775807"]),
        ("shop.at", ["0044-03-15 12:00:00.000001 BC", "2026-01-01 00:00:00.000001"]),
    ],
)
def test_cursors_of_every_kind(connector: Connector, shop: Owner, kind: str, values: list[str]) -> None:
    """A state holds the exact value: each row alone is behind the one before."""
    shop.execute("CREATE DOMAIN shop.at AS timestamp")
    shop.execute(f"CREATE TABLE shop.t (updated_at {kind} NOT NULL, id int NOT NULL)")
    state: list[Any] = []
    for i, value in enumerate(values):
        shop.execute(f"INSERT INTO shop.t VALUES ('{value.replace(chr(39), chr(39) * 2)}', {i})")
        said = connector.read("t", state=state)
        assert ids(said, "t") == [i]
        state = said.of("STATE")[-1:]


def test_a_state_of_another_cursor_is_not_used(connector: Connector, shop: Owner) -> None:
    """It says so, and reads from the start; a state of another program is an error."""
    shop.execute(EVENTS + "; ALTER TABLE shop.events ADD changed int NOT NULL DEFAULT 1")
    [state] = connector.read("events").of("STATE")
    connector.config = connector.config | {"cursor_columns": ["changed"]}
    again = connector.read("events", state=[state])
    assert len(ids(again)) == 95
    assert "read from the start" in again.of("LOG")[0]["message"]
    state["stream"]["stream_state"] = {"xmin": 3}
    foreign = connector.read("events", state=[state])
    assert foreign.exit_code == 1
    assert foreign.errors()[0]["failure_type"] == "config_error"


# ---- full refresh ------------------------------------------------------------------------------------------


def test_full_refresh_can_be_taken_up(connector: Connector, shop: Owner, shop_config: dict[str, Any]) -> None:
    """By the key, from each state; the last state says that it is complete."""
    shop.execute("""
        CREATE TYPE shop.size AS ENUM ('small', 'big');
        CREATE TABLE shop.parts (size shop.size, id int, PRIMARY KEY (size, id));
        INSERT INTO shop.parts
            SELECT s, i FROM unnest(enum_range(NULL::shop.size)) s, generate_series(1, 12) i
    """)
    connector.config = shop_config | {"checkpoint_rows": 10}
    whole = connector.read("parts", mode="full_refresh")
    rows = whole.rows("parts")
    assert rows == [{"size": s, "id": i} for s in ("small", "big") for i in range(1, 13)]
    first, second, last = whole.of("STATE")
    for covered, state in ((10, first), (20, second), (24, last)):
        assert connector.read("parts", mode="full_refresh", state=[state]).rows("parts") == rows[covered:]


def test_all_streams_are_of_one_moment(connector: Connector, shop: Owner, postgres_lite: Path) -> None:
    """What is written while it reads is seen in no stream."""
    shop.execute(EVENTS + "; CREATE TABLE shop.zzz (id int)")
    shop.execute(
        "INSERT INTO shop.events SELECT i, now(), repeat('x', 500) FROM generate_series(1000, 20000) i"
    )
    known = connector.streams()
    (connector.folder / "config").write_text(json.dumps(connector.config))
    catalog = {"streams": [{"stream": known[n], "sync_mode": "full_refresh"} for n in ("events", "zzz")]}
    (connector.folder / "catalog").write_text(json.dumps(catalog))
    argv = [postgres_lite, "read", "--config", "config", "--catalog", "catalog"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=connector.folder) as process:
        assert process.stdout is not None
        while b'"RECORD"' not in process.stdout.readline():
            pass  # ten megabytes are more than a pipe holds: it waits for us in the middle of `events`
        shop.execute("INSERT INTO shop.zzz VALUES (1); DELETE FROM shop.events")
        rest = [json.loads(line) for line in process.stdout]
    records = [m["record"]["stream"] for m in rest if m["type"] == "RECORD"]
    assert (records.count("events"), records.count("zzz")) == (19_095, 0)
    assert process.returncode == 0


# ---- failures ----------------------------------------------------------------------------------------------


def test_a_failure_in_the_middle_is_told_by_kind(connector: Connector, shop: Owner) -> None:
    """The stream is incomplete, what came before it is complete; the reason says whether to try again."""
    shop.execute(EVENTS)
    shop.execute("CREATE TABLE shop.n (id int); INSERT INTO shop.n VALUES (0)")
    shop.execute("CREATE VIEW shop.z AS SELECT 1 / id AS broken FROM shop.n")
    said = connector.read("events", "z", mode="full_refresh")
    assert said.exit_code == 1
    assert said.statuses()[-2:] == [("z", "STARTED"), ("z", "INCOMPLETE")]
    [error] = said.errors()
    assert error["message"] == "PostgreSQL: division by zero"
    assert (error["failure_type"], error["internal_message"]) == ("config_error", "22012")
    assert len(said.rows("events")) == 95


@pytest.mark.parametrize(
    ("cursor", "says"), [(["v"], "must be NOT NULL"), ([], "no cursor is chosen"), (["no"], "cannot be")]
)
def test_a_cursor_that_would_lose_rows_is_refused(
    connector: Connector, shop: Owner, cursor: list[str], says: str
) -> None:
    """Rows without a value would never be read."""
    shop.execute(EVENTS)
    stream = connector.streams()["events"] | {"default_cursor_field": []}
    entry = {"stream": stream, "sync_mode": "incremental", "cursor_field": cursor}
    said = connector("read", catalog={"streams": [entry]})
    assert (said.exit_code, said.errors()[0]["failure_type"]) == (1, "config_error")
    assert says in said.errors()[0]["message"]


def test_a_fault_of_its_own_is_told_without_values(
    connector: Connector, capfd: pytest.CaptureFixture[str]
) -> None:
    """Standard error has the place; neither has what the exception says."""
    said = connector("read", catalog={"streams": [{"stream": {PASSWORD: 1}}]})
    assert said.exit_code == 1
    assert said.errors()[0] == {
        "message": "The connector is at fault: KeyError.",
        "failure_type": "system_error",
        "internal_message": "",
    }
    shown = capfd.readouterr().err
    assert "reading.py" in shown
    assert PASSWORD not in shown + said.text


def test_files_that_are_not_json_are_told(connector: Connector) -> None:
    """No traceback, which would show what is in them."""
    said = connector("discover", config='{"password": "' + PASSWORD)
    assert said.exit_code == 1
    assert said.errors()[0]["message"] == "config cannot be read: it is not JSON."
    assert PASSWORD not in said.text
