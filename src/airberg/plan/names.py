"""Names of namespaces, tables and columns: which are allowed, how they are made, where they collide."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from airberg.quoted import quoted

NAMESPACE_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

METADATA_COLUMNS = (
    "_airbyte_raw_id",
    "_airbyte_extracted_at",
    "_airbyte_meta",
    "_airbyte_generation_id",
)
"""Columns that Airberg adds, named as Airbyte's own destinations name them."""

DELETED_AT = "_ab_cdc_deleted_at"
"""Set by CDC sources on rows that were deleted (Airbyte protocol, CDC)."""


def namespace_parts(schema_name: str) -> tuple[str, ...] | None:
    """The parts of a dotted `schema_name`, or None when one of them is not allowed."""
    parts = tuple(schema_name.split("."))
    return parts if all(NAMESPACE_PART.fullmatch(p) for p in parts) else None


def table_name(stream: str, namespace: str | None = None) -> str:
    """A stream's table name: ASCII letters, digits and underscores, not starting with a digit.

    Accents are taken off; whatever else is not allowed becomes an underscore.

    `namespace` is given only when two streams of a job share a name, and is put in front.
    """
    raw = f"{namespace}_{stream}" if namespace else stream
    plain = "".join(c for c in unicodedata.normalize("NFKD", raw) if not unicodedata.combining(c))
    name = re.sub(r"[^A-Za-z0-9_]", "_", plain)
    return f"_{name}" if not name or name[0].isdigit() else name


def collisions(names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Groups of keys whose values are equal when case is ignored.

    Many engines fold case, so `Id` and `id` cannot live in one table.

    Args:
        names: What (key) ends with which name (value).

    Returns:
        The colliding name and the keys that end with it, in order.
    """
    groups: dict[str, list[str]] = {}
    for key, name in names.items():
        groups.setdefault(name.casefold(), []).append(key)
    return [(names[keys[0]], keys) for keys in groups.values() if len(keys) > 1]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `word`, if one does."""
    by_fold = {k.casefold(): k for k in known}
    match = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[match[0]] if match else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Guidance for an unknown name: the nearest one, and the list when it is short."""
    names = sorted(known)
    hint = f"Did you mean {quoted(near)}? " if (near := nearest(word, names)) else ""
    listed = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    return f"{hint}Known: {listed}." if names else hint.strip()
