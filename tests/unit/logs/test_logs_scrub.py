"""Secrets are taken out of log lines, in whatever way a library prints them."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from airberg.logs.scrub import MAX_TEXT, Scrubber, secrets_in
from airberg.settings import AirflowSettings, KeySettings, Settings

SECRET = "pl4nted-S3cret"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
SERVICE_KEY = f"abk_{'0f' * 16}_{'Ab-_' * 10}xyz"


@pytest.mark.parametrize(
    "line",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}==",
        f"headers={{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}",
        f'{{"authorization-psk": "{SECRET}"}}',
        f"b'authorization', b'Bearer {SECRET}'",
        f"Cookie: session={SECRET}",
        f"connection to postgresql+psycopg://airberg:{SECRET}@db.example.com/x failed",
        f"password={SECRET} host=db",
        f"passwd: {SECRET}",
        f'"client_secret": "{SECRET} with \\" blanks"',
        f"AIRBERG_KEYS__VAULT_TOKEN={SECRET}",
        f"aws_secret_access_key = {SECRET}",
        f"https://example.com/x?access_token={SECRET}&y=1",
        f"api-key='{SECRET}'",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_forms_of_secrets_are_hidden(line: str) -> None:
    """Without that anybody has told the value."""
    assert SECRET not in Scrubber().text(line)
    assert "**********" in Scrubber().text(line)


@pytest.mark.parametrize("token", [JWT, SERVICE_KEY, JWT.rpartition(".")[0]])
def test_tokens_are_hidden_wherever_they_stand(token: str) -> None:
    """Also in quotes, addresses and at the end."""
    for line in (token, f"got '{token}'", f"https://example.com/{token}/x", f"a={token}"):
        assert token not in Scrubber().text(line)


@pytest.mark.parametrize(
    "line",
    [
        "GET /api/jobs 200",
        "job 8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d is stored",
        "secret://vault/kv/sales#password is not there",
        "https://user@example.com/path",
        "http://127.0.0.1:8080/api/v2/dags",
        "stream users: 12 rows, key id, tokens 5",
        "the bearer was late",
    ],
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    """A log that hides what it is about helps nobody."""
    assert Scrubber().text(line) == line


def test_known_values_are_hidden_in_all_forms() -> None:
    """As the connectors' redactor does: in base64, in URLs, in JSON."""
    found = Scrubber(['s3cret/with"quote']).text(
        'x s3cret/with"quote, s3cret%2Fwith%22quote, s3cret/with\\"quote'
    )
    assert "s3cret" not in found


def test_values_are_hidden_by_the_names_of_their_fields() -> None:
    """At any depth; numbers, counts and unknown objects are shown as what they are."""

    class Odd:
        def __str__(self) -> str:
            return f"Bearer {SECRET}"

    shown = Scrubber().value(
        "headers",
        {
            "Authorization": SECRET,
            "nested": [{"api_key": SECRET}, {"note": f"token={SECRET}"}],
            "vault_token": SECRET,
            "tokens": 5,
            "rows": 7,
            "odd": Odd(),
            "deep": {"a": {"b": {"c": {"d": {"e": SECRET}}}}},
        },
    )
    assert SECRET not in str(shown)
    assert isinstance(shown, dict)
    assert (shown["rows"], shown["tokens"]) == (7, 5)


def test_a_line_of_megabytes_is_cut() -> None:
    """And looked at in one pass, whatever it is made of."""
    for unit in ("a_", "eyJ-", "token=", '"', "\\", "://a:", "-----BEGIN PRIVATE KEY-----", "bearer "):
        shown = Scrubber(["known"]).text(unit * 100_000)
        assert len(shown) < 3 * MAX_TEXT
    assert "characters more" in Scrubber().text("x" * (MAX_TEXT + 1))


def test_control_characters_do_not_reach_a_terminal() -> None:
    """They could hide the line, or those around it."""
    assert Scrubber().text("a\x1b[2Jb\x00c\u202ed") == "abcd"


def test_the_secrets_of_the_settings_are_known() -> None:
    """Those of all groups, and nothing else."""
    settings = Settings(
        token=SecretStr("one-token"),
        airflow=AirflowSettings(password=SecretStr("two-password")),
        keys=KeySettings(vault_token=SecretStr("three-token")),
    )
    assert secrets_in(settings) == {"one-token", "two-password", "three-token"}
