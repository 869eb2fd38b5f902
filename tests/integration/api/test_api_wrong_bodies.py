"""Forty-five wrong bodies, each answered so that a newcomer knows what to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.source_service import SECRET, SourceService, running_source_service

PYTHON = re.compile(
    r"\b(NoneType|None|True|False|str|dict|tuple|ValidationError|\w+Error|Traceback|pydantic|jsonschema|msgspec)\b"
    r"|(?<!\w)'|'(?!\w)|<class|\\x|\\u"
)
"""Words of our tools, and quotes as Python writes them."""
CAST = {"column": "email", "transformation_type": "cast", "target_type": "int"}


def rule(**changes: Any) -> dict[str, Any]:
    """Changes of a body: one transformation."""
    return {"column_transformations": [CAST | changes]}


def renamed(name: str) -> dict[str, Any]:
    """Changes of a body: a column renamed."""
    rename = {"column": "email", "transformation_type": "rename", "new_name": name}
    return {"column_transformations": [rename]}


# What is changed of the body, the pointer that has to be told, its code, words that have to be there.
OF_BODY: list[tuple[dict[str, Any], str, str, str]] = [
    ({"name": ...}, "/name", "required-field", "`name` is missing"),
    ({"name": " "}, "/name", "bad-name", "1 to 200"),
    ({"name": "x" * 201}, "/name", "bad-name", "1 to 200"),
    ({"name": 7}, "/name", "wrong-type", "must be a string"),
    ({"mode": "upsert"}, "/mode", "not-one-of", '"append", "overwrite" or "merge"'),
    ({"shedule": "0 6 * * *"}, "/shedule", "unknown-field", "Did you mean `schedule`?"),
    ({"schema_name": "1st"}, "/schema_name", "bad-schema-name", "Use letters"),
    ({"source_name": "source-strickt"}, "/source_name", "unknown-source", "source-strict"),
    ({"source_name": "source-mysql"}, "/source_name", "source-has-no-package", "airbyte/source-mysql:TAG"),
    ({"source_name": "github"}, "/source_name", "bad-source-name", "source-github"),
    ({"source_config": "x"}, "/source_config", "wrong-type", "must be an object"),
    ({"streams": "users"}, "/streams", "wrong-type", "must be an array"),
    ({"streams": ["users"] * 5_001}, "/streams", "out-of-range", "at most 5000 items"),
    ({"tags": ["t"] * 201}, "/tags", "out-of-range", "at most 200 items"),
    ({"column_transformations": [CAST] * 5_001}, "/column_transformations", "out-of-range", "5000 items"),
    ({"tables": {f"s{n}": {} for n in range(5_001)}}, "/tables", "out-of-range", "at most 5000 items"),
    ({"source_config": {f"k{n}": n for n in range(50_001)}}, "", "too-many-members", "MAX_BODY_MEMBERS"),
    ({"streams": ["user"]}, "/streams/0", "unknown-stream", 'Did you mean "users"?'),
    ({"merge": "id"}, "/merge", "merge-without-merge-mode", "Set mode to merge"),
    ({"mode": "merge", "merge": "nope"}, "/merge", "unknown-merge-key", '"users" has no column "nope"'),
    ({"mode": "merge", "streams": ["logs"]}, "/merge", "no-primary-key", "logs"),
    ({"schedule": "* * * * * *"}, "/schedule", "bad-schedule", "has 6 fields"),
    ({"schedule": "0 0 31 2 *"}, "/schedule", "bad-schedule", "can come true"),
    ({"timezone": "Europe/Berlni"}, "/timezone", "bad-timezone", "Europe/Berlin"),
    ({"tags": ["a,b"]}, "/tags", "bad-tag", "has a comma"),
    ({"domain": "Salse"}, "/domain", "unknown-domain", "Sales"),
    ({"run_now": "yes"}, "/run_now", "wrong-type", "true or false"),
    (
        {"column_transformations": [CAST, CAST]},
        "/column_transformations/1",
        "conflicting-transformations",
        "email",
    ),
    (rule(column="mail"), "/column_transformations/0/column", "unknown-column", '"email"'),
    (rule(target_type="number"), "/column_transformations/0/target_type", "unknown-target-type", '"number"'),
    (rule(transformation_type="x"), "/column_transformations/0/transformation_type", "not-one-of", '"hash"'),
    (rule(stream="user"), "/column_transformations/0/stream", "unknown-stream", '"users"'),
    (renamed("ID"), "/column_transformations/0/new_name", "column-name-collision", '"email"'),
    (
        rule(transformation_type="encrypt", target_type=None, encryption_key_name="no"),
        "/column_transformations/0/encryption_key_name",
        "unknown-key",
        '"no"',
    ),
    (
        {"tables": {"users": {"partition_by": ["dya(id)"]}}},
        "/tables/users/partition_by/0",
        "unknown-transform",
        '"day"',
    ),
]
# What is changed of the configuration, and the same of the answer.
OF_CONFIGURATION: list[tuple[dict[str, Any], str, str, str]] = [
    ({"scenario": ...}, "/scenario", "required", "`scenario` is missing"),
    ({"start_date": "1st of May"}, "/start_date", "not-allowed", "must look like YYYY-MM-DD"),
    ({"start_date": ..., "strat_date": "2024-01-01"}, "/start_date", "required", "`strat_date`"),
    ({"page_size": "50"}, "/page_size", "type", "a whole number, and is a string"),
    ({"page_size": 500}, "/page_size", "not-allowed", "at most 100"),
    ({"region": "EU"}, "/region", "not-allowed", 'Did you mean "eu"?'),
    ({"repositories": "acme/demo"}, "/repositories", "type", "square brackets"),
    ({"streams": [{"name": "a"}, {"globs": []}]}, "/streams/1/name", "required", "`streams[1].name` is"),
    ({"pagesize": 7}, "/pagesize", "unknown-field", "Did you mean `page_size`?"),
    ({"credentials": {"auth_type": "keys"}}, "/credentials/auth_type", "no-alternative", 'mean "key"?'),
    ({"credentials": {"client_id": "x"}}, "/credentials/auth_type", "required", '"oauth" (OAuth)'),
    (
        {"credentials": {"auth_type": "oauth", "client_id": "x"}},
        "/credentials/client_secret",
        "required",
        "`credentials.client_secret` is missing",
    ),
    ({"credentials": SECRET}, "/credentials", "type", "an object, and is a string"),
    ({"tunnel": {}}, "/tunnel", "no-alternative", "By host with `host`; By socket with `socket`"),
]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> Iterator[SourceService]:
    """The service, which prepares in its own process: a child for each body would take a minute together.

    The streams were discovered, so that no body waits for the connector.
    """
    home = tmp_path_factory.mktemp("wrong-bodies")
    with running_source_service(home, pyairbyte_dir, connectors_dir, in_process=True) as running:
        running.api.get("/api/airbyte/sources/source-strict").raise_for_status()
        body = {"source_name": "source-strict", "source_config": running.config()}
        running.api.post("/api/airbyte/discover", json=body).raise_for_status()
        yield running


def refused(service: SourceService, body: dict[str, Any]) -> list[dict[str, str]]:
    """What is said of a wrong body; the form of the answer is that of every refusal."""
    answer = service.api.post("/api/airbyte/ingest", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["flow_url"], problem["job_id"], problem["status"]) == ("", None, 422)
    assert problem["error"]
    assert SECRET not in answer.text
    assert not list(service.parts.store.jobs())
    errors: list[dict[str, str]] = problem["errors"]
    for error in errors:
        assert error["guidance"]
        for text in (error["message"], error["guidance"]):
            assert not PYTHON.search(text), text
    return errors


def test_there_are_forty() -> None:
    """Of the form, of the plan, and of the connector's configuration."""
    assert len(OF_BODY) + len(OF_CONFIGURATION) >= 40


