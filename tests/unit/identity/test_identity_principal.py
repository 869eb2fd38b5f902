"""How a caller is named: to decide by, to share with, in audit logs."""

from __future__ import annotations

from uuid import UUID

from airberg.identity.principal import Principal

KEY = UUID("0b0e3a52-6d0b-4a53-9c28-0e8f4f4f0001")


def a_principal(roles: set[str], service_key: UUID | None = None) -> Principal:
    """Ann, with some roles."""
    return Principal(
        issuer="https://issuer.example",
        subject="ann",
        client_id=None,
        scopes=frozenset(),
        roles=frozenset(roles),
        owner_id="ann@example.com",
        is_admin=False,
        service_key=service_key,
    )


def test_groups_are_roles_and_the_person() -> None:
    """A job can be shared with each of them."""
    assert a_principal({"sales", "ingest-admin"}).groups == {"sales", "ingest-admin", "user:ann"}
    assert a_principal(set()).groups == {"user:ann"}


def test_a_group_cannot_be_somebody_else() -> None:
    """Who may name groups at the issuer names one `user:bob`: it does not count as bob."""
    assert a_principal({"user:bob", "user:ann", "sales"}).groups == {"sales", "user:ann"}


def test_actors() -> None:
    """The owner, the identity, and the key that was sent in place of a token."""
    assert a_principal(set()).actor == "ann@example.com (https://issuer.example|ann)"
    assert (
        a_principal(set(), KEY).actor == f"ann@example.com (https://issuer.example|ann) by service key {KEY}"
    )
