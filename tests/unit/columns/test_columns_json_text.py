"""JSON in and out of columns."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.json_text import json_text, parse_exact


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1.10", D("1.10")),
        (b"1e400", D("1E+400")),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"9" * 5000, D("9" * 5000)),
        (b'"\\ud800"', "\ud800"),
        (b"1e9999999999999999999999", "1e9999999999999999999999"),
        (b'[NaN,"a"]', ["NaN", "a"]),
        (b'{"a":null}', {"a": None}),
    ],
)
def test_parse_exact(text: bytes, value: object) -> None:
    """No digit is lost, and what the fast decoder refuses is read all the same."""
    assert parse_exact(text) == value
    assert type(parse_exact(text)) is type(value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'"\xff"', b"[" * 100_000, b"tru", b"1 2"])
def test_what_is_not_json(text: bytes) -> None:
    """It is a ValueError, also when it nests without end."""
    with pytest.raises(ValueError, match=r"."):
        parse_exact(text)


def test_json_text_of_what_has_no_utf8() -> None:
    """Half a surrogate pair is escaped, and numbers keep their digits."""
    assert json_text({"a": "\ud800"}) == '{"a":"\\ud800"}'
    mixed = {"\udc00": ["\ud800", D("1.10"), D("9" * 5_000), True, None, {}]}
    assert json_text(mixed) == '{"\\udc00":["\\ud800",1.10,' + "9" * 5_000 + ",true,null,{}]}"
    assert json_text({"b": D("1.10"), "a": 10**30}) == '{"b":1.10,"a":1000000000000000000000000000000}'


def test_json_text_of_what_nests_too_deeply() -> None:
    """It is a ValueError, not a crash."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        json_text(value)
    while value:  # taken apart by hand: freeing it would recurse as deeply
        value = value.pop()  # type: ignore[assignment]  # the list inside


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(), c, max_size=3),
        max_leaves=10,
    )
)
def test_text_and_value_are_inverse(value: object) -> None:
    """What is written reads back as it was; in the words of the standard library too."""
    assert parse_exact(json_text(value).encode()) == json.loads(json_text(value), parse_float=D)
    assert json.loads(json_text(value)) == value
