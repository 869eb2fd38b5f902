"""Sources over HTTP, with a real connector: the list, the fields, checks and discovers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from airberg.api.app import create_app
from airberg.errors import Unavailable
from airberg.sources.questions import SourceQuestions
from airberg.sources.recent import RecentlyFound
from airberg.sources.registry import load_registry
from support.conditions import eventually
from support.deployment import write_scenario
from support.served import served
from support.source_service import LOGS, SECRET, USERS, SourceService, running_source_service


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> Iterator[SourceService]:
    """The service with its connector installed."""
    home = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        rule = {"owner": "ann@example.com", "scheme": "env", "prefix": "SALES_"}
        patch.setenv("AIRBERG_SECRETS__RULES", json.dumps([rule]))
        patch.setenv("AIRBERG_SECRET_SALES_KEY", SECRET)
        with running_source_service(home, pyairbyte_dir, connectors_dir) as running:
            running.api.get("/api/airbyte/sources/source-strict").raise_for_status()
            yield running


def counting(folder: Path, **scenario: Any) -> tuple[Path, Path]:
    """A scenario whose discovers leave a trace, and the file that a discover makes anew each time."""
    trace = folder / "asked"
    path = write_scenario(
        folder, {"streams": [USERS], "discover": {"steps": [{"touch": str(trace)}]}} | scenario
    )
    return path, trace


# ---- what there is ---------------------------------------------------------------------------------------


def test_list_is_searched_by_words_and_category(service: SourceService) -> None:
    """All words have to be there, in name or description; categories are compared without case."""
    found = service.api.get("/api/airbyte/sources").json()
    names = [s["name"] for s in found]
    assert names == sorted(names)
    assert {"source-github", "source-strict", "source-scripted"} <= set(names)
    github = next(s for s in found if s["name"] == "source-github")
    assert set(github) == {
        *("name", "package_name", "display_name", "category", "description", "version", "installed"),
        "language",
    }
    assert (github["package_name"], github["display_name"]) == ("airbyte-source-github", "GitHub")
    assert github["language"] == "python"

    def names_of(**query: Any) -> list[str]:
        return [s["name"] for s in service.api.get("/api/airbyte/sources", params=query).json()]

    assert names_of(search="hub git") == ["source-github"]
    assert names_of(search="READS scenarios") == ["source-strict"]
    assert names_of(category="Own") == ["source-scripted", "source-strict"]
    assert names_of(category="own", limit=1) == ["source-scripted"]
    assert names_of(search="no such thing") == []
    assert service.api.get("/api/airbyte/sources", params={"limit": 0}).status_code == 422


def test_details_have_the_fields_of_the_configuration(service: SourceService) -> None:
    """What a form needs, from the connector's own specification, and that specification."""
    found = service.api.get("/api/airbyte/sources/source-strict").json()
    assert (found["installed"], found["display_name"], found["package_name"]) == (True, "Strict", "")
    assert (found["language"], found["supported_python_from"]) == (None, None)
    assert found["spec"]["title"] == "Strict source"
    fields = {(f["path"], f["when"]): f for f in found["config_fields"]}
    assert next(iter(fields)) == ("scenario", None)
    key = fields["credentials.api_key", 'credentials.auth_type = "key"']
    assert (key["title"], key["type"], key["required"], key["secret"]) == ("API key", "string", True, True)
    kind = fields["credentials.auth_type", None]
    assert (kind["enum"], kind["required"], kind["secret"]) == (["key", "oauth"], True, False)
    assert fields["page_size", None]["default"] == 50
    assert fields["start_date", None]["description"] == "Nothing older is read."


