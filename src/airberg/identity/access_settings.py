"""The settings about who may write where; part of `airberg.settings.Settings`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]


class SchemaRule(BaseModel):
    """Lets owners of jobs, or members of groups, write to some schemas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owners: tuple[Name, ...] = Field((), description="Owners, or identities (`issuer|subject`); `*` is all.")
    groups: tuple[Name, ...] = Field((), description="Roles and groups.")
    schemas: tuple[Name, ...] = Field(min_length=1, description="Names; `*` is any text, dots too.")

    @model_validator(mode="after")
    def _is_for_somebody(self) -> SchemaRule:
        if not self.owners and not self.groups:
            raise ValueError("the rule is for nobody: give `owners` or `groups`")
        return self

    def is_for(self, owner: AbstractSet[str], groups: AbstractSet[str]) -> bool:
        """Whether an owner, by any of its names, or one of its groups is meant."""
        return "*" in self.owners or not owner.isdisjoint(self.owners) or not groups.isdisjoint(self.groups)


class AccessSettings(BaseModel):
    """Which schemas a job may write to, by its owner.

    [Who may do what](../how-to/who-may-do-what.md) has examples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schemas: tuple[SchemaRule, ...] = Field(
        (),
        description='Who may write where; without a rule everybody everywhere: `[{"groups": ["sales"], '
        '"schemas": ["sales", "sales_*"]}]`.',
    )

    def writable(self, owner: AbstractSet[str], groups: AbstractSet[str]) -> tuple[str, ...]:
        """The names and patterns of schemas that a job of that owner may write to."""
        if not self.schemas:
            return ("*",)
        found = (pattern for rule in self.schemas if rule.is_for(owner, groups) for pattern in rule.schemas)
        return tuple(dict.fromkeys(found))


def matches(schema: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name of a schema is one of those, case and all.

    Where a catalog ignores case, a name in another case is refused: that is on the safe side.
    """
    return any(fnmatchcase(schema, pattern) for pattern in patterns)
