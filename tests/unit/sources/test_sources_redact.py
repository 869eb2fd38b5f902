"""Secrets are taken out of texts, in all the forms in which programs print them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.sources.redact import MASK, MIN_LENGTH, Redactor, without_url_credentials

SECRETS = st.text(min_size=MIN_LENGTH, max_size=30).filter(lambda s: len(s.strip()) >= MIN_LENGTH)


@pytest.mark.parametrize(
    "secret", ["hunter2!", 'quo"te\\back/slash', "größe é&=?", "a b/c d%e", "tab\tand\nline two long"]
)
def test_every_printed_form_is_hidden(secret: str) -> None:
    """Plain, JSON, Python literal, URL and base64 forms, also of a login that holds the secret."""
    redactor = Redactor([secret])
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    forms = [
        secret,
        json.dumps({"p": secret}),
        json.dumps({"p": secret}, ensure_ascii=False),
        repr({"p": secret}),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        base64.b64encode(secret.encode()).decode(),
        f"Authorization: Basic {basic}",
    ]
    for form in forms:
        hidden = redactor.text(f"before {form} after")
        assert MASK in hidden, form
        assert secret not in hidden
        assert form not in hidden
        assert hidden.startswith("before ")
        assert hidden.endswith(" after")


def test_lines_of_a_key_file_are_hidden_one_by_one() -> None:
    """A PEM key is printed in pieces; no line of it shows."""
    lines = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBg", "kqhkiG9w0BAQEF", "-----END PRIVATE KEY-----"]
    hidden = Redactor(["\n".join(lines)]).text(
        "could not parse line MIIEvQIBADANBg of the key\nkqhkiG9w0BAQEF"
    )
    assert hidden == f"could not parse line {MASK} of the key\n{MASK}"


def test_short_values_are_left_alone() -> None:
    """Hiding every `on` or `1` would hide nothing and spoil each text."""
    assert Redactor(["1", "on", ""]).text("1 person on 11 machines") == "1 person on 11 machines"


def test_longer_secret_wins_over_one_inside_it() -> None:
    """A secret that contains another one is hidden whole."""
    assert Redactor(["pass", "password-of-ada"]).text("x password-of-ada y") == f"x {MASK} y"


def test_mask_does_not_complete_another_secret() -> None:
    """A secret with asterisks in it is hidden also when a mask puts it together."""
    assert "a****" not in Redactor(["hunter2", "a****"]).text("ahunter2")


def test_bytes_that_are_no_text_survive() -> None:
    """Bytes which are not UTF-8 stay as they are around the mask."""
    assert Redactor(["hunter2"]).bytes(b"\xff hunter2 \xfe") == b"\xff " + MASK.encode() + b" \xfe"


def test_repr_shows_nothing() -> None:
    """A redactor holds secrets and must not show them."""
    assert "hunter2" not in repr(Redactor(["hunter2"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(st.text(max_size=10), min_size=5, max_size=5))
def test_no_planted_secret_is_left(secrets: list[str], between: list[str]) -> None:
    """Whatever stands around and between them, no secret survives, except one made of asterisks alone."""
    parts = [part for pair in zip(between, [*secrets, ""], strict=False) for part in pair]
    hidden = Redactor(secrets).text("".join(parts) + json.dumps(secrets) + repr(secrets))
    for secret in secrets:
        if secret.strip().strip("*"):
            assert secret not in hidden
            assert json.dumps(secret)[1:-1] not in hidden


def test_logins_in_addresses_are_hidden_without_knowing_them() -> None:
    """Installers print index addresses with their credentials."""
    text = "failed to fetch https://me:s3cr3t@index.example/simple/ and https://other.example:8080/x"
    assert without_url_credentials(text) == text.replace("me:s3cr3t", MASK)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("50%\r100%\r\nend", "50%\n100%\nend"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://x.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ended\nnext line", "\nnext line"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1bcreset\x1b(Bset", "resetset"),
        ("nul\x00 del\x7f bell\x07", "nul del bell"),
        ("user\u202egnp.exe\u202c", "usergnp.exe"),
        ("é ü 漢字 😀 \u00a0", "é ü 漢字 😀 \u00a0"),
        ("\x1b", ""),
    ],
)
def test_nothing_steers_a_terminal(text: str, shown: str) -> None:
    """Sequences go as a whole, other control characters alone, and all other text stays."""
    assert Redactor().text(text) == shown
    assert Redactor({"s3cret"}).text(f"s3c\x1b[1mret {text}") == f"{MASK} {shown}"


def test_secret_with_control_characters_is_hidden() -> None:
    """It is looked for as it is, too."""
    assert Redactor({"pass\x1b[1mword"}).text("x pass\x1b[1mword y") == f"x {MASK} y"
