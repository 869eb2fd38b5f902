"""What is done to the values of a column behind its cast, a whole array at a time: encrypt, hash or mask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from airberg.columns.arrow import arrow_type
from airberg.columns.canonical import canonical_array
from airberg.columns.convert import CipherFor
from airberg.columns.masking import masked_array
from airberg.columns.types import FLOAT, ColumnType, Json, List, Struct
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule


@dataclass(frozen=True, slots=True)
class Protection:
    """The last step of a column that is one value to us.

    Attributes:
        plain_type: Arrow type of the values before it, as `plain_conversion` makes them.
        protect: From their array to the column's.
    """

    plain_type: pa.DataType
    protect: Callable[[pa.Array], pa.Array]


def protection(column: ColumnPlan, cipher_for: CipherFor) -> Protection:
    """The last step of a column; nothing for one that is not protected.

    Nothing here fails because of a value: whatever has become one of the plain type has a text.
    """
    match column.protection:
        case None:
            return Protection(arrow_type(column.type), lambda values: values)
        case EncryptRule() as rule:
            protect = cipher_for(rule).encrypt_array
        case HashRule() as rule:
            protect = cipher_for(rule).hash_array
        case MaskRule() as rule:
            protect = functools.partial(masked_array, rule=rule)
    plain = _plain_type(column.cast_to or column.source_type)
    return Protection(plain, lambda values: protect(canonical_array(values)))


def _plain_type(made: ColumnType) -> pa.DataType:
    if isinstance(made, Json | Struct | List):
        return pa.binary()  # canonical JSON
    # A text has all digits of a double, also where the table would not have them.
    return pa.float64() if made == FLOAT else arrow_type(made)
