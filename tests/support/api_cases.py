"""Cases that schemathesis makes of the OpenAPI document, played against a service over HTTP."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema

from support.contract_ground import Ground

NOT_HERE = "GET /api/airbyte/sources/{source_name}"
"""Installs connectors that are not there, for which this service lacks PyAirbyte: it may answer 503."""
OF_VERSIONS = r"POST /api/keys/\{name\}/(disable|enable|destroy)"
KNOWN = 8
MEANINGFUL: dict[str, list[Any]] = {
    "source_name": ["source-faker"],
    "source_version": [None],
    "source_config": [{}, {"count": 3}, {"token": "t" * 20, "more": {"list": [1, None]}}],
    "streams": [None, [], ["users"]],
    "merge": [None],
    "timezone": [None, "UTC", "Europe/Berlin"],
    "schedule": [None, "@daily", "0 6 * * *"],
    "domain": [None, "Sales"],
    "tags": [None, [], ["demo"]],
    "owner_id": [None],
    "share_with": [None, [], ["sales"]],
    "column_transformations": [None, [], [{"column": "email", "transformation_type": "mask"}]],
    "readers": [None],
    "delete_format": [None],
    "deletes": [None],
    "skip_unchanged": [None],
    "flow": [None, {}, {"parallelism": 2, "on_failure": [{"type": "webhook", "connection": "pager"}]}],
    "tables": [None, {"users": {"partition_by": ["bucket(4, id)"]}}],
}
"""Values of the members of a submission that this service takes."""
HEADERS_TO_DOCUMENT = {"etag", "link", "location", "retry-after", "www-authenticate", "last-modified"}


@dataclass
class Played:
    """What was played and what came of it.

    Attributes:
        cases: Answers by phase.
        statuses: Answers by operation and status.
        faults: What is wrong, with a command that shows it.
    """

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many cases."""
        return sum(self.cases.values())

    def by_status(self) -> dict[int, int]:
        """Answers by status alone."""
        found: Counter[int] = Counter()
        for (_, status), count in self.statuses.items():
            found[status] += count
        return dict(sorted(found.items()))


def play(
    url: str,
    headers: dict[str, str],
    *,
    seed: int,
    examples: int,
    phases: tuple[str, ...],
    insider: Ground | None = None,
) -> Played:
    """Play the cases of a seed: the same ones each time.

    Args:
        url: Where the service is.
        headers: Sent with every request.
        seed: What the cases are made from.
        examples: At most so many random cases for each operation, and for each walk over links.
        phases: Of `examples`, `coverage` (limits of every field), `fuzzing` and `stateful`.
        insider: Of whom requests have ids of jobs and runs that there are, and bodies that may be taken:
            random ones hardly ever do.
    """
    config = _config(headers, seed, examples, phases, knowing=insider is not None)
    document = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(
        narrowed(document, insider) if insider else document, config=config
    )
    schema.config.base_url = url
    played = Played()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(event, schema.raw_schema, played)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            played.faults[f"schemathesis: {event}"] = ""
    return played


def _config(
    headers: dict[str, str], seed: int, examples: int, phases: tuple[str, ...], *, knowing: bool
) -> SchemathesisConfig:
    server_errors = {"expected-statuses": ["2xx", "3xx", "4xx"]}
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "workers": 1,
            "headers": headers,
            "request-timeout": 60,
            "generation": {
                "max-examples": examples,
                "database": "none",
                "no-shrink": True,
                # Random credentials beside those that are given are a subject of their own.
                "with-security-parameters": not headers,
                "mode": "positive" if knowing else "all",
            },
            "phases": {
                name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")
            },
            "checks": {
                "not_a_server_error": server_errors,
                "negative_data_rejection": {"expected-statuses": ["4xx"]},  # 413, too
                # A body may fit the schema and still be wrong: name columns that there are not, for example.
                "positive_data_acceptance": {"enabled": False},
                "use_after_free": {"enabled": False},  # a deleted job can still be looked at
            },
            "operations": [
                {
                    "include-name": NOT_HERE,
                    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]}},
                },
                {
                    # 404 may be about the version that the body names, of a key that is there.
                    "include-name-regex": OF_VERSIONS,
                    "checks": {"ensure_resource_availability": {"enabled": False}},
                },
            ],
        }
    )


def narrowed(document: dict[str, Any], ground: Ground) -> dict[str, Any]:
    """The document with what an insider knows: ids of things that there are, values that mean something."""
    ids = {name: [ground.made(name) for _ in range(KNOWN)] for name in ("job_id", "run_id", "name")}
    known = ids | {"source_name": ["source-faker"], "schema": [ground.made("schema")], "table": ["users"]}
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"] = {"type": "string", "enum": known[parameter["name"]]}
                    del parameter["example"]
    for body in ("IngestBody", "JobPatch"):
        members = document["components"]["schemas"][body]["properties"]
        members |= {name: {"enum": values} for name, values in MEANINGFUL.items() if name in members}
    return document


def _note(event: events.ScenarioFinished, document: dict[str, Any], played: Played) -> None:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        case = recorder.cases[case_id].value
        played.cases[event.phase.value] += 1
        if interaction.response is None:
            played.faults[f"{case.operation.label}: no answer"] = ""
            continue
        played.statuses[case.operation.label, interaction.response.status_code] += 1
        if case.method.lower() == case.operation.method.lower():
            for fault in _undocumented(interaction.response, case.operation, document):
                played.faults.setdefault(f"{case.operation.label}: {fault}", "")
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                what = f"{failure.operation}: {check.name}: {failure.title}: {failure.message[:300]}"
                played.faults.setdefault(what, check.failure_info.code_sample)


def _undocumented(response: Response, operation: Any, document: dict[str, Any]) -> list[str]:
    """Headers of an answer that mean something and that the document does not have."""
    described = document["paths"][operation.path][operation.method.lower()]["responses"]
    answer = described.get(str(response.status_code), {})
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    names = {name.lower() for name in answer.get("headers", {})}
    found = {name.lower() for name in response.headers} & HEADERS_TO_DOCUMENT
    return [f"{response.status_code} with undocumented {name}" for name in sorted(found - names)]