def test_details_of_what_is_not_installed(service: SourceService) -> None:
    """Who may only read installs nothing and gets what is known; an unknown name is 404 with the nearest."""
    with service.client("ingest:read") as reader:
        found = reader.get("/api/airbyte/sources/source-github").json()
        assert (found["installed"], found["spec"], found["config_fields"]) == (False, None, [])
        assert found["version"]
        assert (found["supported_python"], found["supported_python_from"]) == ("<3.14,>=3.10", "package")
        assert not (service.settings.connectors_dir / "source-github").exists()
        unknown = reader.get("/api/airbyte/sources/source-githb")
        image = reader.get("/api/airbyte/sources/source-postgres")
    assert (image.status_code, image.json()["type"]) == (404, "/problems/source-has-no-package")
    assert "source-postgres (java)" in image.json()["detail"]
    assert unknown.status_code == 404
    assert unknown.json()["type"] == "/problems/unknown-source"
    assert "source-github" in unknown.json()["detail"]


def test_connector_that_is_still_being_installed(service: SourceService, tmp_path: Path) -> None:
    """202 with Retry-After and what is known; the fields are there when it is ready."""
    sources = service.settings.sources.model_copy(
        update={"preflight_timeout_s": 0.1, "connectors_dir": tmp_path / "connectors"}
    )
    settings = service.settings.model_copy(update={"sources": sources})
    with (
        served(create_app(replace(service.parts, settings=settings))) as url,
        service.client("ingest:read", "ingest:write") as client,
    ):
        client.base_url = url

        def details() -> httpx.Response:
            return client.get("/api/airbyte/sources/source-strict")

        early = details()
        assert early.status_code == 202, early.text
        assert int(early.headers["retry-after"]) > 0
        assert (early.json()["installed"], early.json()["config_fields"]) == (False, [])
        assert early.json()["display_name"] == "Strict"
        assert eventually(lambda: details().status_code == 200, 120.0)
        assert details().json()["config_fields"]


def test_scopes(service: SourceService) -> None:
    """Looking needs ingest:read, asking a source ingest:write."""
    body = {"source_name": "source-strict", "source_config": service.config()}
    with service.client("ingest:read") as reader:
        assert reader.post("/api/airbyte/check", json=body).status_code == 403
        assert reader.post("/api/airbyte/discover", json=body).status_code == 403
    with service.client("keys:admin") as other:
        assert other.get("/api/airbyte/sources").status_code == 403
        assert other.get("/api/airbyte/sources/source-strict").status_code == 403


# ---- asking ----------------------------------------------------------------------------------------------


def test_check(service: SourceService, tmp_path: Path) -> None:
    """A configuration that works, and one that does not: the connector's words, without its secrets."""
    body = {"source_name": "source-strict", "source_config": service.config()}
    good = service.api.post("/api/airbyte/check", json=body)
    assert good.status_code == 200
    assert good.json() == {
        "succeeded": True,
        "message": None,
        "source_name": "source-strict",
        "version": "local",
        "config_renewed": False,
    }
    scenario = write_scenario(tmp_path, {"check": {"status": "FAILED", "message": f"wrong key {SECRET}"}})
    body["source_config"] = service.config(scenario=str(scenario))
    bad = service.api.post("/api/airbyte/check", json=body)
    assert (bad.status_code, bad.json()["succeeded"]) == (200, False)
    assert bad.json()["message"] == "wrong key **********"


def test_check_of_a_configuration_that_does_not_fit(service: SourceService) -> None:
    """422 as for an ingest, all faults at once; the members of the body are checked as well."""
    body = {"source_name": "source-strict", "source_config": service.config(page_size=0, region="mars")}
    found = service.api.post("/api/airbyte/check", json=body)
    assert found.status_code == 422
    pointers = {e["pointer"] for e in found.json()["errors"]}
    assert pointers == {"/source_config/page_size", "/source_config/region"}
    typo = service.api.post("/api/airbyte/discover", json={"source_nam": "source-strict"}).json()
    assert {e["pointer"] for e in typo["errors"]} == {"/source_nam", "/source_name", "/source_config"}


def test_discover_shows_streams(service: SourceService) -> None:
    """Streams with schema, keys, cursor and sync modes."""
    body = {"source_name": "source-strict", "source_config": service.config()}
    found = service.api.post("/api/airbyte/discover", json=body)
    assert found.status_code == 200, found.text
    users, logs = found.json()["streams"]
    assert users["json_schema"]["properties"]["id"] == {"type": ["null", "integer"]}
    del users["json_schema"], logs["json_schema"]
    assert users == {
        "name": "users",
        "namespace": None,
        "sync_modes": ["full_refresh", "incremental"],
        "primary_key": [["id"]],
        "cursor_field": ["id"],
        "source_defined_cursor": True,
    }
    assert (logs["sync_modes"], logs["primary_key"]) == (["full_refresh"], [])
    assert SECRET not in found.text