@pytest.mark.parametrize(("changes", "pointer", "code", "words"), OF_BODY)
def test_wrong_body(
    service: SourceService, changes: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    """One thing is wrong, one thing is told: where, what, and what to do."""
    [error] = refused(service, service.body(**changes))
    assert (error["pointer"], error["code"]) == (pointer, code)
    assert words in f"{error['message']} {error['guidance']}"


@pytest.mark.parametrize(("changes", "pointer", "code", "words"), OF_CONFIGURATION)
def test_wrong_configuration(
    service: SourceService, changes: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    """The same for what the connector's specification says."""
    [error] = refused(service, service.body(source_config=service.config(**changes)))
    assert (error["pointer"], error["code"]) == (f"/source_config{pointer}", code)
    assert words in f"{error['message']} {error['guidance']}"


def test_all_problems_of_the_form_are_found_at_once(service: SourceService) -> None:
    """Not only the first."""
    body = service.body(mode="upsert", schema_name="a b", schedule="never", colour="red", name=...)
    pointers = {e["pointer"] for e in refused(service, body)}
    assert pointers == {"/mode", "/schema_name", "/schedule", "/colour", "/name"}


def test_all_problems_of_a_configuration_are_found_at_once(service: SourceService) -> None:
    """Those inside alternatives and lists among them."""
    config = service.config(
        page_size=0,
        verify="yes",
        ratio=SECRET,
        repositories=["a", 7],
        credentials={"auth_type": "oauth", "client_secret": 5},
    )
    pointers = {
        e["pointer"].removeprefix("/source_config/")
        for e in refused(service, service.body(source_config=config))
    }
    assert pointers == {
        *("page_size", "verify", "ratio", "repositories/1"),
        *("credentials/client_id", "credentials/client_secret"),
    }


def test_failed_check_passes_the_message_on(service: SourceService, tmp_path: Path) -> None:
    """The connector's own words, without its secrets."""
    scenario = tmp_path / "refusing.json"
    scenario.write_text(f'{{"check": {{"status": "FAILED", "message": "wrong key {SECRET}"}}}}')
    [error] = refused(service, service.body(source_config=service.config(scenario=str(scenario))))
    assert (error["pointer"], error["code"]) == ("/source_config", "check-failed")
    assert error["message"] == "wrong key **********"
