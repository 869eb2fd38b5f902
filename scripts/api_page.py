"""The reference page of the HTTP API, made from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD = """# HTTP API

All that the service answers to, as [the OpenAPI document](openapi.json) says it; a running service shows both
under `/docs` and `/openapi.json`. What the calls are for is told in [the ingest call](ingest.md),
[sources](sources.md), [jobs and runs](jobs.md) and [encryption keys](keys.md), what their errors mean in
[errors](errors.md).
"""
PROBLEMS_HEAD = """## Problems

A body of the media type `application/problem+json`, of the form [Problem](#problem).
"""


def api_page(document: dict[str, Any], note: str) -> str:
    """All operations by tag, all problems, all forms of bodies and answers."""
    components = document["components"]
    parts = [note, HEAD, _credentials(components["securitySchemes"]), _overview(document)]
    for tag in document["tags"]:
        found = [o for o in _operations(document) if o[2]["tags"] == [tag["name"]]]
        if found:
            parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
            parts += [_operation(*o) for o in found]
    rows = [
        f"| {_example(answer)['status']} | {answer['description']} | {_headers(answer)} |"
        for answer in components["responses"].values()
    ]
    parts += [PROBLEMS_HEAD, _table("status", "meaning", "headers", rows=rows)]
    parts.append("## Bodies and answers\n\nNo object has other members than these, unless it says so.\n")
    for name, schema in sorted(components["schemas"].items()):
        parts.append(_schema(name, schema))
    return "\n".join(parts)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def _credentials(schemes: dict[str, Any]) -> str:
    rows = []
    for scheme in schemes.values():
        header = scheme.get("name") or f"Authorization: {scheme['scheme'].capitalize()}"
        rows.append(f"| `{header}` | {_cell(scheme['description'])} |")
    return "## Credentials\n\n" + _table("header", "what", rows=rows)


def _overview(document: dict[str, Any]) -> str:
    rows = [
        f"| [`{method} {path}`](#{o['operationId']}) | {o['summary']} | {_scopes(o) or '-'} |"
        for path, method, o in _operations(document)
    ]
    return "## Overview\n\n" + _table("call", "what", "scope", rows=rows)


def _scopes(operation: dict[str, Any]) -> str:
    found = {scope for way in operation["security"] for scopes in way.values() for scope in scopes}
    return ", ".join(f"`{scope}`" for scope in sorted(found))


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"### {operation['operationId']}\n\n`{method} {path}`\n\n{operation['description']}\n"]
    rows = [
        f"| `{p['name']}` | {p['in']} | {_type(p['schema'])} | {_cell(p['description'])}"
        f"{_default(p['schema'])} |"
        for p in operation.get("parameters", [])
    ]
    if rows:
        parts.append(_table("parameter", "in", "type", "meaning", rows=rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body: {_type(content['schema'])}, `{media}`.\n")
    rows, problems = [], []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            problems.append(status)
            continue
        content = ", ".join(_body(media, c) for media, c in answer.get("content", {}).items())
        rows.append(f"| {status} | {_cell(answer['description'])} | {content or '-'} | {_headers(answer)} |")
    parts.append(_table("status", "meaning", "body", "headers", rows=rows))
    parts.append(f"[Problems](#problems): {', '.join(problems)}.\n")
    return "\n".join(parts)


def _example(answer: dict[str, Any]) -> dict[str, Any]:
    [content] = answer["content"].values()
    found: dict[str, Any] = content["example"]
    return found


def _body(media: str, content: dict[str, Any]) -> str:
    return _type(content["schema"]) + ("" if media == "application/json" else f", `{media}`")


def _headers(answer: dict[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in answer.get("headers", {})) or "-"


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        f"| `{member}`{'' if member in required else ' (optional)'} | {_type(of)} | "
        f"{_cell(of.get('description', ''))}{_default(of)} |"
        for member, of in schema.get("properties", {}).items()
    ]
    text = f"### {name}\n\n{schema.get('description', '')}\n"
    return text + ("\n" + _table("member", "type", "meaning", rows=rows) if rows else "")


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None or default in ([], {}) else f" Default `{str(default).lower()}`."


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_json(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    if kind == "object" and schema.get("additionalProperties") is True:
        return "any object"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _json(value: object) -> str:
    return str(value) if isinstance(value, str) and value else {"": '""'}.get(str(value), str(value).lower())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(*heads: str, rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]) + "\n"
