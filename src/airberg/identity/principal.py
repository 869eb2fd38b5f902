"""Who makes a request, as an access token or a service key says."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

PERSON = "user:"
"""Before the subject of a person, among the groups that a job is shared with."""

GROUP = "group:"
"""Before the name of a group, where it owns jobs."""


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
        service_key: The service key that was sent, if it was no access token.
        datahub_user: What DataHub makes the caller's user id of, where a claim of the token says it.
    """

    issuer: str
    subject: str
    client_id: str | None
    scopes: frozenset[str]
    roles: frozenset[str]
    owner_id: str
    is_admin: bool
    service_key: UUID | None = None
    datahub_user: str | None = None

    @property
    def groups(self) -> frozenset[str]:
        """What jobs are shared with that the caller may see: roles, groups, and `user:` with the subject.

        Issuers differ in what they call a role and what a group, so they count alike. One that looks like a
        person is left out: who may name groups at the issuer must not become somebody else.
        """
        named = {name for name in self.roles if not name.startswith(PERSON)}
        return frozenset({*named, PERSON + self.subject})

    @property
    def key(self) -> str:
        """The identity that access is decided by: `issuer|subject`."""
        return f"{self.issuer}|{self.subject}"

    @property
    def actor(self) -> str:
        """How the caller is named in audit logs: as an owner, with the identity that cannot be taken over."""
        by = "" if self.service_key is None else f" by service key {self.service_key}"
        return f"{self.owner_id} ({self.key}){by}"