def test_ingest_after_discover_does_not_ask_again(service: SourceService, tmp_path: Path) -> None:
    """What was found holds for the same owner and configuration, and only for them, until told otherwise."""
    scenario, trace = counting(tmp_path)
    config = service.config(scenario=str(scenario))
    body = {"source_name": "source-strict", "source_config": config}

    def asked(path: str, json: dict[str, Any], client: Any = service.api) -> bool:
        trace.unlink(missing_ok=True)
        client.post(path, json=json).raise_for_status()
        return trace.exists()

    assert asked("/api/airbyte/discover", body)
    assert not asked("/api/airbyte/discover", body)
    ingest = service.body(source_config=config, run_now=False, schedule="@yearly")
    assert not asked("/api/airbyte/ingest?dry_run=true", ingest)
    assert not asked("/api/airbyte/ingest", ingest)
    assert asked("/api/airbyte/discover?again=true", body)
    other = {"source_name": "source-strict", "source_config": config | {"page_size": 7}}
    assert asked("/api/airbyte/discover", other)
    with service.client("ingest:read", "ingest:write", who="bob") as bob:
        assert asked("/api/airbyte/discover", body, bob)


def test_dry_run_saves_the_next_one_the_wait(service: SourceService, tmp_path: Path) -> None:
    """Also when the plan was refused: whoever corrects a stream's name need not wait again."""
    scenario, trace = counting(tmp_path)
    config = service.config(scenario=str(scenario))
    wrong = service.api.post(
        "/api/airbyte/ingest?dry_run=true", json=service.body(source_config=config, streams=["user"])
    )
    assert wrong.status_code == 422
    trace.unlink()
    right = service.api.post("/api/airbyte/ingest?dry_run=true", json=service.body(source_config=config))
    assert right.status_code == 200
    assert not trace.exists()


def test_token_that_a_check_used_up_is_replaced_for_the_job(service: SourceService, tmp_path: Path) -> None:
    """A source hands out a new configuration while it is asked; the job gets it, no answer shows it."""
    new = service.config(credentials={"auth_type": "key", "api_key": "handed-out-2"})
    scenario = write_scenario(
        tmp_path, {"streams": [USERS, LOGS], "check": {"steps": [{"control": new}]}}, "rotating.json"
    )
    config = service.config(scenario=str(scenario))
    body = {"source_name": "source-strict", "source_config": config}
    checked = service.api.post("/api/airbyte/check", json=body)
    assert checked.json()["config_renewed"] is True
    found = service.api.post("/api/airbyte/discover", json=body)
    assert found.json()["config_renewed"] is True
    made = service.api.post(
        "/api/airbyte/ingest", json=service.body(source_config=config, run_now=False, schedule="@yearly")
    )
    assert made.status_code == 201, made.text
    stored = service.parts.store.source_config(UUID(made.json()["job_id"]))
    assert stored["credentials"]["api_key"] == "handed-out-2"
    assert "handed-out-2" not in checked.text + found.text + made.text


def test_answers_never_touch_the_disk(service: SourceService, tmp_path: Path) -> None:
    """Neither configuration nor catalog of a discover is in any file of the deployment afterwards."""
    scenario = write_scenario(tmp_path, {"streams": [USERS | {"name": "only_in_memory"}]})
    config = service.config(
        scenario=str(scenario), credentials={"auth_type": "key", "api_key": "never-on-disk-3"}
    )
    body = {"source_name": "source-strict", "source_config": config}
    assert service.api.post("/api/airbyte/discover", json=body).status_code == 200
    folders = (service.settings.home, service.settings.connectors_dir)
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    assert files
    for file in files:
        content = file.read_bytes()
        assert b"never-on-disk-3" not in content, file
        assert b"only_in_memory" not in content, file


