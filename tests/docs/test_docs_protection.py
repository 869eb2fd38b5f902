"""The page of tables says which protections go on in a table, and which are refused."""

from __future__ import annotations

import re

from airberg.columns.noted import protection_property
from airberg.columns.targets import parse_target_type
from airberg.columns.types import STRING, ColumnType
from airberg.plan.model import ColumnPlan, EncryptRule, HashRule, MaskRule, ProtectionRule, StreamPlan
from airberg.plan.table_protection import protection_differences
from support.pages import Page

TABLES = Page("docs/reference/tables.md")
RANDOM = EncryptRule(key_name="a", mode="random", aad="s.t.c")
RULES: dict[str, ProtectionRule | None] = {
    "in clear": None,
    "encrypted": RANDOM,
    "encrypted at random": RANDOM,
    "encrypted with another key": EncryptRule(key_name="b", mode="random", aad="s.t.c"),
    "encrypted deterministically": EncryptRule(key_name="a", mode="deterministic", aad="a"),
    "hashed": HashRule(key_name="a"),
    "masked": MaskRule(),
    "masked, another `keep_last`": MaskRule(keep_last=2),
}


def meant(cell: str) -> tuple[ProtectionRule | None, ColumnType]:
    """Rule and type of a column, from the words of a cell."""
    words = re.fullmatch(r"(.*?)(?:, (?:was|is) `(\w+)`)?", cell)
    assert words is not None
    return RULES[words[1]], parse_target_type(words[2]) if words[2] else STRING


def test_the_table_of_protected_columns() -> None:
    """Each row is what happens to a column of that kind."""
    rows = TABLES.table("Protected columns")
    assert len(rows) > 10
    for there, wanted, happens in rows:
        rule, kind = (
            meant(there if wanted == "the same" else wanted) if wanted != "not there" else (None, STRING)
        )
        column = ColumnPlan(
            source="c",
            name="c",
            source_type=kind,
            type=kind,
            encrypt=rule if isinstance(rule, EncryptRule) else None,
            hash=rule if isinstance(rule, HashRule) else None,
            mask=rule if isinstance(rule, MaskRule) else None,
        )
        stream = StreamPlan(
            name="t",
            table="t",
            sync_mode="full_refresh",
            mode="append",
            columns=() if wanted == "not there" else (column,),
            catalog_stream={},
        )
        noted, before = meant(there) if there != "not there" else (None, STRING)
        properties = dict([protection_property("c", noted, before, {})]) if noted else {}
        present = frozenset({("c",)} if there != "not there" else ())
        refused = bool(protection_differences(stream, "s.t", properties, present))
        assert refused == (happens == "refused"), (there, wanted)
