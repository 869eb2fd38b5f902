"""The OpenAPI document: what routes describe inside themselves becomes shared components.

The body of the ingest call is read by us and not by FastAPI, and problems have a media type of their own, so
both schemas are given to the routes as they are. A reference into such a schema (`#/$defs/...`) would lead
nowhere in the document, and a problem would be there once for every status of every route.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from airberg.api.problems import PROBLEM_SCHEMA

_COMPONENTS = "#/components/schemas/"


class DocumentedApp(FastAPI):
    """An application whose document has all schemas among its components."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = with_components(super().openapi())
        return self.openapi_schema


def with_components(document: dict[str, Any]) -> dict[str, Any]:
    """The document with problems and inner definitions as components. The argument is not changed."""
    found: dict[str, Any] = {}
    shared: dict[str, Any] = _shared(document, found)
    schemas = shared.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {name: schema for name, schema in found.items() if name not in schemas}
    return shared


def _shared(node: Any, found: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        return [_shared(item, found) for item in node]
    if not isinstance(node, dict):
        return node
    if node == PROBLEM_SCHEMA:
        found[str(node["title"])] = node
        return {"$ref": _COMPONENTS + str(node["title"])}
    for name, definition in node.get("$defs", {}).items():
        found[name] = _shared(definition, found)
    out = {key: _shared(value, found) for key, value in node.items() if key != "$defs"}
    reference = out.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        out["$ref"] = _COMPONENTS + reference.removeprefix("#/$defs/")
    return out
