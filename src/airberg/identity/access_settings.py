"""The settings about who may call, and who may write where; part of `airberg.settings.Settings`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]


Claims = Annotated[tuple[Name, ...], Field(min_length=1)]


class AuthSettings(BaseModel):
    """Who may call. `dev` signs its own tokens and refuses to listen beyond loopback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["dev", "oidc"] = Field(
        "dev", description="`dev`: tokens of `airberg token`, on loopback only. `oidc`: tokens of `issuer`."
    )
    issuer: str | None = Field(None, description="OIDC issuer; tokens must name it exactly.")
    audience: str = Field("airberg", description="What the claim `aud` of a token must have.")
    jwks_uri: str | None = Field(None, description="Default: from the issuer's discovery document.")
    algorithms: tuple[str, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"), description="Signature algorithms that are accepted."
    )
    leeway_s: int = Field(30, description="By how many seconds clocks may differ.")
    token_type: Literal["at+jwt", "any"] = Field(
        "any", description="`at+jwt`: only tokens that say so (RFC 9068). `any`: also `JWT`, or no type."
    )
    service_key_days: Annotated[int, Field(ge=0)] = Field(
        90, description="Longest life of a service key; 0: there are none."
    )
    admin_roles: frozenset[str] = Field(
        frozenset({"ingest-admin"}), description="Roles that see every job and may set another owner."
    )
    subject_claims: Claims = Field(
        ("sub",),
        description="The first claim that is there is the identity; for Okta `uid`, then `sub`.",
    )
    scope_claims: Claims = Field(
        ("scope", "scp"), description="Claims with scopes. Entra has those of programs in `roles`."
    )
    role_claims: Claims = Field(
        ("roles", "realm_access.roles", "groups"),
        description="Claims with roles and groups; a dot leads into an object.",
    )
    owner_claims: tuple[str, ...] = Field(
        ("email", "preferred_username", "sub"), description="The first claim that is there names the owner."
    )


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
