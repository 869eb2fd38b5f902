"""Masks that come back: which stored secrets are kept, and when they are not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.errors import InvalidRequest
from airberg.sources.kept_secrets import keep_secrets, still_masked
from airberg.sources.redact import MASK
from airberg.sources.secret_fields import mask_config

STORED: dict[str, Any] = {
    "host": "db.example",
    "port": 5432,
    "ssl": True,
    "start_date": "2026-01-01",
    "credentials": {"user": "ann", "password": "pw-1", "client_secret": "cs-1"},
    "options": {"page_size": 10, "proxy": "p"},
    "tokens": [{"name": "one", "token": "t-1"}, {"name": "two", "token": "t-2"}],
    "url": "https://u:pw@db.example/x",
}
TEXT: dict[str, Any] = {"type": "string"}
SPEC: dict[str, Any] = {
    "properties": {
        "credentials": {"properties": {"user": TEXT, "password": TEXT, "client_secret": TEXT}},
        "tokens": {"items": {"properties": {"name": TEXT, "token": TEXT}}},
    }
}
PUBLIC = mask_config(SPEC, STORED)


def sent(**changes: Any) -> dict[str, Any]:
    """The shown configuration, with changes by dotted path."""
    out = copy.deepcopy(PUBLIC)
    for path, value in changes.items():
        *above, last = path.split("__")
        inside: Any = out
        for part in above:
            inside = inside[int(part) if part.isdigit() else part]
        if value is ...:
            del inside[last]
        else:
            inside[last] = value
    return out


def pointers(config: dict[str, Any], **options: Any) -> list[str]:
    """The pointers of what is refused."""
    with pytest.raises(InvalidRequest) as e:
        pytest.fail(f"took {keep_secrets(config, STORED, PUBLIC, **options)}")
    assert {p.code for p in e.value.problems} == {"secret-needed"}
    assert not any(s in str(e.value.problems) for s in ("pw-1", "cs-1", "t-1", "u:pw"))
    return [p.pointer for p in e.value.problems]


def test_what_is_shown_keeps_all() -> None:
    """The configuration as it was shown, sent back, is the stored one."""
    assert [PUBLIC["credentials"][n] for n in ("password", "client_secret")] == [MASK, MASK]
    assert keep_secrets(sent(), STORED, PUBLIC) == STORED


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "evil.example"},
        {"port": 5433},
        {"ssl": False},
        {"ssl": 1},
        {"host": ...},
        {"proxy_url": "http://evil.example"},
        {"credentials__user": "root"},
        {"credentials__auth_type": "x"},
        {"options__proxy": "evil.example"},
        {"options__page_size": "evil.example"},
        {"options__page_size": True},
        {"options__page_size": {"host": "evil"}},
        {"start_date": "evil.example"},
        {"tokens__0__name": "other"},
        {"tokens": [{"name": "one", "token": MASK}]},
        {"url": "https://u:pw@evil.example/x"},
        {"url": "plain"},
        {"credentials__client_secret": "host=evil.example;password=x"},
        {"credentials__client_secret": {"a": "b"}},
        {"credentials__client_secret": 7},
        {"credentials__client_secret": "secret://env/X"},
    ],
)
def test_what_could_lead_elsewhere_keeps_none(changes: dict[str, Any]) -> None:
    """Every mask is refused, wherever the change is."""
    config = sent(**changes)
    found = pointers(config)
    assert "/source_config/credentials/password" in found
    assert all(pointer.startswith("/source_config/") for pointer in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"start_date": "2026-02-01T00:00:00Z"},
        {"start_date": ...},
        {"end_date": "2026-02-01"},
        {"options__page_size": 500},
        {"options__page_size": ...},
        {"seed": 7},
        {"credentials__client_secret": "cs-2"},
        {"tokens__1__token": "t-3"},
    ],
)
def test_what_says_how_much_keeps_them(changes: dict[str, Any]) -> None:
    """Numbers and dates by their names; another secret in place of one."""
    config = keep_secrets(sent(**changes), STORED, PUBLIC)
    assert config["credentials"]["password"] == "pw-1"
    assert MASK not in str(config)


def test_without_masks_anything_goes() -> None:
    """Who sends every secret may change everything."""
    config = {"host": "other", "password": "new"}
    assert keep_secrets(config, STORED, PUBLIC) is config


@pytest.mark.parametrize("path", ["new_password", "host", "options__proxy", "credentials__user"])
def test_a_mask_where_no_secret_was(path: str) -> None:
    """Is refused by its place, and nothing is taken from elsewhere."""
    assert pointers(sent(**{path: MASK})) == ["/source_config/" + path.replace("__", "/")]


def test_references_of_others_are_like_masks() -> None:
    """They stay where they are, with nothing changed beside them."""
    stored = {"host": "a", "password": "secret://env/OWN", "start_date": "2026-01-01"}

    def keep(**changes: Any) -> dict[str, Any]:
        return keep_secrets(stored | changes, stored, stored, foreign=lambda _: True)

    assert keep() == stored
    assert keep(start_date="2026-02-01")["password"] == "secret://env/OWN"
    for changes in ({"host": "evil"}, {"password": "secret://env/OTHER"}, {"other": "secret://env/OWN"}):
        with pytest.raises(InvalidRequest):
            pytest.fail(f"took {keep(**changes)}")
    assert keep_secrets(stored | {"host": "b"}, stored, stored)["host"] == "b"


def test_what_was_masked_stays_masked() -> None:
    """Without the specification, what it called secret is hidden all the same."""
    assert still_masked({"odd": "s", "n": 1}, {"odd": MASK}) == {"odd": MASK, "n": 1}
    assert still_masked({"odd": ""}, {"odd": MASK}) == {"odd": ""}
    assert still_masked({"odd": "secret://env/X"}, {"odd": MASK}) == {"odd": "secret://env/X"}
    assert still_masked({"other": 1}, {"odd": {"deep": MASK}}) == {"other": 1}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["host", "password", "token", "a", "start_date"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
configs = st.dictionaries(st.sampled_from(["host", "password", "api_key", "b", "limit"]), values, max_size=5)


@given(stored=configs, other=configs)
def test_any_configuration(stored: dict[str, Any], other: dict[str, Any]) -> None:
    """What is shown gives the stored one back; anything else is taken as it is, or refused."""
    public = mask_config({}, stored)
    assert keep_secrets(public, stored, public) == stored
    try:
        kept = keep_secrets(other, stored, public)
    except InvalidRequest:
        assert MASK in str(other)
    else:
        assert MASK in str(other) or kept == other
