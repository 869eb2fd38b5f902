"""Masks: the last characters stay, the others are one character each."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.masking import masked, masked_array
from airberg.plan.model import MaskRule

RULES = st.builds(
    MaskRule, keep_last=st.integers(0, 6) | st.just(1_000), mask_char=st.sampled_from(["*", "é", "👤"])
)


@pytest.mark.parametrize(
    ("text", "keep_last", "expected"),
    [
        ("4111111111111111", 4, "************1111"),
        ("12345", 4, "*2345"),
        ("1234", 4, "****"),
        ("1", 4, "*"),
        ("", 4, ""),
        ("secret", 0, "******"),
        ("Žižka", 2, "***ka"),
        ("日本語", 1, "**語"),
        ("👤👥", 1, "*👥"),
        ("a\nb", 1, "**b"),
    ],
)
def test_masks(text: str, keep_last: int, expected: str) -> None:
    """By characters, not bytes; what has no more of them than may stay is masked as a whole."""
    rule = MaskRule(keep_last=keep_last)
    assert masked(text, rule) == expected
    assert masked_array(pa.array([text, None]), rule).to_pylist() == [expected, None]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8), RULES)
def test_arrays_are_masked_like_their_values(texts: list[str | None], rule: MaskRule) -> None:
    """Nulls stay; a slice of an array is masked alone; nothing but the last characters can be found."""
    array = masked_array(pa.array(["x", *texts], pa.string()).slice(1), rule)
    array.validate(full=True)
    assert array.type == pa.string()
    assert array.to_pylist() == [None if t is None else masked(t, rule) for t in texts]
    for text, made in zip(texts, array.to_pylist(), strict=True):
        if text is not None:
            assert len(made) == len(text)
            assert set(made[: max(0, len(text) - rule.keep_last)]) <= {rule.mask_char}