def test_source_that_does_not_answer(service: SourceService, tmp_path: Path) -> None:
    """503 with Retry-After, within the time of a preflight."""
    settings = service.settings.model_copy(
        update={"sources": service.settings.sources.model_copy(update={"preflight_timeout_s": 3.0})}
    )
    scenario = write_scenario(tmp_path, {"streams": [USERS], "check": {"steps": [{"sleep": 60}]}})
    entry = load_registry(settings).find("source-strict")
    questions = SourceQuestions(settings, RecentlyFound(60.0))
    config = service.config(scenario=str(scenario))
    for ask in (questions.check, questions.discover):
        with pytest.raises(Unavailable) as caught:
            ask(entry, config, owner="ann", roles=frozenset())
        assert caught.value.code == "preflight-timeout"
        assert caught.value.retry_after == 30
        assert SECRET not in caught.value.sentence()


# ---- references to secrets ---------------------------------------------------------------------------------


def keyed(service: SourceService, key: str) -> dict[str, Any]:
    """A configuration with this API key."""
    return service.config(credentials={"auth_type": "key", "api_key": key})


def test_references_are_resolved_where_the_source_is_asked(service: SourceService, tmp_path: Path) -> None:
    """The connector gets the value, which is hidden in what it says; the job keeps the reference."""
    told = {"streams": [USERS], "check": {"status": "FAILED", "message": f"key {SECRET} has expired"}}
    config = keyed(service, "secret://env/SALES_KEY") | {"scenario": str(write_scenario(tmp_path, told))}
    body = {"source_name": "source-strict", "source_config": config}
    checked = service.api.post("/api/airbyte/check", json=body).json()
    assert (checked["succeeded"], checked["message"]) == (False, "key ********** has expired")
    write_scenario(tmp_path, {"streams": [USERS]})
    made = service.api.post("/api/airbyte/ingest", json=service.body(source_config=config))
    assert made.status_code == 201
    job = service.parts.store.job(UUID(made.json()["job_id"]))
    assert job.public_config == config
    assert service.parts.store.source_config(job.id) == config


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("secret://env/HR_KEY", "secret-not-allowed"),
        ("secret://env/no name", "secret-malformed"),
        ("secret://env/SALES_MISSING", "secret-not-found"),
        ("**********", "masked-value"),
    ],
)
def test_wrong_references_and_masks(key: str, code: str, service: SourceService) -> None:
    """422 with the place. All but whether a secret is there is known without asking the source."""
    config = keyed(service, key)
    calls = [("/api/airbyte/ingest", service.body(source_config=config), {"dry_run": True})]
    if code != "secret-not-found":
        calls.append(("/api/airbyte/ingest", service.body(source_config=config), {"preflight": "skip"}))
        calls.append(("/api/airbyte/check", {"source_name": "source-strict", "source_config": config}, {}))
    for path, body, query in calls:
        answer = service.api.post(path, json=body, params=query)
        assert answer.status_code == 422
        (problem,) = answer.json()["errors"]
        assert (problem["pointer"], problem["code"]) == ("/source_config/credentials/api_key", code)


def test_hosts_that_connectors_may_not_reach(service: SourceService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that names hosts refuses others wherever a configuration comes in, and starts nothing."""
    monkeypatch.setenv("AIRBERG_SOURCES__ALLOWED_HOSTS", '["*.example.com"]')
    config = service.config(endpoint="http://169.254.169.254/latest/meta-data", nested={"host": "localhost"})
    asked = {"source_name": "source-strict", "source_config": config}
    for path, body in (
        ("/api/airbyte/check", asked),
        ("/api/airbyte/discover", asked),
        ("/api/airbyte/ingest", service.body(source_config=config)),
    ):
        answer = service.api.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [
            ("/source_config/endpoint", "host-not-allowed"),
            ("/source_config/nested/host", "host-not-allowed"),
        ]
        assert "169.254" not in answer.text
    fine = {"source_name": "source-strict", "source_config": service.config()}
    assert service.api.post("/api/airbyte/check", json=fine).json()["succeeded"] is True
