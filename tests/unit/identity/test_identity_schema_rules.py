"""Which schemas an owner may write to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from airberg.identity.access_settings import AccessSettings, SchemaRule, matches

RULES = AccessSettings(
    schemas=(
        SchemaRule(groups=("sales",), schemas=("sales", "sales_*")),
        SchemaRule(owners=("ann@example.com", "https://i.example|7"), schemas=("lab",)),
        SchemaRule(owners=("*",), schemas=("scratch.*",)),
        SchemaRule(owners=("ann@example.com",), groups=("sales",), schemas=("lab", "shared")),
    )
)


@pytest.mark.parametrize(
    ("owner", "groups", "writable"),
    [
        ({"bob@example.com"}, set(), ("scratch.*",)),
        ({"bob@example.com"}, {"sales"}, ("sales", "sales_*", "scratch.*", "lab", "shared")),
        ({"ann@example.com"}, set(), ("lab", "scratch.*", "shared")),
        ({"x", "https://i.example|7"}, set(), ("lab", "scratch.*")),
        ({"sales"}, {"ann@example.com"}, ("scratch.*",)),
        (set(), set(), ("scratch.*",)),
    ],
)
def test_what_the_rules_of_an_owner_give(
    owner: set[str], groups: set[str], writable: tuple[str, ...]
) -> None:
    """All rules for any of its names or groups, together; a group is no owner, nor the reverse."""
    assert RULES.writable(owner, groups) == writable


def test_without_rules_everything_is_writable() -> None:
    """The default."""
    assert matches("any.thing", AccessSettings().writable(set(), set()))


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ("sales", True),
        ("sales_emea", True),
        ("sales_emea.raw", True),
        ("sales.raw", False),
        ("salesx", False),
        ("Sales", False),
        ("presales", False),
        ("my.sales", False),
        ("", False),
    ],
)
def test_patterns(schema: str, allowed: bool) -> None:
    """From the first to the last character, case and all; `*` is any text, dots too."""
    assert matches(schema, ("sales", "sales_*")) is allowed


@pytest.mark.parametrize("rule", [{}, {"schemas": ["a"]}, {"owners": ["*"], "schemas": []}, {"owners": [""]}])
def test_rules_that_say_nothing_are_refused(rule: dict[str, list[str]]) -> None:
    """A rule for nobody, or of no schema, is a mistake."""
    with pytest.raises(ValidationError):
        SchemaRule(**rule)
