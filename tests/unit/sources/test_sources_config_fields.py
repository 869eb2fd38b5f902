"""The fields of a specification, as a list."""

from __future__ import annotations

from typing import Any

import pytest

from airberg.sources.config_fields import MAX_FIELDS, ConfigField, config_fields

TOKEN = {"type": "string", "title": "Token", "airbyte_secret": True}
SPEC: dict[str, Any] = {
    "required": ["region"],
    "properties": {
        "later": {"type": ["null", "integer"], "default": 5, "order": 2},
        "region": {"type": "string", "enum": ["eu", "us"], "description": "A\n <b>B</b>", "order": 1},
        "api_key": {"type": "string"},
        "files": {
            "type": "array",
            "items": {"properties": {"format": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}},
        },
        "login": {
            "type": "object",
            "oneOf": [
                {"properties": {"kind": {"const": "token"}, "token": TOKEN}, "required": ["token"]},
                {"$ref": "#/definitions/basic"},
            ],
        },
    },
    "definitions": {
        "basic": {"properties": {"kind": {"enum": ["basic"]}, "user": {"type": "string"}}},
    },
}  # fmt: skip


def by_place(spec: dict[str, Any]) -> dict[tuple[str, str | None], ConfigField]:
    """Path and condition → field."""
    return {(field.path, field.when): field for field in config_fields(spec)}


def test_fields_in_the_order_of_the_specification() -> None:
    """Those with an order first; objects and lists before their fields; alternatives with their constant."""
    assert list(by_place(SPEC)) == [
        ("region", None),
        ("later", None),
        ("api_key", None),
        ("files", None),
        ("files[].format", None),
        ("login", None),
        ("login.kind", None),
        ("login.token", 'login.kind = "token"'),
        ("login.user", 'login.kind = "basic"'),
    ]


def test_what_is_said_of_each() -> None:
    """Title, type, default, values, secrecy, and whether it is needed."""
    fields = by_place(SPEC)
    region = fields["region", None]
    assert (region.required, region.enum, region.description) == (True, ["eu", "us"], "A B")
    assert (fields["later", None].type, fields["later", None].default) == ("integer", 5)
    assert (fields["api_key", None].secret, fields["api_key", None].title) == (True, "api_key")
    assert fields["files[].format", None].type == "string or integer"
    kind = fields["login.kind", None]
    assert (kind.enum, kind.required, kind.secret) == (["token", "basic"], True, False)
    token = fields["login.token", 'login.kind = "token"']
    assert (token.title, token.required, token.secret) == ("Token", True, True)


@pytest.mark.parametrize(
    "spec",
    [
        {"oneOf": [{"$ref": "#"}] * 10},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {f"p{i}": {"type": "string"} for i in range(3 * MAX_FIELDS)}},
        {"properties": {"a": {"oneOf": "x", "items": [1], "type": 7, "title": 3, "enum": 1, "required": 1}}},
        {"properties": [1]},
        {},
    ],
    ids=["alternatives", "tree", "circle", "many", "strange", "list", "empty"],
)
def test_no_specification_is_too_strange(spec: dict[str, Any]) -> None:
    """It ends soon, with a bounded list."""
    assert len(config_fields(spec)) <= MAX_FIELDS
