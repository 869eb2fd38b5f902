"""No secret is in what is shown of a configuration, whatever the specification looks like."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.sources.redact import MASK
from airberg.sources.secret_fields import mask_config, secret_values

Pair = tuple[dict[str, Any], Any]
"""A schema and a value for it."""

FLAGGED = {"type": "string", "airbyte_secret": True}
DECOY: dict[str, Any] = {"type": "string"}


def leaves() -> st.SearchStrategy[Pair]:
    """Values under a schema that flags them, and plain ones; what is secret begins with `S3CR3T`."""
    numbers = st.integers(min_value=0, max_value=10**6)
    secret = numbers.map(lambda n: (dict(FLAGGED), f"S3CR3T-{n}"))
    whole = numbers.map(
        lambda n: (
            {"type": "object", "airbyte_secret": True},
            {"deep": [f"S3CR3T-{n}", {"x": f"S3CR3T+{n}"}]},
        )
    )
    plain = numbers.map(lambda n: (dict(DECOY), f"plain-{n}"))
    return secret | whole | plain


def wrapped(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    """The same somewhere deeper: each way in which a specification may lead to a value."""
    name = st.sampled_from(["alpha", "beta", "a/b", "x~y"])
    branch = st.sampled_from(["oneOf", "anyOf", "allOf"])
    side = st.sampled_from(["then", "else", "if"])
    return st.one_of(
        st.tuples(name, inner).map(lambda t: ({"properties": {t[0]: t[1][0]}}, {t[0]: t[1][1]})),
        st.tuples(name, inner).map(lambda t: ({"additionalProperties": t[1][0]}, {t[0]: t[1][1]})),
        st.tuples(name, inner).map(lambda t: ({"patternProperties": {".": t[1][0]}}, {t[0]: t[1][1]})),
        inner.map(lambda t: ({"type": "array", "items": t[0]}, [t[1]])),
        inner.map(lambda t: ({"type": "array", "items": [{}, t[0]]}, ["beside", t[1]])),
        inner.map(lambda t: ({"type": "array", "prefixItems": [{}, t[0]]}, ["beside", t[1]])),
        st.tuples(branch, inner).map(lambda t: ({t[0]: [{"title": "decoy"}, t[1][0]]}, t[1][1])),
        st.tuples(side, inner).map(lambda t: ({t[0]: t[1][0]}, t[1][1])),
        st.tuples(name, inner).map(lambda t: ({"dependencies": {t[0]: t[1][0]}}, t[1][1])),
        st.tuples(name, inner).map(lambda t: ({"dependentSchemas": {t[0]: t[1][0]}}, t[1][1])),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves(), wrapped, max_leaves=4), st.data())
def test_the_public_part_has_no_secret_and_all_the_rest(pair: Pair, data: st.DataObject) -> None:
    """What a schema flags is nowhere in it, and known to the redactor; what none flags is there."""
    schema, value = pair
    if data.draw(st.booleans()):
        spec = {"definitions": {"a/b": schema}, "properties": {"top": {"$ref": "#/definitions/a~1b"}}}
    else:
        spec = {"properties": {"top": schema}}
    shown = json.dumps(mask_config(spec, {"top": value}))
    assert "S3CR3T" not in shown
    texts = set(all_texts(value))
    assert {t for t in texts if t.startswith("S3CR3T")} <= secret_values(spec, {"top": value})
    assert all(t in shown for t in texts if t.startswith("plain"))


def all_texts(value: Any) -> list[str]:
    """All texts in a value."""
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    return list(itertools.chain.from_iterable(map(all_texts, children)))


@pytest.mark.parametrize(
    ("config", "secret"),
    [
        ({"password": 12345678}, "12345678"),
        ({"pin": 4711}, "4711"),
        ({"credentials": {"user": "ada", "value": "hunter22"}}, "hunter22"),
        ({"secrets": {"first": ["hunter22"]}}, "hunter22"),
        ({"note": "ghp_0123456789abcdefghijABCDEFGHIJ012345"}, "ghp_0123456789abcdefghijABCDEFGHIJ012345"),
        ({"header": "Bearer abc.def.ghi-123"}, "abc.def.ghi-123"),
        ({"header": "Basic YWRhOmh1bnRlcjIy"}, "YWRhOmh1bnRlcjIy"),
        ({"note": "AKIAIOSFODNN7EXAMPLE"}, "AKIAIOSFODNN7EXAMPLE"),
        ({"note": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"}, "eyJzdWIiOiJhIn0"),
    ],
)
def test_what_no_specification_flags_but_gives_itself_away(config: dict[str, Any], secret: str) -> None:
    """Numbers, objects and well-known forms of tokens, where a connector forgot the flag."""
    assert secret not in json.dumps(mask_config({}, config))
    assert any(secret in value for value in secret_values({}, config))


def test_what_is_not_hidden() -> None:
    """Numbers about tokens, and an object that the specification describes, are told."""
    config = {"max_tokens": 4096, "token_count": 5, "basic": "Basic plan"}
    assert mask_config({}, config) == config
    spec = {"properties": {"credentials": {"properties": {"auth_type": {"type": "string"}, "key": FLAGGED}}}}
    asked = {"credentials": {"auth_type": "by key", "key": "hunter22"}}
    assert mask_config(spec, asked) == {"credentials": {"auth_type": "by key", "key": MASK}}
