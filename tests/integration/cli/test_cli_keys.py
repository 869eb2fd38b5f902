"""`airberg keys ...`: what it prints, does and refuses, on the real key store and a real table."""

from __future__ import annotations

import base64
import json
import os
import pty
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlglot import exp
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import AirbergError, ConfigurationFailed, Conflict, InvalidRequest, NotFound
from airberg.jobs.migrate import upgrade
from airberg.keys.cipher import ColumnCipher
from airberg.keys.kek import ensure_master_key
from airberg.keys.open import open_keys
from airberg.keys.port import AuditEntry
from airberg.keys.sql import SqlKeyStore
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings

OPERATOR = f"os:{pwd.getpwuid(os.getuid()).pw_name}"


class Home:
    """A deployment, in the environment of the command."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder)
        ensure_master_key(self.settings)
        upgrade(self.settings.database_url)

    @property
    def store(self) -> SqlKeyStore:
        """The key store."""
        return open_keys(self.settings)

    def log(self, name: str) -> list[AuditEntry]:
        """The audit log of a key, newest first."""
        return list(self.store.audit(name))

    def states(self, name: str) -> list[str]:
        """The states of a key's versions."""
        return [v.state for v in self.store.describe(name).versions]

    def process(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A command as a process."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
        environment["AIRBERG_HOME"] = str(self.settings.home)
        return subprocess.Popen(
            [sys.executable, "-m", "airberg.cli", "keys", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A new deployment."""
    made = Home(tmp_path / "home")
    monkeypatch.setenv("AIRBERG_HOME", str(made.settings.home))
    return made


@pytest.fixture
def people(home: Home) -> dict[str, bytes]:
    """A table `shop.people` with columns encrypted by both versions of `crm`; the ciphertexts by name."""
    store = home.store
    old = store.create("crm")
    new = store.rotate("crm", actor="test")
    store.create("other")
    values = {
        "old": ColumnCipher(old, b"shop.people.email", "random").encrypt_value(b"ann@example.com"),
        "new": ColumnCipher(new, b"shop.people.email", "random").encrypt_value(b"bob@example.com"),
    }
    catalog = open_catalog(home.settings)
    catalog.create_namespace_if_not_exists("shop")
    rows = pa.table(
        {"email": list(values.values()), "it's": [b"", b""], "contact": [{"phone": b""}, {"phone": b""}]}
    )
    table = catalog.create_table(
        "shop.people",
        schema=rows.schema,
        properties={
            "airberg.encryption.email": said("crm", "shop.people.email", "string"),
            "airberg.encryption.it's": said("crm", "shop.people.it's", "decimal(12,2)"),
            "airberg.encryption.contact.phone": said("other", "other", "date"),
        },
    )
    table.append(rows)
    return values


def said(key: str, aad: str, kind: str) -> str:
    """What a table says of an encrypted column."""
    return json.dumps({"key": key, "mode": "random", "alg": "AES256-GCM/tink", "aad": aad, "type": kind})


def run(*arguments: str) -> str:
    """What a command prints; what it refuses with is raised, and it printed nothing."""
    done = CliRunner().invoke(app, ["keys", *arguments])
    if isinstance(done.exception, AirbergError):
        assert done.output == ""
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


# ---- keys ------------------------------------------------------------------------------------------------


def test_keys_are_made_listed_and_shown(home: Home) -> None:
    """As a table for people and JSON for programs; never what is in them."""
    printed = run("create", "crm", "--owner", "ann@example.com", "--owner", "bob", "--role", "analysts")
    printed += run("rotate", "crm")
    lines = run("list").splitlines()
    assert [line.split(maxsplit=4) for line in lines] == [
        ["name", "state", "primary", "versions", "for"],
        ["crm", "enabled", "2", "2", "owners ann@example.com, bob; roles analysts"],
        ["default", "enabled", "1", "1", "everybody"],
    ]
    shown = run("show", "crm")
    ids = [f"{v.key_id:08x}" for v in home.store.describe("crm").versions]
    for number, (state, key_id) in enumerate(zip(["active", "primary"], ids, strict=True), 1):
        assert [state in line for line in shown.splitlines() if line.startswith(f"{number} ")] == [True]
        assert key_id in shown
    [crm, default] = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert (crm["owners"], crm["roles"], crm["primary"]) == (["ann@example.com", "bob"], ["analysts"], 2)
    assert (default["name"], default["restricted"]) == ("default", False)
    assert json.loads(run("show", "crm", "--json")) == crm
    printed += shown + "".join(lines) + json.dumps(crm)
    assert not any(k.raw.hex() in printed for k in home.store.versions("crm"))


def test_states_and_users_change_and_the_operator_is_in_the_log(home: Home) -> None:
    """Each change once, by the user of the operating system, whatever the environment says."""
    run("create", "crm")
    run("rotate", "crm")
    run("disable", "crm", "--version", "1")
    assert home.states("crm") == ["disabled", "primary"]
    run("disable", "crm")
    assert run("list").splitlines()[1].split()[:3] == ["crm", "disabled", "-"]
    run("enable", "crm")
    assert home.states("crm") == ["active", "primary"]
    run("allow", "crm", "--role", "analysts")
    assert home.store.describe("crm").roles == {"analysts"}
    run("allow", "crm", "--everybody")
    assert not home.store.describe("crm").restricted
    for wrong in ([], ["--everybody", "--owner", "ann"]):
        with pytest.raises(ConfigurationFailed) as e:
            run("allow", "crm", *wrong)
        assert e.value.code == "users-not-named"
    log = home.log("crm")
    assert [e.action for e in reversed(log)] == [
        "create",
        "rotate",
        "disable",
        "disable",
        "enable",
        "allow",
        "allow",
    ]
    assert {e.actor for e in log} == {OPERATOR}


def test_the_log_is_printed(home: Home) -> None:
    """Of one key or all, newest first; nothing in it steers the terminal."""
    run("create", "crm")
    home.store.record("eve\x1b[2J\nos:root", "decrypt", "crm", (1,), "a\rb")
    [head, first, second] = run("audit", "crm").splitlines()
    assert head.split() == ["at", "actor", "action", "key", "versions", "detail"]
    assert first.split()[1:] == ["eve?[2J?os:root", "decrypt", "crm", "1", "a?b"]
    assert second.split()[1:] == [OPERATOR, "create", "crm", "1", "everybody"]
    entries = [json.loads(line) for line in run("audit", "--json").splitlines()]
    assert [(e["key"], e["action"]) for e in entries] == [
        ("crm", "decrypt"),
        ("crm", "create"),
        ("default", "create"),
    ]
    assert entries[0]["actor"] == "eve\x1b[2J\nos:root"
    assert len(run("audit", "--limit", "1").splitlines()) == 2
    with pytest.raises(NotFound):
        run("audit", "nope")


def test_rewrap_wraps_with_the_master_key_of_now(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it the old master key is not needed any more; values decrypt as before."""
    run("create", "crm")
    run("rotate", "crm")
    run("destroy", "crm", "--version", "1", "--yes-destroy", "crm")
    before = home.store.versions("crm")
    old = (home.settings.secrets_dir / "master.key").read_text().strip()
    new = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("AIRBERG_KEYS__MASTER_KEY", f"{new},{old}")
    assert run("rewrap") == "2 version(s) wrapped with local://master\n"
    monkeypatch.setenv("AIRBERG_KEYS__MASTER_KEY", new)
    assert run("export", "crm", "--format", "hex").split()[2] == before[0].raw.hex()
    assert [(e.action, e.actor) for e in home.log("crm")][:2] == [("export", OPERATOR), ("rewrap", OPERATOR)]


# ---- destroying ------------------------------------------------------------------------------------------


def test_a_script_destroys_with_the_name_only(home: Home) -> None:
    """Without it, or with another one, nothing happens."""
    run("create", "crm")
    run("rotate", "crm")
    for wrong in ([], ["--yes-destroy", "crm2"], ["--yes-destroy", ""], ["--version", "1"]):
        with pytest.raises(Conflict, match="could never be read again") as e:
            run("destroy", "crm", *wrong)
        assert "--yes-destroy crm" in e.value.guidance
    assert home.states("crm") == ["active", "primary"]
    run("destroy", "crm", "--version", "1", "--yes-destroy", "crm")
    assert home.states("crm") == ["destroyed", "primary"]
    assert "destroyed" in run("destroy", "crm", "--yes-destroy", "crm")
    assert "destroyed" in run("destroy", "crm")  # there is nothing left to ask about
    with pytest.raises(Conflict) as refused:
        run("rotate", "crm")
    assert refused.value.code == "key-destroyed"
    assert [(e.action, e.versions) for e in home.log("crm")][:2] == [("destroy", (2,)), ("destroy", (1,))]


@pytest.mark.parametrize(
    ("answers", "code", "states"),
    [
        ("n\n", 1, ["primary"]),
        ("y\ncrn\n", 1, ["primary"]),
        ("y\n\n", 1, ["primary"]),
        ("y\ncrm\n", 0, ["destroyed"]),
    ],
)
def test_at_a_terminal_it_asks_twice(home: Home, answers: str, code: int, states: list[str]) -> None:
    """Whether it is meant, and for the name."""
    run("create", "crm")
    ours, theirs = pty.openpty()
    with home.process("destroy", "crm", stdin=theirs, start_new_session=True) as process:
        os.close(theirs)
        os.write(ours, answers.encode())
        printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, home.states("crm")) == (code, states), printed
    assert "This would erase 1 version (1) of the encryption key 'crm'" in printed
    assert ("Nothing was erased" in printed) == (code == 1)


def test_without_a_terminal_nothing_is_asked(home: Home) -> None:
    """Answers from a pipe do not count: exit code 1, and an error as the last line."""
    run("create", "crm")
    with home.process("destroy", "crm", stdin=subprocess.PIPE) as process:
        printed, _ = process.communicate("y\ncrm\n", timeout=60)
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith("error: This would erase 1 version (1)")
    assert home.states("crm") == ["primary"]


# ---- export ----------------------------------------------------------------------------------------------


def opened(key: bytes, ciphertext: bytes) -> bytes:
    """Decrypted without any of our code."""
    return AESGCM(key).decrypt(ciphertext[5:17], ciphertext[17:], b"shop.people.email")


def test_hex_decrypts_what_the_table_holds(home: Home, people: dict[str, bytes]) -> None:
    """A line for each version with its key id, or the key alone when a version is named."""
    lines = [line.split() for line in run("export", "crm", "--format", "hex").splitlines()]
    assert [number for number, _, _ in lines] == ["1", "2"]
    keys = {bytes.fromhex(key_id): bytes.fromhex(key) for _, key_id, key in lines}
    assert opened(keys[people["old"][1:5]], people["old"]) == b"ann@example.com"
    assert opened(keys[people["new"][1:5]], people["new"]) == b"bob@example.com"
    assert run("export", "crm", "--format", "hex", "--version", "1") == lines[0][2] + "\n"


def test_a_keyset_has_the_versions_that_decrypt(home: Home, people: dict[str, bytes]) -> None:
    """And no others."""
    keyset = json.loads(run("export", "crm", "--format", "tink"))
    ids = [v.key_id for v in home.store.describe("crm").versions]
    assert ([k["keyId"] for k in keyset["key"]], keyset["primaryKeyId"]) == (ids, ids[1])
    run("disable", "crm", "--version", "1")
    keyset = json.loads(run("export", "crm", "--format", "tink"))
    assert [k["keyId"] for k in keyset["key"]] == ids[1:]


ENGINES = ["spark", "databricks", "bigquery", "clickhouse", "snowflake"]


@pytest.mark.parametrize("engine", ENGINES)
def test_sql_is_about_the_column_as_the_table_says(home: Home, people: dict[str, bytes], engine: str) -> None:
    """Its name, associated data, type and key come from the table's properties."""
    arguments = ["export", "crm", "--format", engine, "--table", "shop.people", "--column", "it's"]
    text = run(*arguments)
    [tree] = sqlglot.parse(text, read=engine)
    assert isinstance(tree, exp.Select)
    assert tree.expressions[0].alias == "it's"
    [table] = tree.find_all(exp.Table)
    assert (table.db, table.name) == ("shop", "people")
    assert tree.find(exp.Cast) is not None
    assert text.startswith("-- Key crm, versions 1, 2.\n")
    raws = [k.raw.hex() for k in home.store.versions("crm")]
    assert not any(raw in text for raw in raws)
    assert "export" not in [e.action for e in home.log("crm")]
    with_key = run(*arguments, "--with-key", "--version", "2", "--skip-unreadable")
    assert with_key.startswith("-- Key crm, version 2.\n-- This text holds the key")
    assert raws[0] not in with_key
    wanted = (
        base64.b64encode(b"\x1a\x20" + bytes.fromhex(raws[1])).decode() if engine == "bigquery" else raws[1]
    )
    assert wanted in with_key
    entry = home.log("crm")[0]
    assert (entry.action, entry.actor, entry.versions) == ("export", OPERATOR, (2,))
    assert entry.detail == f"{engine} of shop.people: it's"


def test_nested_columns_are_exported(home: Home, people: dict[str, bytes]) -> None:
    """A field of a struct is named with dots, as everywhere."""
    text = run("export", "other", "--format", "duckdb", "--table", "shop.people", "--column", "contact.phone")
    assert 't."contact"."phone"' in text
    assert "encode(\\'other\\')" in text or "encode('other')" in text
    assert "AS DATE" in text


def test_every_export_with_a_key_is_in_the_log_before_it_is_written(
    home: Home, people: dict[str, bytes]
) -> None:
    """Hex, keyset and SQL with the key, with where they went; SQL with placeholders is not."""
    run("export", "crm", "--format", "hex")
    run("export", "crm", "--format", "tink", "--version", "2")
    sql = ["--table", "shop.people", "--column", "email"]
    run("export", "crm", "--format", "duckdb", *sql)
    run("export", "crm", "--format", "duckdb", *sql, "--with-key")
    assert [(e.versions, e.detail) for e in home.log("crm") if e.action == "export"] == [
        ((1, 2), "duckdb of shop.people: email"),
        ((2,), "tink"),
        ((1, 2), "hex"),
    ]


def test_files_are_new_and_for_their_owner_only(home: Home, people: dict[str, bytes], tmp_path: Path) -> None:
    """Mode 0600 whatever the umask; what is there is never written over, and then nothing is in the log."""
    target = tmp_path / "crm.json"
    before = os.umask(0)
    try:
        assert run("export", "crm", "--format", "tink", "--output", str(target)) == f"written: {target}\n"
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(json.loads(target.read_text())["key"]) == 2
    assert home.log("crm")[0].detail == f"tink, to {target}"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    log = home.log("crm")
    for place in (target, tmp_path / "link", tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(ConfigurationFailed) as e:
            run("export", "crm", "--format", "hex", "--output", str(place))
        assert e.value.code == "output-not-writable"
    assert home.log("crm") == log
    assert not (tmp_path / "elsewhere").exists()
    assert len(json.loads(target.read_text())["key"]) == 2


SQL = ["--format", "spark", "--table", "shop.people"]


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["nope", "--format", "hex"], NotFound, "unknown-key"),
        (["crm", "--format", "hex", "--version", "3"], NotFound, "unknown-key-version"),
        (["crm", "--format", "spark"], ConfigurationFailed, "column-not-named"),
        (["crm", *SQL], ConfigurationFailed, "column-not-named"),
        (
            ["crm", "--format", "hex", "--column", "email", "--table", "shop.people"],
            ConfigurationFailed,
            "column-not-named",
        ),
        (["crm", *SQL, "--column", "nope"], InvalidRequest, "unknown-column"),
        (["crm", *SQL, "--column", "contact"], InvalidRequest, "not-encrypted"),
        (["crm", *SQL, "--column", "contact.phone"], Conflict, "other-key"),
        (["crm", "--format", "spark", "--table", "people", "--column", "email"], NotFound, "not-found"),
        (["crm", "--format", "spark", "--table", "shop.no", "--column", "email"], NotFound, "not-found"),
    ],
)
def test_what_cannot_be_exported(
    home: Home, people: dict[str, bytes], arguments: list[str], error: type[AirbergError], code: str
) -> None:
    """It is said, nothing is printed, and nothing is in the log."""
    with pytest.raises(error) as e:
        run("export", *arguments, "--with-key")
    assert e.value.code == code
    assert "export" not in [x.action for x in home.store.audit()]


@pytest.mark.parametrize(("verb", "code"), [("disable", "key-disabled"), ("destroy", "key-destroyed")])
def test_keys_out_of_use_are_not_exported(home: Home, people: dict[str, bytes], verb: str, code: str) -> None:
    """Neither one version nor the whole key, with the key or without."""
    confirmed = ["--yes-destroy", "crm"] if verb == "destroy" else []
    run(verb, "crm", "--version", "1", *confirmed)
    column = [*SQL, "--column", "email"]
    for form in (["--format", "hex"], column, [*column, "--with-key"]):
        with pytest.raises(ConfigurationFailed, match="Version 1") as e:
            run("export", "crm", *form, "--version", "1")
        assert e.value.code == code
    assert len(run("export", "crm", "--format", "hex").splitlines()) == 1
    run(verb, "crm", *confirmed)
    for form in (["--format", "hex"], column, [*column, "--with-key"]):
        with pytest.raises(ConfigurationFailed) as e:
            run("export", "crm", *form)
        assert e.value.code == code
