"""What the connector is told: the specification that people and platforms see, and its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from source_postgres_lite.messages import SourceFailed

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

SPEC: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "PostgreSQL (lite)",
    "type": "object",
    "required": ["host", "database", "username"],
    "additionalProperties": True,
    "properties": {
        "host": {"type": "string", "title": "Host", "order": 0},
        "port": {
            "type": "integer",
            "title": "Port",
            "default": 5432,
            "minimum": 1,
            "maximum": 65535,
            "order": 1,
        },
        "database": {"type": "string", "title": "Database", "order": 2},
        "username": {"type": "string", "title": "User", "order": 3},
        "password": {"type": "string", "title": "Password", "airbyte_secret": True, "order": 4},
        "schemas": {
            "type": "array",
            "title": "Schemas",
            "description": "Schemas whose tables and views are streams.",
            "items": {"type": "string"},
            "default": ["public"],
            "minItems": 1,
            "order": 5,
        },
        "cursor_columns": {
            "type": "array",
            "title": "Cursor columns",
            "description": "The first of these that a table has as NOT NULL is its default cursor.",
            "items": {"type": "string"},
            "default": ["updated_at"],
            "order": 6,
        },
        "ssl_mode": {
            "type": "string",
            "title": "TLS",
            "description": "As libpq has it; verify-full is the one that nobody can listen to.",
            "enum": list(SSL_MODES),
            "default": "prefer",
            "order": 7,
        },
        "ssl_root_certificate": {
            "type": "string",
            "title": "Root certificate",
            "description": "PEM. For verify-ca and verify-full; without it the system's are taken.",
            "multiline": True,
            "order": 8,
        },
        "checkpoint_rows": {
            "type": "integer",
            "title": "Rows between checkpoints",
            "default": 10_000,
            "minimum": 1,
            "order": 9,
        },
    },
}


@dataclass(frozen=True)
class Configuration:
    """The values, with defaults.

    Attributes:
        checkpoint_rows: A state comes after so many rows, or soon after.
    """

    host: str
    database: str
    username: str
    password: str = field(default="", repr=False)
    port: int = 5432
    schemas: tuple[str, ...] = ("public",)
    cursor_columns: tuple[str, ...] = ("updated_at",)
    ssl_mode: str = "prefer"
    ssl_root_certificate: str = field(default="", repr=False)
    checkpoint_rows: int = 10_000

    @classmethod
    def of(cls, values: object) -> Configuration:
        """From JSON. Platforms check it against `SPEC`; what would go wrong later is looked at here.

        Raises:
            SourceFailed: A field is missing or of another kind.
        """
        if not isinstance(values, dict):
            raise SourceFailed("The configuration is not a JSON object.", "config_error")
        for name in SPEC["required"]:
            if not values.get(name):
                raise SourceFailed(f"`{name}` is missing in the configuration.", "config_error")
        kinds = {"string": str, "integer": int, "array": list}
        known = {name: values[name] for name in SPEC["properties"] if values.get(name) is not None}
        for name, value in known.items():
            wanted = SPEC["properties"][name]
            if not isinstance(value, kinds[wanted["type"]]) or isinstance(value, bool):
                raise SourceFailed(f"`{name}` must be of type {wanted['type']}.", "config_error")
            if "enum" in wanted and value not in wanted["enum"]:
                raise SourceFailed(f"`{name}` must be one of {', '.join(wanted['enum'])}.", "config_error")
            if isinstance(value, int) and value < wanted["minimum"]:
                raise SourceFailed(f"`{name}` must be at least {wanted['minimum']}.", "config_error")
            if isinstance(value, list):
                known[name] = tuple(str(item) for item in value)
        return cls(**known)
