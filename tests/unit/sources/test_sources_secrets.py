"""Which values of a configuration are secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.sources.redact import MASK
from airberg.sources.secret_fields import mask_config, secret_name, secret_values

SECRET = {"type": "string", "airbyte_secret": True}
SPEC: dict[str, Any] = {
    "type": "object",
    "definitions": {"hidden": SECRET},
    "properties": {
        "host": {"type": "string"},
        "pin": {"type": "integer", "airbyte_secret": True},
        "by_reference": {"$ref": "#/definitions/hidden"},
        "anything": {"type": "object", "airbyte_secret": True},
        "credentials": {
            "oneOf": [
                {"properties": {"auth_type": {"const": "token"}, "value": SECRET}},
                {"properties": {"auth_type": {"const": "none"}, "value": {"type": "string"}}},
            ]
        },
        "accounts": {"type": "array", "items": {"properties": {"login": SECRET, "id": {"type": "string"}}}},
        "variables": {"type": "object", "additionalProperties": SECRET},
        "conditional": {"if": {}, "then": {"properties": {"a": SECRET}}, "else": {}},
        "all": {"allOf": [{"properties": {"b": SECRET}}, {"properties": {"c": {"type": "string"}}}]},
    },
}
CONFIG: dict[str, Any] = {
    "host": "db.example",
    "pin": 123456,
    "by_reference": "ref-secret",
    "anything": {"deep": ["obj-secret"], "n": 7},
    "credentials": {"auth_type": "token", "value": "branch-secret"},
    "accounts": [{"login": "list-secret", "id": "a1"}],
    "variables": {"X": "map-secret"},
    "conditional": {"a": "then-secret"},
    "all": {"b": "all-secret", "c": "shown"},
    "unknown": {"apiKey": "name-secret", "region": "eu"},
}


def test_flagged_values_are_masked_wherever_the_flag_is() -> None:
    """Properties, references, branches, lists, free properties: any branch that says secret hides."""
    assert mask_config(SPEC, CONFIG) == {
        "host": "db.example",
        "pin": MASK,
        "by_reference": MASK,
        "anything": MASK,
        "credentials": {"auth_type": "token", "value": MASK},
        "accounts": [{"login": MASK, "id": "a1"}],
        "variables": {"X": MASK},
        "conditional": {"a": MASK},
        "all": {"b": MASK, "c": "shown"},
        "unknown": {"apiKey": MASK, "region": "eu"},
    }


def test_secret_values_are_what_was_masked() -> None:
    """The redactor gets each hidden text, numbers and members of hidden objects included."""
    assert secret_values(SPEC, CONFIG) == {
        "123456",
        "ref-secret",
        "obj-secret",
        "7",
        "branch-secret",
        "list-secret",
        "map-secret",
        "then-secret",
        "all-secret",
        "name-secret",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db_password", "clientSecret", "refresh_token", "apiKey", "api-key", "private_key"),
        *("aws_secret_access_key", "aws_access_key_id", "Authorization", "connection_string", "key", "jwt"),
        *("service_account_info", "sasToken", "passphrase", "bearer", "credentials_json"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    """Names that connectors use for secrets that they forget to flag."""
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "primary_key",
        "cursor_key",
        "token_url",
        "auth_type",
        "count",
        "monkey",
        "keyboard",
        "name",
        "turkey",
    ],
)
def test_names_of_plain_values(name: str) -> None:
    """Names that look alike but hold nothing secret stay readable."""
    assert not secret_name(name)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("postgresql://ada:s3cr3t@db.example/x", "s3cr3t"),
        ("ssl=true&password=s3cr3t&x=1", "s3cr3t"),
        ("DefaultEndpointsProtocol=https;AccountKey=abc123==;EndpointSuffix=x", "abc123=="),
        ("https://ada:s%26cr3t@db.example", "s&cr3t"),
        (json.dumps({"type": "service_account", "private_key": "-----BEGIN"}), "-----BEGIN"),
    ],
)
def test_values_that_hold_a_secret_are_masked_whole(value: str, part: str) -> None:
    """A login in an address or a pair in a parameter text is a secret in whatever field; so is its part."""
    assert mask_config({}, {"jdbc_url_params": value}) == {"jdbc_url_params": MASK}
    assert {value, part} <= secret_values({}, {"jdbc_url_params": value})


def test_values_that_the_specification_spells_out_are_no_secrets() -> None:
    """A constant is in the specification for all to read: hiding it would spoil each message."""
    spec = {"properties": {"secret_mode": {"enum": ["access_token", "basic"]}, "token_kind": {"const": "x"}}}
    config = {"secret_mode": "access_token", "token_kind": "x"}
    assert mask_config(spec, config) == config
    assert secret_values(spec, config) == frozenset()


def test_headers_given_as_pairs() -> None:
    """The value of a pair named like a secret is one."""
    config = {"headers": [{"name": "X-Api-Key", "value": "abcdef"}, {"name": "Accept", "value": "json"}]}
    assert mask_config({}, config) == {
        "headers": [{"name": "X-Api-Key", "value": MASK}, {"name": "Accept", "value": "json"}]
    }
    assert secret_values({}, config) == {"abcdef"}


def test_circular_references_and_deep_values_end() -> None:
    """A specification that refers to itself and a bottomless value are walked to an end, and hidden there."""
    spec = {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/properties/b"}}}
    config: dict[str, Any] = {"b": "x"}
    for _ in range(200):
        config = {"a": config}
    assert MASK in json.dumps(mask_config(spec, config))


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.fixed_dictionaries({"password": st.text("abcxyz", min_size=5)}),
        lambda inner: st.dictionaries(
            st.sampled_from(["a", "host", "items"]), inner | st.lists(inner), max_size=3
        ),
        max_leaves=6,
    )
)
def test_no_password_is_left_in_a_masked_configuration(config: dict[str, Any]) -> None:
    """What `secret_values` finds is nowhere in what `mask_config` shows, and every password is found."""
    shown = json.dumps(mask_config({}, config))
    found = secret_values({}, config)
    assert all(f'"{value}"' not in shown for value in found)
    assert shown.count('"password"') == shown.count(MASK)
