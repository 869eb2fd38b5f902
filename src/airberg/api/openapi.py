"""The OpenAPI document: complete, whatever a route has forgotten to say.

Routes say what is their own: parameters, bodies, answers, who may call. What all operations of a kind have
in common (problems with their headers, examples, where an id goes on to) is added here by rules, so that a
new route has it too. What no rule can know is missed by `tests/unit/api/test_api_openapi.py`.
"""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from airberg.api.openapi_examples import EXAMPLES
from airberg.api.openapi_operations import HEADERS, TAGS, complete_operation, problem_components
from airberg.api.problems import PROBLEM_SCHEMA

_COMPONENTS = "#/components/schemas/"


def operation_id(route: APIRoute) -> str:
    """The id of an operation: the name of its function, which clients make methods of."""
    return route.name


class DocumentedApp(FastAPI):
    """An application whose document is complete.

    Args:
        public_url: Where people reach the application.
    """

    def __init__(self, *, public_url: str, **options: Any) -> None:  # noqa: ANN401 - as FastAPI has them
        super().__init__(
            generate_unique_id_function=operation_id,
            openapi_tags=TAGS,
            license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            **options,
        )
        self._public_url = public_url

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi(), self._public_url)
        return self.openapi_schema


def completed(document: dict[str, Any], public_url: str) -> dict[str, Any]:
    """The document with all that the rules know. The argument is not changed."""
    whole = with_components(document)
    whole["servers"] = [{"url": public_url, "description": "This deployment."}]
    operations = {
        operation["operationId"]: (path, method, operation)
        for path, item in whole["paths"].items()
        for method, operation in item.items()
    }
    for path, method, operation in operations.values():
        complete_operation(path, method, operation, operations)
    components = whole["components"]
    components["responses"] = problem_components()
    components["headers"] = HEADERS
    for name, schema in components["schemas"].items():
        _close(schema)
        if name in EXAMPLES:
            schema["examples"] = copy.deepcopy(EXAMPLES[name])
    return whole


def _close(schema: Any) -> None:  # noqa: ANN401 - JSON
    """An object has the members that are named, and no others, unless it says so."""
    if isinstance(schema, list):
        for item in schema:
            _close(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)


# ---- components ------------------------------------------------------------------------------------------


def with_components(document: dict[str, Any]) -> dict[str, Any]:
    """The document with problems, bodies and inner definitions as components. The argument is not changed.

    The body of the ingest call is read by us and not by FastAPI, and problems have a media type of their
    own, so both schemas are given to the routes as they are. A reference into such a schema (`#/$defs/...`)
    would lead nowhere in the document, and a problem would be there once for every status of every route.
    """
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
        found[str(node["title"])] = copy.deepcopy(node)
        return {"$ref": _COMPONENTS + str(node["title"])}
    for name, definition in node.get("$defs", {}).items():
        found[name] = _shared(definition, found)
    out = {key: _shared(value, found) for key, value in node.items() if key != "$defs"}
    reference = out.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        out["$ref"] = _COMPONENTS + reference.removeprefix("#/$defs/")
    body = out.get("schema")
    if isinstance(body, dict) and body.get("type") == "object" and "title" in body and "properties" in body:
        found[str(body["title"])] = body
        out["schema"] = {"$ref": _COMPONENTS + str(body["title"])}
    return out
