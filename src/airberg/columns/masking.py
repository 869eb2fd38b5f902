"""Masked values: all characters but the last few are replaced, by one for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airberg.plan.model import MaskRule

if TYPE_CHECKING:
    import pyarrow as pa


def masked(text: str, rule: MaskRule) -> str:
    """One value. A text with no more characters (code points) than may stay is masked as a whole."""
    shown = rule.keep_last if len(text) > rule.keep_last else 0
    hidden = len(text) - shown
    return rule.mask_char * hidden + text[hidden:]


def masked_array(texts: pa.Array, rule: MaskRule) -> pa.Array:
    """A whole array of texts, as strings. Nulls stay null."""
    import pyarrow as pa  # single values need none of it
    import pyarrow.compute as pc

    plain = texts.cast(pa.string())
    length = pc.utf8_length(plain)
    shown = pc.if_else(pc.greater(length, rule.keep_last), rule.keep_last, 0)
    hidden = pc.binary_repeat(rule.mask_char, pc.subtract(length, shown.cast(pa.int32())))
    if not rule.keep_last:
        return hidden
    tail = pc.utf8_slice_codeunits(plain, -rule.keep_last)
    return pc.binary_join_element_wise(hidden, pc.if_else(pc.greater(shown, 0), tail, ""), "")
