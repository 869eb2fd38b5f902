"""A source whose protected values are canaries, and that quotes them wherever it can say something."""

from __future__ import annotations

from typing import Any

from support.canaries import Canaries

BROKEN = "\ud800"
"""Half a surrogate pair: no text that can be encrypted."""

RULES = [
    {"column": "email", "transformation_type": "encrypt"},
    {"column": "code", "transformation_type": "encrypt"},
    {"column": "address.street", "transformation_type": "encrypt"},
    {"column": "profile", "transformation_type": "encrypt"},
    {"column": "seen", "transformation_type": "cast", "target_type": "date"},
    {"column": "seen", "transformation_type": "encrypt"},
    {"column": "phone", "transformation_type": "hash"},
    {"column": "card", "transformation_type": "mask"},
    {"column": "password", "transformation_type": "drop"},
]
TEXT, NUMBER, OBJECT = ({"type": ["null", kind]} for kind in ("string", "integer", "object"))
SCHEMA = {
    "type": "object",
    "properties": {
        "id": NUMBER,
        "town": TEXT,
        "email": TEXT,
        "code": NUMBER,
        "seen": TEXT,
        "phone": TEXT,
        "card": TEXT,
        "password": TEXT,
        "address": OBJECT | {"properties": {"street": TEXT, "zip": TEXT}},
        "profile": OBJECT | {"properties": {"name": TEXT}},
    },
}


def people(canaries: Canaries, others: Canaries, count: int, **members: Any) -> dict[str, Any]:
    """A stream whose protected values are canaries, with some that fit nowhere or cannot be encrypted.

    `email` is its cursor, so that its states hold a canary.
    """
    text, number = canaries.text, canaries.number
    records: list[dict[str, Any]] = [
        {
            "town": others.text("town"),
            "code": number("code"),
            "seen": text("no date"),
            "phone": text("phone"),
            "card": text("card"),
            "password": text("dropped"),
            "address": {"street": text("street"), "zip": "1"},
            "profile": {"name": text("name"), "age": number("age")},
            "undeclared": text("undeclared"),
        }
        for _ in range(count)
    ]
    records += [
        {"code": text("no number"), "address": text("no object"), "seen": {"a": text("no text")}},
        {"phone": BROKEN + text("broken phone"), "card": {"a": text("no card")}},
        {"phone": [text("no phone")], "card": BROKEN + text("broken card")},
        {"profile": [text("a list"), BROKEN + text("broken in a list")], "code": {"a": text("object")}},
        {"password": BROKEN + text("broken and dropped"), "address": {"street": [text("no text")]}},
        {"seen": BROKEN + text("broken"), "code": f"{number('code in a text')}", "town": 5},
    ]
    for i, record in enumerate(records):
        record |= {"id": i, "email": text("email", rest=f"{i:03}")}
    records[-1]["email"] += BROKEN
    base = {"name": "people", "json_schema": SCHEMA, "cursor": "email", "primary_key": [["id"]]}
    return base | {"state_every": 3, "counts": False, "records": records} | members


def quoting(canaries: Canaries, where: str) -> str:
    """What a connector might say."""
    return f"cannot parse {canaries.text(where)} of {canaries.number('quoted')}"


def noise(canaries: Canaries) -> list[dict[str, Any]]:
    """A connector that quotes records wherever it can say something, and leaves a temporary file."""

    def quoted(where: str) -> str:
        return quoting(canaries, where)

    levels = ("FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", quoted("level"))
    logs = [{"level": level, "message": quoted("log"), "stack_trace": quoted("stack")} for level in levels]
    changes = [
        {"field": quoted("field"), "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"},
        {"field": "town", "change": "TRUNCATED", "reason": quoted("reason")},
        {"field": f"profile.{quoted('member')}", "change": quoted("change"), "reason": "SOURCE_OTHER"},
    ]
    record = {"stream": "people", "emitted_at": 1, "data": {"id": 99}, "meta": {"changes": changes}}
    unknown = {"stream": quoted("stream"), "emitted_at": 1, "data": {"id": 99}}
    estimate = {
        "name": quoted("estimate"),
        "type": "STREAM",
        "row_estimate": canaries.number("rows of an estimate"),
    }
    return [
        *({"emit": {"type": "LOG", "log": log}} for log in logs),
        {"line": f"plain text {quoted('line')}"},
        {"line": f'"{quoted("line in quotes")}"'},
        {"emit": {"type": quoted("type")}},
        {"emit": {"type": "RECORD", "record": unknown}},
        {"emit": {"type": "RECORD", "record": record}},
        {"emit": {"type": "TRACE", "trace": {"type": "ESTIMATE", "emitted_at": 1, "estimate": estimate}}},
        {"status": {"stream": quoted("status"), "status": "RUNNING"}},
        {"stderr": quoted("stderr")},
        {"temporary": quoted("temporary file")},
        {"leak": "stdout"},
        {"leak": "stderr"},
    ]


def accounts(
    canaries: Canaries, versions: dict[int, int], deleted: frozenset[int] = frozenset()
) -> dict[str, Any]:
    """A stream with an encrypted key: version of each account, and which of them are deleted."""
    records = [
        {
            "iban": canaries.text("iban", rest=f"{i:03}"),
            "number": canaries.number(f"number {i}"),
            "version": version * 100 + i,
            "owner": {"name": canaries.text("owner", rest=str(version))},
            "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z" if i in deleted else None,
        }
        for i, version in versions.items()
    ]
    schema = {
        "type": "object",
        "properties": {
            "iban": TEXT,
            "number": NUMBER,
            "version": NUMBER,
            "owner": OBJECT | {"properties": {"name": TEXT}},
            "_ab_cdc_deleted_at": TEXT | {"format": "date-time"},
        },
    }
    base = {"name": "accounts", "json_schema": schema, "cursor": "version"}
    return base | {"primary_key": [["iban"], ["number"]], "state_every": 4, "records": records}


MERGED = [
    {"column": "iban", "transformation_type": "encrypt"},
    {"column": "number", "transformation_type": "encrypt"},
    {"column": "owner.name", "transformation_type": "encrypt"},
]
