"""The version of a key that a table's deterministic columns stay with."""

from __future__ import annotations

import pytest

from airberg.columns.encryption import ENCRYPTION_PREFIX, ColumnEncryption, encode_encryption
from airberg.columns.noted import protection_property
from airberg.columns.types import BINARY, STRING, Field, Struct
from airberg.errors import ConfigurationFailed, NotFound
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.key_versions import deterministic_versions, is_deterministic, noted_versions
from airberg.plan.model import ColumnPlan, EncryptionMode, EncryptRule, HashRule, Mode, StreamPlan


def column(name: str, key: str = "a", mode: EncryptionMode = "deterministic") -> ColumnPlan:
    """An encrypted column."""
    rule = EncryptRule(key_name=key, mode=mode, aad=key if mode == "deterministic" else f"s.t.{name}")
    return ColumnPlan(source=name, name=name, source_type=STRING, type=BINARY, encrypt=rule)


def stream(*columns: ColumnPlan, mode: Mode = "merge") -> StreamPlan:
    """A stream with these columns."""
    return StreamPlan(
        name="t", table="t", sync_mode="full_refresh", mode=mode, columns=columns, catalog_stream={}
    )


def noted(version: int | None, *columns: ColumnPlan) -> dict[str, str]:
    """The properties of a table with these columns."""
    return {
        ENCRYPTION_PREFIX + c.name: encode_encryption(ColumnEncryption.of(c.encrypt, STRING, version))
        for c in columns
        if c.encrypt
    }


@pytest.fixture
def keys() -> MemoryKeyStore:
    """The keys `a` and `b`, each with three versions."""
    store = MemoryKeyStore()
    for name in ("a", "b"):
        store.create(name)
        store.rotate(name, actor="ann")
        store.rotate(name, actor="ann")
    return store


def test_new_tables_take_the_oldest_in_use(keys: MemoryKeyStore) -> None:
    """Whether it is disabled or destroyed that older ones are; nested columns count, random ones do not."""
    inner = column("x", "b")
    nested = ColumnPlan(
        source="n",
        name="n",
        source_type=Struct((Field("x", STRING),)),
        type=Struct((Field("x", BINARY),)),
        children=(inner,),
    )
    plan = stream(column("x"), nested, column("y", "nope", "random"))
    assert is_deterministic(plan)
    assert deterministic_versions(plan, {}, keys.describe) == {"a": 1, "b": 1}
    keys.disable("a", actor="ann", version=1)
    keys.destroy("b", actor="ann", version=1)
    keys.disable("b", actor="ann", version=2)
    assert deterministic_versions(plan, {}, keys.describe) == {"a": 2, "b": 3}
    other = stream(column("y", "a", "random"))
    assert not is_deterministic(other)
    assert deterministic_versions(other, {}, keys.describe) == {}


def test_a_noted_version_is_kept_also_for_columns_that_come_later(keys: MemoryKeyStore) -> None:
    """One version of a key in one table, though older ones may be in use again."""
    plan = stream(column("new"), column("old"), column("last"), column("other", "b"))
    assert deterministic_versions(plan, noted(2, column("old")), keys.describe) == {"a": 2, "b": 1}


def test_what_notes_no_version_has_the_first(keys: MemoryKeyStore) -> None:
    """Tables of versions that noted none."""
    plan, properties = stream(column("x")), noted(None, column("x"))
    assert deterministic_versions(plan, properties, keys.describe) == {"a": 1}
    keys.disable("a", actor="ann", version=1)
    with pytest.raises(ConfigurationFailed, match='version 1 of the key "a", which is disabled'):
        deterministic_versions(plan, properties, keys.describe)


@pytest.mark.parametrize("mode", ["merge", "append"])
def test_a_version_out_of_use_is_not_replaced(keys: MemoryKeyStore, mode: Mode) -> None:
    """Except where all rows are."""
    properties = noted(2, column("x"))
    keys.disable("a", actor="ann", version=2)
    with pytest.raises(ConfigurationFailed) as e:
        deterministic_versions(stream(column("x"), mode=mode), properties, keys.describe)
    assert e.value.code == "key-version-unusable"
    assert e.value.guidance.startswith("Enable that version, load into a new table")
    overwrite = stream(column("x"), mode="overwrite")
    assert deterministic_versions(overwrite, properties, keys.describe) == {"a": 1}
    keys.destroy("a", actor="ann", version=2)
    with pytest.raises(ConfigurationFailed, match="which is destroyed") as gone:
        deterministic_versions(stream(column("x"), mode=mode), properties, keys.describe)
    assert gone.value.guidance.startswith("Load into a new table")


def test_hashed_columns_stay_with_a_version_like_deterministic_ones(keys: MemoryKeyStore) -> None:
    """Under another one nothing would be found again."""
    rule = HashRule(key_name="a")
    hashed = ColumnPlan(source="h", name="h", source_type=STRING, type=STRING, hash=rule)
    properties = dict([protection_property("h", rule, STRING, {"a": 2})])
    assert is_deterministic(stream(hashed))
    assert deterministic_versions(stream(hashed), {}, keys.describe) == {"a": 1}
    assert deterministic_versions(stream(hashed), properties, keys.describe) == {"a": 2}
    assert noted_versions(properties) == {"a": 2}
    keys.disable("a", actor="ann", version=2)
    with pytest.raises(ConfigurationFailed) as e:
        deterministic_versions(stream(hashed), properties, keys.describe)
    assert e.value.code == "key-version-unusable"


def test_what_a_table_notes_otherwise_decides_nothing(keys: MemoryKeyStore) -> None:
    """Another key, or at random: that is refused elsewhere, or all rows are replaced."""
    for before in (column("x", "b"), column("x", "a", "random")):
        assert deterministic_versions(stream(column("x")), noted(2, before), keys.describe) == {"a": 1}


def test_keys_that_are_gone(keys: MemoryKeyStore) -> None:
    """A new table of a key without a usable version, and of one that was never made."""
    keys.destroy("a", actor="ann")
    with pytest.raises(ConfigurationFailed) as e:
        deterministic_versions(stream(column("x")), {}, keys.describe)
    assert e.value.code == "key-destroyed"
    with pytest.raises(NotFound):
        deterministic_versions(stream(column("x", "nope")), {}, keys.describe)


def test_noted_versions() -> None:
    """By key; random columns note none, and what nobody can read is left alone."""
    properties = noted(3, column("x"), column("y", "b", "random"), column("z", "b")) | {
        ENCRYPTION_PREFIX + "w": "{}",
        "comment": "3",
    }
    assert noted_versions(properties) == {"a": 3, "b": 3}
    assert noted_versions(noted(3, column("y", "b", "random"))) == {}
