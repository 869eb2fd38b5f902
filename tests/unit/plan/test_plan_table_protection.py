"""What a table says of its columns against what a job would do to them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from airberg.columns.noted import noted_protection, protected_column, protection_property
from airberg.columns.types import (
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    LONG,
    STRING,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
    List,
    Struct,
)
from airberg.errors import ConfigurationFailed
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule, Mode, ProtectionRule, StreamPlan
from airberg.plan.protection import protected_type
from airberg.plan.table_protection import Difference, protection_differences, refuse_differences

RANDOM = EncryptRule(key_name="crm", mode="random", aad="shop.users.c")
RULES: list[ProtectionRule | None] = [
    None,
    RANDOM,
    EncryptRule(key_name="other", mode="random", aad="shop.users.c"),
    EncryptRule(key_name="crm", mode="random", aad="old.users.c"),
    EncryptRule(key_name="crm", mode="deterministic", aad="crm"),
    HashRule(key_name="crm"),
    HashRule(key_name="other"),
    MaskRule(),
    MaskRule(keep_last=2),
    MaskRule(mask_char="#"),
]


def column(
    rule: ProtectionRule | None, kind: ColumnType = STRING, cast: ColumnType | None = None
) -> ColumnPlan:
    """A column `c` of the table, `p` in the source."""
    return ColumnPlan(
        source="p",
        name="c",
        source_type=kind,
        type=protected_type(rule) or cast or kind,
        cast_to=cast,
        encrypt=rule if isinstance(rule, EncryptRule) else None,
        hash=rule if isinstance(rule, HashRule) else None,
        mask=rule if isinstance(rule, MaskRule) else None,
    )


def noted(rule: ProtectionRule | None, kind: ColumnType = STRING, path: str = "c") -> dict[str, str]:
    """The properties of a table with such a column."""
    return {} if rule is None else dict([protection_property(path, rule, kind, {"crm": 1})])


def differences(
    columns: Sequence[ColumnPlan],
    properties: dict[str, str],
    mode: Mode = "append",
    present: frozenset[tuple[str, ...]] = frozenset({("c",)}),
) -> list[Difference]:
    """What differs between a stream with these columns and its table."""
    stream = StreamPlan(
        name="users",
        table="users",
        sync_mode="full_refresh",
        mode=mode,
        columns=tuple(columns),
        catalog_stream={},
    )
    return protection_differences(stream, "shop.users", properties, present)


def types(*kinds: ColumnType) -> list[tuple[ColumnType, ColumnType]]:
    """Each type with itself and the others."""
    return list(itertools.product(kinds, repeat=2))


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_every_other_rule_is_a_difference(mode: Mode) -> None:
    """Kind, key, mode, associated data, what stays of a mask: all of them matter, and only they."""
    for before, after in itertools.product(RULES, repeat=2):
        found = differences([column(after)], noted(before), mode)
        assert bool(found) == (before != after), (before, after)


def test_a_difference_names_the_column_and_both_sides_and_the_ways_out() -> None:
    """In words, with what to ask for so that the job fits the table."""
    [found] = differences([column(MaskRule(keep_last=2))], noted(RANDOM))
    assert found.source == ("p",)
    assert found.message == (
        'The column "c" of shop.users is encrypted at random with the key "crm" (associated data '
        '"shop.users.c") in the table, and would be masked by "*" but for its last 2 characters by this job.'
    )
    assert found.guidance.startswith(
        'Ask for encrypt with encryption_key_name "crm" and encryption_mode "random",'
    )
    for way in ("rename the column", "another schema_name", "drop the table"):
        assert way in found.guidance
    [plain] = differences([column(HashRule(key_name="crm"))], {})
    assert 'is in clear in the table, and would be hashed with the key "crm"' in plain.message
    assert plain.guidance.startswith("Ask for it without encrypt, hash and mask,")


def test_what_has_no_rows_yet_or_loses_them_all_may_change() -> None:
    """A column that the table lacks, a table without rows, and an overwrite."""
    columns, properties = [column(HashRule(key_name="crm"))], noted(RANDOM)
    assert differences(columns, properties)
    assert not differences(columns, properties, present=frozenset())
    assert not differences(columns, properties, mode="overwrite")


def test_columns_of_the_table_that_the_job_does_not_fill_do_not_matter() -> None:
    """They are null in its rows."""
    assert not differences([], noted(RANDOM))


def test_nested_columns() -> None:
    """Members of structs have properties of their own; a whole that was taken apart differs."""
    inner = column(HashRule(key_name="crm"))
    kind = Struct((Field("p", STRING),))
    outer = ColumnPlan(
        source="o", name="o", source_type=kind, type=Struct((Field("c", STRING),)), children=(inner,)
    )
    present = frozenset({("o",), ("o", "c")})
    assert not differences([outer], noted(inner.hash, path="o.c"), present=present)
    [found] = differences([outer], {}, present=present)
    assert found.source == ("o", "p")
    [whole] = differences([outer], noted(RANDOM, kind, path="o"), present=frozenset({("o",)}))
    assert whole.source == ("o",)


SAME_TEXTS = {(INT, LONG), (FLOAT, DOUBLE), (Decimal(10, 2), Decimal(12, 2))}
PLAIN = types(
    STRING, INT, LONG, FLOAT, DOUBLE, DATE, TIMESTAMPTZ, JSON, Decimal(10, 2), Decimal(12, 2), Decimal(12, 3)
)


@pytest.mark.parametrize("cast", [False, True], ids=["declared", "cast"])
def test_types_of_protected_columns(*, cast: bool) -> None:
    """A hash follows where the texts stay the same, an encryption only to a wider type, a mask anywhere."""
    for before, after in PLAIN:
        hashed, encrypted, masked = (
            bool(differences([column(r, STRING, after) if cast else column(r, after)], noted(r, before)))
            for r in (HashRule(key_name="crm"), RANDOM, MaskRule())
        )
        pair = (before, after)
        assert hashed == (before != after and pair not in SAME_TEXTS and pair[::-1] not in SAME_TEXTS), pair
        assert encrypted == (before != after and pair not in SAME_TEXTS), pair
        assert not masked


def test_a_type_that_differs_is_told_with_a_cast() -> None:
    """By the name that a request has for it."""
    [found] = differences([column(RANDOM, STRING)], noted(RANDOM, TIMESTAMPTZ))
    assert "was encrypted as timestamptz, and would be encrypted as string" in found.message
    assert found.guidance.startswith("Cast it to timestamp where")


def test_objects_may_get_members() -> None:
    """Their texts are JSON either way; JSON that may be anything is not read back as an object."""
    small, large = Struct((Field("a", LONG),)), Struct((Field("a", LONG), Field("b", STRING)))
    for rule in (RANDOM, HashRule(key_name="crm")):
        assert not differences([column(rule, large)], noted(rule, small))
        assert not differences([column(rule, JSON)], noted(rule, small))
        assert not differences([column(rule, List(STRING))], noted(rule, List(LONG)))
    assert differences([column(RANDOM, small)], noted(RANDOM, JSON))
    assert differences([column(RANDOM, small)], noted(RANDOM, List(LONG)))


def test_a_run_that_differs_ends() -> None:
    """With all columns in its message."""
    refuse_differences([])
    with pytest.raises(ConfigurationFailed, match=r"One\. Two\.") as e:
        refuse_differences([Difference(("a",), "One.", "Go."), Difference(("b",), "Two.", "Stay.")])
    assert (e.value.code, e.value.guidance) == ("protection-differs", "Go.")


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_is_noted_is_read_back(rule: ProtectionRule | None) -> None:
    """By its column; other properties are about nothing."""
    properties = noted(rule) | {"comment": "hello"}
    assert [protected_column(name) for name in properties] == ([] if rule is None else ["c"]) + [None]
    assert (noted_protection("c", properties) is None) == (rule is None)
    assert noted_protection("d", properties) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("airberg.hash.c", "{}"),
        ("airberg.hash.c", '{"key": "k", "alg": "MD5", "type": "string"}'),
        ("airberg.mask.c", "no JSON"),
        ("airberg.mask.c", '{"keep_last": "4", "mask_char": "*", "type": "string"}'),
    ],
)
def test_properties_of_others_end_a_run(name: str, text: str) -> None:
    """What is not understood is not guessed at."""
    with pytest.raises(ConfigurationFailed) as e:
        differences([column(None)], {name: text})
    assert e.value.code == "unknown-protection"
