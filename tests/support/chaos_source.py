"""What a source of the chaos tests holds, and what a table must hold after each of its states."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["append", "append-full", "overwrite", "merge"]
Row = tuple[int, int, str]

_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "v": {"type": "integer"},
        "text": {"type": "string"},
        "_ab_cdc_deleted_at": {"type": ["null", "string"], "format": "date-time"},
    },
}


@dataclass
class ChaosStream:
    """One stream: records with a cursor `v` that goes up, and for merges keys that come again or go.

    Attributes:
        before: What earlier generations of the stream held: an overwrite may still show the last of them.
    """

    name: str
    mode: Mode
    records: list[dict[str, Any]] = field(default_factory=list)
    before: list[list[Row]] = field(default_factory=list)

    def grow(self, rng: random.Random, count: int) -> None:
        """Add records; what is overwritten gets new ones instead."""
        self.before.append(self.rows_after(len(self.records)))
        if self.mode in ("overwrite", "append-full"):
            self.records = []
        for _ in range(count):
            v = (self.records[-1]["v"] if self.records else 0) + 1
            key = rng.randint(1, 40) if self.mode == "merge" else v
            record = {"id": key, "v": v, "text": f"{self.name} {len(self.before)} {v}"}
            if self.mode == "merge" and rng.random() < 0.2:
                record["_ab_cdc_deleted_at"] = "2026-01-01T00:00:00Z"
            self.records.append(record)

    def rows_after(self, count: int) -> list[Row]:
        """The rows of a table that holds the first records, sorted."""
        found: dict[int, Row] = {}
        for record in self.records[:count]:
            key = record["id"]
            if "_ab_cdc_deleted_at" in record:
                found.pop(key, None)
            else:
                found[key] = (key, record["v"], record["text"])
        return sorted(found.values())

    def final(self) -> list[Row]:
        """The rows of a table after the whole source was read."""
        now = self.rows_after(len(self.records))
        return sorted([*self.earlier(), *now]) if self.mode == "append-full" else now

    def earlier(self) -> list[Row]:
        """The rows of all earlier generations."""
        return sorted(row for rows in self.before for row in rows)

    def allowed(self, cursor: int | None) -> list[list[Row]]:
        """What a table may hold that notes this cursor, whatever has happened to the run."""
        if self.mode in ("append", "merge"):
            return [self.rows_after(cursor or 0)]
        if self.mode == "overwrite":
            return [self.before[-1], self.final()]
        return [self.earlier(), self.final()]

    def described(self, state_every: int) -> dict[str, Any]:
        """The stream in a scenario of the scripted source."""
        stream = {
            "name": self.name,
            "json_schema": _SCHEMA,
            "state_every": state_every,
            "records": self.records,
        }
        if self.mode in ("append", "merge"):
            stream["cursor"] = "v"
        if self.mode == "merge":
            stream["primary_key"] = [["id"]]
        return stream
