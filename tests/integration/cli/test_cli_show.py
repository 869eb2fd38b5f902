"""`airberg tables show`: encrypted columns in a terminal, for those who may read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import AirbergError, InvalidRequest, NotAllowed
from airberg.identity.development import DevelopmentIssuer
from support.deployment import Deployment, write_scenario

ANN = "ann@example.com"


@pytest.fixture
def deployment(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A deployment with the table `shop.users`, whose key is Ann's, in the environment of the command."""
    made = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)
    made.keys.create("crm", owners={ANN})
    records = [{"id": 1, "name": "Änne", "mail": "a@b.c", "card": "12345"}, {"id": 2, "name": None}]
    rules = [
        {"column": "name", "transformation_type": "encrypt", "encryption_key_name": "crm"},
        {"column": "mail", "transformation_type": "hash", "encryption_key_name": "crm"},
        {"column": "card", "transformation_type": "mask", "keep_last": 2},
    ]
    scenario = write_scenario(tmp_path, {"streams": [{"name": "users", "records": records}]})
    made.run(made.job(scenario, column_transformations=rules))
    monkeypatch.setenv("AIRBERG_HOME", str(made.home))
    monkeypatch.setenv("COLUMNS", "200")
    return made


def show(*arguments: str) -> str:
    """What `airberg tables show` prints."""
    done = CliRunner().invoke(app, ["tables", "show", "shop.users", *arguments])
    if isinstance(done.exception, AirbergError):
        assert done.output == ""  # a refusal stands alone
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_an_encrypted_column_is_shown(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the owner's token it is text, without it an error; undecrypted it is what it was before."""
    stored = show()
    assert "2 rows" in stored
    assert "encrypted: name (string, key crm, random)" in stored
    assert "hashed: mail (string, key crm)" in stored
    assert "masked: card (string, but for the last 2)" in stored
    assert "***45" in stored
    assert "Änne" not in stored
    with pytest.raises(NotAllowed, match="'crm'"):
        show("--decrypt", "name")
    issuer = DevelopmentIssuer(deployment.settings)
    monkeypatch.setenv("AIRBERG_TOKEN", issuer.mint("a", [], email=ANN))
    shown = show("--decrypt", "name")
    assert "Änne" in shown
    assert re.search(r"name\W+id\b", shown)  # first: a terminal has not always room for all
    assert "Änne" not in show("--decrypt", "name", "--rows", "0")
    assert show() == stored
    with pytest.raises(InvalidRequest, match="not encrypted"):
        show("--decrypt", "id")
    with pytest.raises(InvalidRequest) as hashed:
        show("--decrypt", "mail")
    assert hashed.value.problems[0].guidance == (
        "It is hashed or masked, which cannot be undone. Encrypted: name."
    )
    monkeypatch.setenv("AIRBERG_TOKEN", issuer.mint("b", [], email="bob@example.com"))
    with pytest.raises(NotAllowed):
        show("--decrypt", "name")
