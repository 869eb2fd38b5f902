"""Who makes a request, as an access token says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified caller.

    Attributes:
        issuer: Who vouches for the caller.
        subject: The caller's identity at the issuer; stable.
        client_id: The program that acts for the caller, where the token says so.
        scopes: What the token may be used for.
        roles: The caller's roles and groups.
        owner_id: How the caller is named as an owner. Mutable (an e-mail address), so never used to decide
            who somebody is.
        is_admin: One of the roles is an administrator's.
    """

    issuer: str
    subject: str
    client_id: str | None
    scopes: frozenset[str]
    roles: frozenset[str]
    owner_id: str
    is_admin: bool

    @property
    def key(self) -> str:
        """The identity that access is decided by: `issuer|subject`."""
        return f"{self.issuer}|{self.subject}"

    @property
    def actor(self) -> str:
        """How the caller is named in audit logs: as an owner, with the identity that cannot be taken over."""
        return f"{self.owner_id} ({self.key})"
