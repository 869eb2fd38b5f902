"""The canonical texts of whole columns: what `airberg.keys.cipher.canonical_text` says of each value.

Encryption works on these texts. Numbers, booleans, days and moments are written by the module of the compiled
cipher where it was built; every other type, and everything without it, by Python.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from airberg.columns.arrow import python_values
from airberg.keys import compiled
from airberg.keys.cipher import canonical_text

_FORMS: Final = {
    pa.bool_(): "boolean",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float64(): "float64",
    pa.date32(): "date",
    pa.time64("us"): "time",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}


def canonical_array(values: pa.Array) -> pa.Array:
    """The canonical texts of values, as a binary array. Nulls stay null.

    Args:
        values: Of a type that a column can have; text and bytes stay as they are.

    Raises:
        TypeError: Values of that type have no text (a struct, a list).
    """
    kind = values.type
    if pa.types.is_binary(kind):
        return values
    if pa.types.is_string(kind):
        return values.cast(pa.binary())
    if pa.types.is_nested(kind):
        raise TypeError(f"{kind} has no canonical text")
    form = "decimal" if pa.types.is_decimal128(kind) else _FORMS.get(kind)
    if compiled.compiled is None or form is None:
        texts = (None if v is None else canonical_text(v) for v in python_values(values))
        return pa.array(list(texts), pa.binary())
    validity, data = values.buffers()
    made = compiled.compiled.texts(
        form,
        kind.scale if form == "decimal" else 0,
        len(values),
        values.offset,
        validity if values.null_count else None,
        data,
    )
    buffers = [None if buffer is None else pa.py_buffer(buffer) for buffer in made]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)
