"""`read_table` and `read_batches` on a table that real runs wrote, and on small ones made by hand."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr
from pyiceberg.expressions import EqualTo

import airberg
from airberg.errors import ConfigurationFailed, InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from airberg.identity.development import DevelopmentIssuer
from airberg.keys.cipher import ColumnCipher
from airberg.reader.rows import BATCH_BYTES
from support.deployment import Deployment
from support.encrypted_people import BIG, ENCRYPTED, KEY, NAME, load_people, rows

ANN = "ann@example.com"
pytestmark = pytest.mark.xdist_group("reader")  # its table takes some seconds


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment with the table `shop.people`."""
    folder = tmp_path_factory.mktemp("people")
    made = Deployment(folder / "home", pyairbyte_dir, connectors_dir)
    load_people(made, folder)
    return made


@pytest.fixture(autouse=True)
def _everybody_may_use_the_key(deployment: Deployment) -> Iterator[None]:
    """What a test does to the key is undone."""
    yield
    deployment.keys.enable(KEY, actor="test")
    deployment.keys.allow(KEY, actor="test", owners=frozenset(), roles=frozenset())


def read(deployment: Deployment, *decrypt: str, **how: Any) -> list[dict[str, Any]]:
    """Rows of the table, by their ids."""
    found = airberg.read_table(how.pop("name", NAME), decrypt, settings=deployment.settings, **how)
    return sorted(found.to_pylist(), key=lambda row: row.get("id", 0))


def ids(deployment: Deployment, where: Any, *decrypt: str) -> list[int]:
    """Ids of the rows that meet a condition."""
    return [row["id"] for row in read(deployment, *decrypt, columns=["id"], where=where)]


# ---- values ------------------------------------------------------------------------------------------------


def test_every_value_comes_back(deployment: Deployment) -> None:
    """Of both versions of the key and both modes, nested, empty, null, large, and in its own type."""
    assert read(deployment, *ENCRYPTED, columns=["id"]) == rows()


def test_what_is_not_decrypted_stays_as_it_is_stored(deployment: Deployment) -> None:
    """All columns of the table are there, in its order, encrypted ones as bytes."""
    found = airberg.read_table(NAME, ["email"], settings=deployment.settings)
    stored = deployment.table("people").scan().to_arrow()
    assert found.schema.names == stored.schema.names
    assert found.schema.field("email").type == pa.large_string()
    assert found.schema.field("name").type == stored.schema.field("name").type == pa.large_binary()
    by_id = {row["id"]: row for row in stored.to_pylist()}
    for row in found.to_pylist():
        assert row == by_id[row["id"]] | {"email": row["email"]}


def test_nothing_is_decrypted_unless_it_is_asked_for(deployment: Deployment) -> None:
    """Then no key is opened, and nobody is told."""
    before = deployment.keys.audit(KEY)
    stored = deployment.table("people").scan().to_arrow()
    assert airberg.read_table(NAME, settings=deployment.settings).cast(stored.schema).equals(stored)
    assert deployment.keys.audit(KEY) == before


def test_columns_and_limits(deployment: Deployment) -> None:
    """Columns come in the table's order; a limit bounds the rows, also to none."""
    found = airberg.read_table(
        NAME, ["contact.phone"], columns=["name", "id"], limit=2, settings=deployment.settings
    )
    assert found.schema.names == ["id", "name", "contact"]
    assert found.num_rows == 2
    assert read(deployment, "email", limit=0) == []
    assert len(read(deployment, "email", limit=99)) == len(rows())
    with pytest.raises(InvalidRequest):
        read(deployment, limit=-1)
    with pytest.raises(TypeError):
        airberg.read_table(NAME, "email", settings=deployment.settings)


def test_batches_are_small(deployment: Deployment) -> None:
    """Files with large values are read a few rows at a time; a limit ends the reading."""
    batches = list(airberg.read_batches(NAME, ["name"], settings=deployment.settings))
    assert sum(batch.num_rows for batch in batches) == len(rows())
    assert max(batch.nbytes for batch in batches) < 2 * len(BIG.encode()) + BATCH_BYTES
    [one] = airberg.read_batches(NAME, ["name"], limit=1, settings=deployment.settings)
    assert one.num_rows == 1


