"""The recorded shape: products, users and purchases as Airbyte's source-faker writes them.

Schemas, sizes (users 610 bytes a line, purchases 293) and quirks are those of a recording of it:
`purchases.created_at` is declared with a time zone and has none, later dates of a purchase may be missing.
"""

from __future__ import annotations

import random
from typing import Any

from benchmarks.shapes import Shape, StreamShape

INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
STRING = {"type": "string"}
ZONED = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
ZONED_OR_NULL = {**ZONED, "type": ["null", "string"]}
WORDS = (
    *(
        "Amber",
        "Birch",
        "Cedar",
        "Delta",
        "Ember",
        "Fjord",
        "Grove",
        "Harbour",
        "Inlet",
        "Juniper",
        "Keystone",
    ),
    *("Lakeside", "Meadow", "Northgate", "Orchard", "Prairie", "Quarry", "Ridgeway", "Summit", "Thornton"),
    *("Upland", "Valley", "Westbrook", "Yarrow", "Zephyr"),
)
JOBS = ("Balloonist", "Payroll Assistant", "Optical", "Road Worker", "Welder", "Psychologist", "Site Manager")
LANGUAGES = ("Hebrew", "Punjabi", "Macedonian", "Tetum", "Somali", "Albanian", "Portuguese", "Bislama")
NATIONS = ("Colombian", "Guatemalan", "Danish", "Uruguayan", "Irish", "Estonian", "Cameroonian")
ADDRESS = ("street_number", "street_name", "city", "state", "province", "postal_code", "country_code")


def moment(dice: random.Random, first_year: int = 2000) -> str:
    """A date and time without offset."""
    year, month, day = dice.randrange(first_year, 2026), dice.randrange(1, 13), dice.randrange(1, 29)
    return (
        f"{year}-{month:02}-{day:02}T{dice.randrange(24):02}:{dice.randrange(60):02}:{dice.randrange(60):02}"
    )


def _updated(number: int) -> str:
    return f"2026-01-01T00:{number // 60_000 % 60:02}:{number // 1_000 % 60:02}+00:00"


def _product(number: int, dice: random.Random) -> dict[str, Any]:
    return {
        "id": number,
        "make": dice.choice(WORDS),
        "model": f"{dice.choice(WORDS)} {dice.randrange(100, 900)}",
        "year": 2023,
        "price": dice.randrange(8_000, 50_000),
        "created_at": "2024-04-08T18:07:20+00:00",
        "updated_at": _updated(number),
    }


def _user(number: int, dice: random.Random) -> dict[str, Any]:
    return {
        "id": number,
        "created_at": f"{moment(dice)}+00:00",
        "updated_at": _updated(number),
        "name": f"{dice.choice(WORDS)[:5]}{dice.choice('aeiou')}",
        "title": dice.choice(("Mr.", "Mrs.", "M.D.", "MSc", "M.A.", "Ph.D.")),
        "age": dice.randrange(16, 67),
        "email": f"{dice.choice(WORDS).lower()}{dice.randrange(1800, 2080)}+{number}@example.com",
        "telephone": f"{dice.randrange(100, 999)}-{dice.randrange(100, 999)}-{dice.randrange(1000, 9999)}",
        "gender": dice.choice(("Female", "Male", "Other", "Fluid")),
        "language": dice.choice(LANGUAGES),
        "academic_degree": dice.choice(("Bachelor", "Master", "PhD")),
        "nationality": dice.choice(NATIONS),
        "occupation": dice.choice(JOBS),
        "height": f"1.{dice.randrange(50, 99)}",
        "blood_type": dice.choice(("A−", "A+", "B−", "B+", "AB−", "AB+", "O−", "O+")),
        "weight": dice.randrange(38, 91),
        "address": {
            "street_number": str(dice.randrange(1, 1500)),
            "street_name": f"{dice.choice(WORDS)} {dice.randrange(1, 9)}",
            "city": f"{dice.choice(WORDS)} {dice.choice(WORDS)}",
            "state": dice.choice(WORDS),
            "province": dice.choice(WORDS),
            "postal_code": f"{dice.randrange(10**5):05}",
            "country_code": dice.choice(("BF", "AI", "BB", "DK", "EE", "PT", "UY")),
        },
    }


def _purchase(number: int, dice: random.Random) -> dict[str, Any]:
    record = {
        "id": number,
        "product_id": dice.randrange(1, 101),
        "user_id": number,
        "created_at": f"{moment(dice)}.{dice.randrange(10**6):06}",
        "updated_at": _updated(number),
        "added_to_cart_at": f"{moment(dice)}+00:00",
    }
    if dice.random() < 0.7:
        record["purchased_at"] = f"{moment(dice)}+00:00"
        if dice.random() < 0.15:
            record["returned_at"] = f"{moment(dice)}+00:00"
    return record


RECORDED = Shape(
    name="recorded",
    title="users, purchases and products of source-faker",
    block_rows=190_100,
    part_rows=190_100,
    streams=(
        StreamShape(
            "products",
            {
                "id": INTEGER,
                "make": STRING,
                "model": STRING,
                "year": INTEGER,
                "price": NUMBER,
                "created_at": ZONED,
                "updated_at": ZONED,
            },
            _product,
            share=0.000_526_05,
        ),
        StreamShape(
            "users",
            {
                "id": INTEGER,
                "created_at": ZONED,
                "updated_at": ZONED,
                "name": STRING,
                "title": STRING,
                "age": INTEGER,
                **dict.fromkeys(("email", "telephone", "gender", "language", "academic_degree"), STRING),
                **dict.fromkeys(("nationality", "occupation", "height", "blood_type"), STRING),
                "weight": INTEGER,
                "address": {"type": "object", "properties": dict.fromkeys(ADDRESS, STRING)},
            },
            _user,
            share=0.499_737,
        ),
        StreamShape(
            "purchases",
            {
                "id": INTEGER,
                "user_id": INTEGER,
                "product_id": INTEGER,
                "created_at": ZONED,
                "updated_at": ZONED,
                "added_to_cart_at": ZONED_OR_NULL,
                "purchased_at": ZONED_OR_NULL,
                "returned_at": ZONED_OR_NULL,
            },
            _purchase,
            share=0.5,
        ),
    ),
)
