"""Keys and their audit log as plain data, for whoever shows them. Nothing here has key material to show."""

from __future__ import annotations

from typing import Any

from airberg.errors import Conflict
from airberg.keys.port import AuditEntry, Key


def key_facts(key: Key) -> dict[str, Any]:
    """A key: name, state, primary version, users, versions with their states."""
    return {
        "name": key.name,
        "state": key.state,
        "primary": key.primary.version if key.primary else None,
        "restricted": key.restricted,
        "owners": sorted(key.owners),
        "roles": sorted(key.roles),
        "versions": [
            {
                "version": v.version,
                "key_id": f"{v.key_id:08x}",
                "state": v.state,
                "kek": v.kek,
                "created_at": v.created_at,
            }
            for v in key.versions
        ],
    }


def audit_facts(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit log."""
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "key": entry.key,
        "versions": list(entry.versions),
        "detail": entry.detail,
    }


def erasure(key: Key, versions: list[int]) -> str:
    """What it would mean to erase some versions of a key, as a sentence."""
    count = f"{len(versions)} version{'s' if len(versions) > 1 else ''}"
    return (
        f"This would erase {count} ({', '.join(map(str, versions))}) of the encryption key {key.name!r}; "
        "what they encrypted could never be read again."
    )


def unconfirmed(key: Key, versions: list[int], how: str) -> Conflict:
    """The error for a key that would be destroyed if that were confirmed; `how` says how it is."""
    return Conflict(erasure(key, versions), guidance=how, code="confirmation-needed")