# ---- conditions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "decrypt", "wanted"),
    [
        ("id > 4", (), [5, 6]),
        ("id > 1 and email = 'ann@example.com'", ("email",), [4, 5]),
        ("email = 'ann@example.com' or id = 3", ("email",), [1, 3, 4, 5]),
        ("not (email = 'ann@example.com') and id < 3", ("email",), [2]),
        ("contact.phone = '110'", ("contact.phone",), [6]),
        ("contact.city = 'Ulm'", (), [1, 5]),
        ("contact.city = 'Ulm' and contact.phone = '+49 1'", ("contact.phone",), [1, 5]),
        ("amount < 0", ("amount",), [2]),
        ("born >= '1970-01-01'", ("born", "name"), [1, 5]),
        ("visits in (0, -1)", ("visits",), [2, 6]),
        ("active = true", ("active",), [1, 5]),
        ("email is null", ("email",), [3]),
        ("email is not null and id < 4", (), [1, 2]),
        ("id < 0", ("email",), []),
        (None, ("email",), [1, 2, 3, 4, 5, 6]),
    ],
)
def test_conditions(deployment: Deployment, where: Any, decrypt: tuple[str, ...], wanted: list[int]) -> None:
    """They look at stored and at decrypted values, also of columns that are not given."""
    assert ids(deployment, where, *decrypt) == wanted


def test_a_limit_counts_rows_that_meet_the_condition(deployment: Deployment) -> None:
    """Decrypted values are looked at first."""
    found = read(deployment, "email", where="email = 'ann@example.com'", limit=2)
    assert [row["email"] for row in found] == [ANN] * 2


@pytest.mark.parametrize(
    "where",
    [
        "email = 's3cret'",
        "id = 1 or not (contact.phone = 's3cret')",
        "id = 's3cret'",
        "nobody = 's3cret'",
        "x'",
    ],
)
def test_conditions_that_are_not_understood(deployment: Deployment, where: str) -> None:
    """The error does not repeat what was compared with, and says what may be the reason."""
    with pytest.raises(InvalidRequest) as caught:
        read(deployment, "name", where=where)
    assert caught.value.code == "bad-condition"
    assert "s3cret" not in caught.value.sentence()
    assert "have to be decrypted" in caught.value.guidance


def test_ciphertexts_can_be_compared(deployment: Deployment) -> None:
    """Those of a deterministic column, with an expression: without reading the key."""
    [sealed] = read(deployment, columns=["email"], where="id = 4")
    assert ids(deployment, EqualTo("email", sealed["email"])) == [1, 4, 5]


# ---- what cannot be read -----------------------------------------------------------------------------------


def test_unknown_and_plain_columns(deployment: Deployment) -> None:
    """All that is wrong is said at once, with what would be right."""
    with pytest.raises(InvalidRequest) as caught:
        read(deployment, "emial", "email", "id", "contact.city", "contact.fax")
    assert [(p.pointer, p.code) for p in caught.value.problems] == [
        ("/decrypt/0", "unknown-column"),
        ("/decrypt/2", "not-encrypted"),
        ("/decrypt/3", "not-encrypted"),
        ("/decrypt/4", "unknown-column"),
    ]
    assert '"email"' in caught.value.problems[0].guidance
    assert "contact.phone" in caught.value.problems[1].guidance
    with pytest.raises(InvalidRequest, match="no column 'nmae'"):
        read(deployment, columns=["nmae"])
    for name in ("shop.nobody", "nowhere.people", "people"):
        with pytest.raises(NotFound, match="no table"):
            read(deployment, name=name)


def test_a_disabled_key(deployment: Deployment) -> None:
    """Nothing of it is read; other columns are."""
    deployment.keys.disable(KEY, actor="test")
    with pytest.raises(ConfigurationFailed) as caught:
        read(deployment, "email")
    assert caught.value.code == "key-disabled"
    assert len(read(deployment)) == len(rows())


