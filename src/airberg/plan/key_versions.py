"""Which version of a key the deterministic and the hashed columns of a table have.

Equal values are equal only under one version: with another one, a merge would no longer find the rows that
are there, and nothing would tell. So a table notes the version in its property of the column, and stays with
it through rotations. A version that may not be used any more ends that: the table is not written to until the
version is enabled again. Only an overwrite, which replaces all rows, goes on with another version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from airberg.columns.encryption import ColumnEncryption
from airberg.columns.noted import ColumnHashing, noted_protection, protected_column
from airberg.errors import ConfigurationFailed
from airberg.keys.names import unusable_key
from airberg.keys.port import Key
from airberg.plan.model import EncryptRule, HashRule, StreamPlan
from airberg.plan.transformations import all_columns
from airberg.quoted import quoted


def is_deterministic(stream: StreamPlan) -> bool:
    """Whether a stream has columns for which the version of the key matters."""
    return any(True for _ in _deterministic(stream))


def deterministic_versions(
    stream: StreamPlan, properties: Mapping[str, str], describe: Callable[[str], Key]
) -> dict[str, int]:
    """The version of each key that the deterministic and hashed columns of a stream's table have.

    One that the table notes, else the oldest that may decrypt: so all new tables of a key agree, and their
    columns can be joined. Tables that were written before versions were noted have the first one.

    Args:
        stream: The stream as planned.
        properties: The properties of its table; none for a table that is to be made.
        describe: Gives the keys by name.

    Raises:
        NotFound: There is no such key.
        ConfigurationFailed: A version that the table needs is disabled or destroyed
            (`key-version-unusable`).
    """
    found: dict[str, int] = {}
    new: set[str] = set()
    for column, rule in _deterministic(stream):
        noted = noted_protection(column, properties)
        if not isinstance(noted, ColumnEncryption | ColumnHashing):
            new.add(rule.key_name)
            continue
        key, version = describe(rule.key_name), noted.version or 1
        same = _is_same(noted, rule)
        if same and any(v.version == version and v.decrypts for v in key.versions):
            found[rule.key_name] = version
        elif stream.mode == "overwrite" or not same:  # the latter is refused: `plan.table_protection`
            new.add(rule.key_name)
        else:
            raise _unusable(stream, column, key, version)
    return {name: _oldest(describe(name)) for name in new} | found


def noted_versions(properties: Mapping[str, str]) -> dict[str, int]:
    """The versions that a table notes, by the names of the keys."""
    found: dict[str, int] = {}
    for name in properties:
        if (column := protected_column(name)) is not None:
            with contextlib.suppress(ConfigurationFailed):  # written by nobody that we know
                noted = noted_protection(column, properties)
                if isinstance(noted, ColumnEncryption | ColumnHashing) and noted.version is not None:
                    found[noted.key] = noted.version
    return found


def _deterministic(stream: StreamPlan) -> Iterator[tuple[str, EncryptRule | HashRule]]:
    for path, column in all_columns(stream.columns):
        if column.encrypt is not None and column.encrypt.mode == "deterministic":
            yield ".".join(path), column.encrypt
        elif column.hash is not None:
            yield ".".join(path), column.hash


def _is_same(noted: ColumnEncryption | ColumnHashing, rule: EncryptRule | HashRule) -> bool:
    if isinstance(noted, ColumnEncryption) and isinstance(rule, EncryptRule):
        return (noted.key, noted.mode, noted.aad) == (rule.key_name, rule.mode, rule.aad)
    return isinstance(noted, ColumnHashing) and isinstance(rule, HashRule) and noted.key == rule.key_name


def _oldest(key: Key) -> int:
    for version in key.versions:
        if version.decrypts:
            return version.version
    raise unusable_key(key)


def _unusable(stream: StreamPlan, column: str, key: Key, version: int) -> ConfigurationFailed:
    state = next((v.state for v in key.versions if v.version == version), "not there")
    ways = "load into a new table (another schema_name), or with mode overwrite"
    return ConfigurationFailed(
        f"The column {quoted(column)} of the table {quoted(stream.table)} has version {version} of the key "
        f"{quoted(key.name)}, which is {state}; under another one, new rows would not match those "
        "that are there.",
        guidance=f"Enable that version, {ways}." if state == "disabled" else f"{ways[0].upper()}{ways[1:]}.",
        code="key-version-unusable",
    )
