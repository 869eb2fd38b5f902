"""Cases that schemathesis makes of the OpenAPI document, played against a service over HTTP."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema

NOT_HERE = "GET /api/airbyte/sources/{source_name}"
"""Installs connectors that are not there, for which this service lacks PyAirbyte: it may answer 503."""
OF_VERSIONS = r"POST /api/keys/\{name\}/(disable|enable|destroy)"
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


def play(url: str, headers: dict[str, str], *, seed: int, examples: int, phases: tuple[str, ...]) -> Played:
    """Play the cases of a seed: the same ones each time.

    Args:
        url: Where the service is.
        headers: Sent with every request.
        seed: What the cases are made from.
        examples: At most so many random cases for each operation, and for each walk over links.
        phases: Of `examples`, `coverage` (limits of every field), `fuzzing` and `stateful`.
    """
    server_errors = {"expected-statuses": ["2xx", "3xx", "4xx"]}
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "workers": 1,
            "headers": headers,
            "request-timeout": 60,
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "phases": {
                name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")
            },
            "checks": {
                "not_a_server_error": server_errors,
                # A body may fit the schema and still be wrong: name columns that there are not, for example.
                "positive_data_acceptance": {"enabled": False},
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
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    schema.config.base_url = url
    played = Played()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(event, schema.raw_schema, played)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            played.faults[f"schemathesis: {event}"] = ""
    return played


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