def test_a_disabled_version(deployment: Deployment) -> None:
    """Rows of the other one are read; the error for the first names column, key and version."""
    deployment.keys.disable(KEY, actor="test", version=1)
    assert [row["name"] for row in read(deployment, "name", where="id > 4")] == ["Ünal", None]
    with pytest.raises(ConfigurationFailed, match="'name' has values of versions of the key 'crm'") as caught:
        read(deployment, "name")
    assert (caught.value.code, "version 1 is disabled" in caught.value.message) == ("key-disabled", True)


def by_hand(deployment: Deployment, name: str, values: list[bytes | None], **said: str) -> None:
    """A table with a binary column `secret` and what it says of it."""
    rows = pa.table({"secret": pa.array(values, pa.binary())})
    table = deployment.catalog.create_table(f"shop.{name}", rows.schema)
    table.append(rows)
    facts = {"key": KEY, "mode": "random", "alg": "AES256-GCM/tink", "aad": "a", "type": "string"} | said
    with table.transaction() as change:
        change.set_properties({"airberg.encryption.secret": json.dumps(facts)})


def test_a_name_with_a_dot(deployment: Deployment) -> None:
    """A column may have dots in its own name, in a condition too."""
    sealed = ColumnCipher(deployment.keys.primary(KEY), b"a", "random").encrypt_value(b"x")
    rows = pa.table({"id": [1, 2], "first.name": pa.array([sealed, None])})
    table = deployment.catalog.create_table("shop.dotted", rows.schema)
    table.append(rows)
    facts = {"key": KEY, "mode": "random", "alg": "AES256-GCM/tink", "aad": "a", "type": "string"}
    with table.transaction() as change:
        change.set_properties({"airberg.encryption.first.name": json.dumps(facts)})
    found = read(deployment, "first.name", name="shop.dotted", where="first.name = 'x'")
    assert found == [{"id": 1, "first.name": "x"}]
    assert [row["id"] for row in read(deployment, name="shop.dotted", where="first.name is null")] == [2]


def test_a_destroyed_version(deployment: Deployment) -> None:
    """Its rows are gone for good, those of the next version are not."""
    keys = deployment.keys
    old = ColumnCipher(keys.create("short-lived"), b"a", "random")
    new = ColumnCipher(keys.rotate("short-lived", actor="test"), b"a", "random")
    by_hand(deployment, "old", [None, old.encrypt_value(b"x")], key="short-lived")
    by_hand(deployment, "new", [None, new.encrypt_value(b"y")], key="short-lived")
    keys.destroy("short-lived", actor="test", version=1)
    assert read(deployment, "secret", name="shop.new") == [{"secret": None}, {"secret": "y"}]
    with pytest.raises(ConfigurationFailed, match="version 1 is destroyed") as caught:
        read(deployment, "secret", name="shop.old")
    assert caught.value.code == "key-destroyed"
    keys.destroy("short-lived", actor="test")
    with pytest.raises(ConfigurationFailed) as gone:
        read(deployment, "secret", name="shop.new")
    assert gone.value.code == "key-destroyed"


def test_values_that_are_not_what_the_table_says(deployment: Deployment) -> None:
    """Other associated data, another key, another type, no ciphertext: errors that name the column."""
    sealed = ColumnCipher(deployment.keys.primary(KEY), b"a", "random").encrypt_value(b"s3cret")
    deployment.keys.create("other", exist_ok=True)
    cases: list[tuple[bytes, dict[str, str], str]] = [
        (sealed, {"aad": "b"}, "cannot-decrypt"),
        (sealed, {"key": "other"}, "cannot-decrypt"),
        (sealed, {"type": "date"}, "decrypted-type"),
        (sealed, {"alg": "ROT13"}, "unknown-encryption"),
        (b"s3cret", {}, "cannot-decrypt"),
    ]
    for number, (value, said, code) in enumerate(cases):
        by_hand(deployment, f"odd{number}", [value], **said)
        with pytest.raises(ConfigurationFailed, match=r"secret'|encryption\.secret") as caught:
            read(deployment, "secret", name=f"shop.odd{number}")
        assert caught.value.code == code
        assert "s3cret" not in caught.value.sentence()
    by_hand(deployment, "lost", [sealed], key="never-made")
    with pytest.raises(NotFound, match="never-made"):
        read(deployment, "secret", name="shop.lost")


