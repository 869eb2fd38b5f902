"""Make a recording of Airbyte messages for the other benchmarks.

    python benchmarks/recording.py FOLDER [--users 20000]

Writes `messages.jsonl` and `configured_catalog.json`: one stream of wide user records, always the same.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbour", "inlet", "juniper")
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "created_at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
        "updated_at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
        **{name: {"type": "string"} for name in ("name", "title", "email", "telephone", "gender", "city")},
        "age": {"type": "integer"},
        "height": {"type": "string"},
        "weight": {"type": "number"},
        "active": {"type": "boolean"},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string"}},
        },
    },
}


def user(number: int, dice: random.Random) -> dict[str, object]:
    """One record."""
    word = dice.choice(WORDS)
    return {
        "id": number,
        "created_at": f"20{number % 24:02}-0{number % 9 + 1}-1{number % 9}T0{number % 10}:15:30+00:00",
        "updated_at": "2026-01-02T03:04:05.123456+00:00",
        "name": f"{word} {dice.choice(WORDS)}",
        "title": dice.choice(("Dr", "Ms", "Mr", "Prof")),
        "email": f"{word}.{number}@example.com",
        "telephone": f"+49 30 {dice.randrange(10**7):07}",
        "gender": dice.choice(("female", "male", "other")),
        "city": dice.choice(WORDS).title(),
        "age": dice.randrange(18, 99),
        "height": f"1.{dice.randrange(50, 99)}",
        "weight": round(dice.uniform(50, 110), 1),
        "active": dice.random() < 0.5,
        "address": {"street": f"{word} street {number % 200}", "zip": f"{dice.randrange(10**5):05}"},
    }


def main() -> None:
    """Write the recording."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--users", type=int, default=20_000)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(7)
    with (given.folder / "messages.jsonl").open("w") as out:
        for number in range(1, given.users + 1):
            record = {"stream": "users", "emitted_at": 1_700_000_000_000, "data": user(number, dice)}
            out.write(json.dumps({"type": "RECORD", "record": record}) + "\n")
    stream = {"name": "users", "json_schema": SCHEMA, "supported_sync_modes": ["full_refresh"]}
    catalog = {
        "streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]
    }
    (given.folder / "configured_catalog.json").write_text(json.dumps(catalog))


if __name__ == "__main__":
    main()
