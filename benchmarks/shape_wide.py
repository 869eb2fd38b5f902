"""The wide shape: one stream of 200 columns of every plain type, a quarter of the values null or missing."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.shape_recorded import INTEGER, NUMBER, STRING, WORDS, ZONED, moment
from benchmarks.shapes import Shape, StreamShape

KINDS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("text", 78, STRING),
    ("count", 50, INTEGER),
    ("amount", 30, NUMBER),
    ("flag", 20, {"type": "boolean"}),
    ("at", 12, ZONED),
    ("on", 8, {"type": "string", "format": "date"}),
)
"""Name, number of columns and schema; `id` and `updated_at` make it 200."""


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": ["null", schema["type"]]}


PROPERTIES: dict[str, Any] = {
    "id": INTEGER,
    "updated_at": ZONED,
    **{f"{name}_{i:02}": _nullable(schema) for name, count, schema in KINDS for i in range(count)},
}
COLUMNS = tuple((name, name.partition("_")[0]) for name in PROPERTIES if name not in ("id", "updated_at"))


def _value(kind: str, dice: random.Random) -> object:
    match kind:
        case "text":
            return f"{dice.choice(WORDS).lower()}-{dice.randrange(10_000)}"
        case "count":
            return dice.randrange(1_000_000)
        case "amount":
            return dice.randrange(10_000_000) / 100
        case "flag":
            return dice.random() < 0.5
        case "at":
            return f"{moment(dice)}Z"
        case "on":
            return moment(dice)[:10]
    raise ValueError(kind)


def _row(number: int, dice: random.Random) -> dict[str, Any]:
    record: dict[str, Any] = {"id": number, "updated_at": f"{moment(dice, 2025)}+00:00"}
    for name, kind in COLUMNS:
        luck = dice.random()
        if luck < 0.75:
            record[name] = _value(kind, dice)
        elif luck < 0.88:
            record[name] = None
    return record


WIDE = Shape(
    name="wide",
    title="one stream of 200 columns",
    block_rows=20_000,
    part_rows=8_000,
    streams=(StreamShape("wide", PROPERTIES, _row, share=1.0),),
)
