"""Whether a table has its columns protected as a job would protect them.

What a table says of a column is true of all its rows, old and new: who reads it decrypts all values alike,
and who hides a column hides all of it. So a job whose rows would differ is refused before it reads anything.
Only an overwrite, which replaces all rows, may change how a column is protected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from airberg.columns.encryption import ColumnEncryption, type_of_text
from airberg.columns.noted import ColumnHashing, ColumnMask, NotedProtection, noted_protection
from airberg.columns.types import ColumnType, Decimal, Json, List, Primitive, Struct
from airberg.errors import ConfigurationFailed
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule, Path, ProtectionRule, StreamPlan
from airberg.quoted import quoted

_WAYS_OUT = (
    "rename the column, write to a new table (another schema_name), or load everything anew: drop the table, "
    "and the next run makes it again and reads the source from the beginning."
)
_INTEGERS = ("byte", "short", "int", "long")
_FLOATS = ("float", "double")
_CAST_NAMES = {"timestamptz": "timestamp", "timestamp": "timestamp_ntz"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A column whose rows would not be like those that are there.

    Attributes:
        source: Its path in the source.
        message: What the table has, and what the job would have.
        guidance: The ways out.
    """

    source: Path
    message: str
    guidance: str


def protection_differences(
    stream: StreamPlan, table: str, properties: Mapping[str, str], present: AbstractSet[Path]
) -> list[Difference]:
    """The columns of a table that a job would protect otherwise than they are.

    Args:
        stream: The stream as planned.
        table: The table's name, for the messages.
        properties: Its properties.
        present: Paths of the columns that have values; none for a table without rows.

    Raises:
        ConfigurationFailed: A property was not written by Airberg, or by a later version.
    """
    if stream.mode == "overwrite":
        return []
    out = []
    for source, path, column in _columns(stream.columns, (), ()):
        if path not in present:
            continue
        name = ".".join(path)
        noted = noted_protection(name, properties)
        rule, plain = column.protection, column.cast_to or column.source_type
        about = f"The column {quoted(name)} of {table}"
        if not _same_rule(noted, rule):
            message = (
                f"{about} is {_noted_words(noted)} in the table, and would be {_words(rule)} by this job."
            )
            out.append(Difference(source, message, f"Ask for {_asking(noted)}, {_WAYS_OUT}"))
        elif isinstance(noted, ColumnEncryption | ColumnHashing) and not _continues(noted, plain):
            done = "encrypted" if isinstance(noted, ColumnEncryption) else "hashed"
            message = f"{about} was {done} as {noted.type}, and would be {done} as {plain} by this job."
            target = _CAST_NAMES.get(noted.type, noted.type)
            out.append(
                Difference(source, message, f"Cast it to {target} where that is possible, {_WAYS_OUT}")
            )
    return out


def refuse_differences(differences: Sequence[Difference]) -> None:
    """End a run that would write such rows.

    Raises:
        ConfigurationFailed: There is one (`protection-differs`).
    """
    if differences:
        raise ConfigurationFailed(
            " ".join(d.message for d in differences),
            guidance=differences[0].guidance,
            code="protection-differs",
        )


def _columns(
    columns: Sequence[ColumnPlan], source: Path, path: Path
) -> Iterator[tuple[Path, Path, ColumnPlan]]:
    """Every column and nested column with its path in the source and in the table."""
    for column in columns:
        here, there = (*source, column.source), (*path, column.name)
        yield here, there, column
        yield from _columns(column.children, here, there)


def _same_rule(noted: NotedProtection | None, rule: ProtectionRule | None) -> bool:
    match noted, rule:
        case None, None:
            return True
        case ColumnEncryption(), EncryptRule():
            return (noted.key, noted.mode, noted.aad) == (rule.key_name, rule.mode, rule.aad)
        case ColumnHashing(), HashRule():
            return noted.key == rule.key_name
        case ColumnMask(), MaskRule():
            return (noted.keep_last, noted.mask_char) == (rule.keep_last, rule.mask_char)
    return False


def _continues(noted: ColumnEncryption | ColumnHashing, new: ColumnType) -> bool:
    """Whether the texts of values of a type are like those that are there.

    Those of an encrypted column also have to be read back: by the new type, which the table says from then
    on, so it may only be a wider one.
    """
    if noted.type == str(new):
        return True
    read_back = isinstance(noted, ColumnEncryption)
    match noted.plain_type if isinstance(noted, ColumnEncryption) else type_of_text(noted.type), new:
        case Primitive(name=old_name), Primitive(name=name):
            family = next((f for f in (_INTEGERS, _FLOATS) if old_name in f and name in f), ())
            return bool(family) and (not read_back or family.index(old_name) <= family.index(name))
        case Decimal() as old, Decimal():
            return old.scale == new.scale and (not read_back or old.precision <= new.precision)
        case ((Struct() | List() | Json()), (Struct() | List() | Json())):  # all are JSON
            same = noted.type.partition("<")[0] == str(new).partition("<")[0]
            return same or not read_back or isinstance(new, Json)
    return False


# ---- words -------------------------------------------------------------------------------------------------


def _words(rule: ProtectionRule | None) -> str:
    match rule:
        case EncryptRule():
            return _encrypted(rule.mode, rule.key_name, rule.aad)
        case HashRule():
            return f"hashed with the key {quoted(rule.key_name)}"
        case MaskRule():
            return _masked(rule.keep_last, rule.mask_char)
    return "in clear"


def _noted_words(noted: NotedProtection | None) -> str:
    match noted:
        case ColumnEncryption():
            return _encrypted(noted.mode, noted.key, noted.aad)
        case ColumnHashing():
            return f"hashed with the key {quoted(noted.key)}"
        case ColumnMask():
            return _masked(noted.keep_last, noted.mask_char)
    return "in clear"


def _encrypted(mode: str, key: str, aad: str) -> str:
    how = "at random" if mode == "random" else "deterministically"
    return f"encrypted {how} with the key {quoted(key)} (associated data {quoted(aad)})"


def _masked(keep_last: int, mask_char: str) -> str:
    return f"masked by {quoted(mask_char)} but for its last {keep_last} characters"


def _asking(noted: NotedProtection | None) -> str:
    """What to ask for so that the job does what was done before."""
    match noted:
        case ColumnEncryption():
            how = f"encryption_mode {quoted(noted.mode)}"
            return f"encrypt with encryption_key_name {quoted(noted.key)} and {how}"
        case ColumnHashing():
            return f"hash with encryption_key_name {quoted(noted.key)}"
        case ColumnMask():
            return f"mask with keep_last {noted.keep_last} and mask_char {quoted(noted.mask_char)}"
    return "it without encrypt, hash and mask"
