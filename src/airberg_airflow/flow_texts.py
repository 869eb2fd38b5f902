"""Texts of jobs as Airflow can hold them. No Airflow in here."""

from __future__ import annotations

MAX_NAME = 1000


def shown(text: str, limit: int) -> str:
    """A text that every database of Airflow can store: no control characters, no lone surrogates."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])