# ---- who may read ------------------------------------------------------------------------------------------


def token(deployment: Deployment, email: str, *roles: str, ttl: int = 600) -> str:
    """An access token of the development issuer."""
    return DevelopmentIssuer(deployment.settings).mint(email, [], ttl, email=email, roles=[*roles])


def test_a_restricted_key(deployment: Deployment) -> None:
    """Only those that it lists read, by their address or by a role, and a token has to say so."""
    deployment.keys.allow(KEY, actor="test", owners={ANN}, roles={"analysts"})
    for allowed in (token(deployment, ANN), token(deployment, "bob@example.com", "x", "analysts")):
        assert len(read(deployment, "email", token=allowed)) == len(rows())
    for refused in (token(deployment, "bob@example.com"), token(deployment, "ann@example.org", "x")):
        with pytest.raises(NotAllowed) as caught:
            read(deployment, "email", token=refused)
        assert caught.value.code == "key-not-allowed"
        assert "token" not in caught.value.sentence()
    with pytest.raises(NotAllowed, match="no access token says who") as caught:
        read(deployment, "email")
    assert "AIRBERG_TOKEN" in caught.value.guidance
    assert "`airberg token`" in caught.value.guidance
    assert len(read(deployment)) == len(rows())


def test_the_token_may_come_with_the_settings(deployment: Deployment) -> None:
    """The argument goes before it."""
    deployment.keys.allow(KEY, actor="test", owners={ANN}, roles=set())
    settings = deployment.settings.model_copy(update={"token": SecretStr(token(deployment, ANN))})
    assert airberg.read_table(NAME, ["email"], settings=settings).num_rows == len(rows())
    with pytest.raises(NotAllowed):
        airberg.read_table(NAME, ["email"], settings=settings, token=token(deployment, "bob@example.com"))


def test_a_token_that_does_not_hold(deployment: Deployment) -> None:
    """It is refused for keys of everybody too: whoever shows one is somebody."""
    changed = token(deployment, ANN)[:-4] + "AAAA"
    for refused in (changed, token(deployment, ANN, ttl=-600), "no token"):
        with pytest.raises(NotAuthenticated):
            read(deployment, "email", token=refused)


# ---- the audit log -----------------------------------------------------------------------------------------


def test_each_reading_leaves_an_entry(deployment: Deployment) -> None:
    """Who, which table and columns, which versions; when the call is made, before the first row."""
    batches = airberg.read_batches(
        NAME, ["email", "contact.phone"], settings=deployment.settings, token=token(deployment, ANN)
    )
    [entry] = deployment.keys.audit(KEY, 1)
    assert (entry.action, entry.versions) == ("decrypt", (1, 2))
    assert entry.actor == f"{ANN} (urn:airberg:development|{ANN})"
    assert entry.detail == f"{NAME}: email, contact.phone"
    assert dt.datetime.now(dt.UTC) - entry.at < dt.timedelta(minutes=5)
    assert sum(batch.num_rows for batch in batches) == len(rows())
    assert deployment.keys.audit(KEY, 1) == [entry]
    read(deployment, "email")
    [without] = deployment.keys.audit(KEY, 1)
    assert without.actor.startswith("os:")


def test_a_refused_reading_leaves_none(deployment: Deployment) -> None:
    """It has read nothing."""
    deployment.keys.allow(KEY, actor="test", owners={ANN}, roles=set())
    before = deployment.keys.audit(KEY)
    with pytest.raises(NotAllowed):
        read(deployment, "email")
    with pytest.raises(InvalidRequest):
        read(deployment, "email", "nobody", token=token(deployment, ANN))
    assert deployment.keys.audit(KEY) == before
