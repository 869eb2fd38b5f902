"""The nested shape: structs four deep, lists of structs and of plain values, a free object and a union."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.shape_recorded import INTEGER, NUMBER, STRING, WORDS, ZONED, moment
from benchmarks.shapes import Shape, StreamShape


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON schemas
    return {"type": ["null", "object"], "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": ["null", "array"], "items": items}


MONEY = {"type": "object", "properties": {"amount": NUMBER, "currency": STRING}}
PROPERTIES: dict[str, Any] = {
    "id": INTEGER,
    "updated_at": ZONED,
    "customer": _object(
        name=STRING,
        contact=_object(
            email=STRING,
            home=_object(street=STRING, city=STRING, place=_object(lat=NUMBER, lon=NUMBER, source=STRING)),
        ),
        since=ZONED,
        vip={"type": "boolean"},
    ),
    "items": _list(
        {
            "type": "object",
            "properties": {"sku": STRING, "quantity": INTEGER, "price": MONEY, "labels": _list(STRING)},
        }
    ),
    "tags": _list(STRING),
    "scores": _list(INTEGER),
    "total": MONEY,
    "extra": {"type": "object"},
    "reference": {"oneOf": [STRING, INTEGER]},
}


def _money(dice: random.Random) -> dict[str, Any]:
    return {"amount": dice.randrange(100_000) / 100, "currency": dice.choice(("EUR", "USD", "DKK"))}


def _item(dice: random.Random) -> dict[str, Any]:
    return {
        "sku": f"{dice.choice(WORDS)[:3].upper()}-{dice.randrange(10_000):04}",
        "quantity": dice.randrange(1, 9),
        "price": _money(dice),
        "labels": [dice.choice(WORDS) for _ in range(dice.randrange(3))],
    }


def _order(number: int, dice: random.Random) -> dict[str, Any]:
    place = {"lat": dice.randrange(180_000) / 1000, "lon": dice.randrange(360_000) / 1000, "source": "gps"}
    home = {
        "street": f"{dice.choice(WORDS)} {dice.randrange(1, 99)}",
        "city": dice.choice(WORDS),
        "place": place,
    }
    record: dict[str, Any] = {
        "id": number,
        "updated_at": f"{moment(dice, 2025)}+00:00",
        "customer": {
            "name": f"{dice.choice(WORDS)} {dice.choice(WORDS)}",
            "contact": {"email": f"user.{number}@example.com", "home": home if dice.random() < 0.9 else None},
            "since": f"{moment(dice)}Z",
            "vip": dice.random() < 0.1,
        },
        "items": [_item(dice) for _ in range(dice.randrange(1, 4))],
        "tags": [dice.choice(WORDS) for _ in range(dice.randrange(4))],
        "total": _money(dice),
        "extra": {
            "channel": dice.choice(("web", "shop")),
            "campaign": {"id": dice.randrange(50)},
            "test": False,
        },
        "reference": number if number % 2 else f"ref-{number}",
    }
    if dice.random() < 0.8:
        record["scores"] = [dice.randrange(100) for _ in range(dice.randrange(5))]
    return record


NESTED = Shape(
    name="nested",
    title="one stream of deeply nested orders",
    block_rows=50_000,
    part_rows=25_000,
    streams=(StreamShape("orders", PROPERTIES, _order, share=1.0),),
)
