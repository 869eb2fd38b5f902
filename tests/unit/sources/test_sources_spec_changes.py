"""What changes between two specifications."""

from __future__ import annotations

from typing import Any

from airberg.sources.spec_changes import spec_changes


def spec(required: list[str], **properties: Any) -> dict[str, Any]:
    """A specification."""
    return {"type": "object", "required": required, "properties": properties}


OLD = spec(
    ["account", "limit"],
    account={"type": "string"},
    limit={"type": "integer", "description": "How many."},
    mode={"type": "string", "enum": ["a", "b"]},
    handle={"type": "string", "airbyte_secret": True},
)


def test_equal_specifications_change_nothing() -> None:
    """Titles, descriptions and defaults are no changes of what a configuration must be."""
    limit = {"type": "integer", "description": "Another text.", "title": "Limit", "default": 3}
    assert spec_changes(OLD, OLD) == []
    assert spec_changes(OLD, OLD | {"properties": OLD["properties"] | {"limit": limit}}) == []


def test_what_is_added_removed_and_changed() -> None:
    """Each in a line, with what a person has to know to change the configuration."""
    new = spec(
        ["limit", "region", "handle"],
        limit={"type": "string"},
        region={"type": "string"},
        hint={"type": "string"},
        mode={"type": "string", "enum": ["b", "c"]},
        handle={"type": "string"},
    )
    assert spec_changes(OLD, new) == [
        "+ region string, required",
        "+ hint string",
        "- account string, required",
        "~ limit integer becomes string",
        "~ mode must be one of b, c",
        "~ handle is required now",
        "~ handle is no secret any more",
    ]


def test_alternatives_are_compared_by_their_constant() -> None:
    """A field of one alternative is not that of another."""

    def with_alternatives(*alternatives: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        return spec(
            ["auth"],
            auth={
                "type": "object",
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["kind", *fields],
                        "properties": {"kind": {"type": "string", "const": kind}} | fields,
                    }
                    for kind, fields in alternatives
                ],
            },
        )

    text = {"type": "string"}
    old = with_alternatives(("token", {"token": text}), ("login", {"user": text}))
    new = with_alternatives(("token", {"token": text}), ("login", {"user": text, "tenant": text}))
    assert spec_changes(old, new) == ['+ auth.tenant (with auth.kind = "login") string, required']
