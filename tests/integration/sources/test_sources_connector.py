"""Connectors through PyAirbyte: installed, remembered, checked, read."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import InvalidRequest, Unavailable
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Record, decode
from airberg.protocol.state import State, StateKey, states_for_connector
from airberg.settings import Settings, SourceSettings
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.preflight import preflight
from airberg.sources.read import ReadProcess
from airberg.sources.redact import MASK
from airberg.sources.registry import ConnectorEntry, load_registry
from airberg.sources.verbs import CheckOutcome, check, discover
from support.connectors.scenarios import PASSWORD, SCRIPT, scenario_config

pytestmark = [pytest.mark.connector, pytest.mark.xdist_group("connector"), pytest.mark.timeout(600)]

HOSTILE = SCRIPT.with_name("hostile_source.py")
FAKER = {"count": 150, "seed": 1, "parallelism": 1, "always_updated": False}
INSTALL_S = 400.0


def soon(seconds: float = INSTALL_S) -> float:
    """A deadline."""
    return time.monotonic() + seconds


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path) -> Settings:
    """A deployment with the scripted source as its own connector."""
    home = tmp_path_factory.mktemp("home")
    made = Settings(home=home, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    made.connectors_file.write_text(f'[connectors.source-scripted]\nexecutable = "{SCRIPT}"\n')
    return made


@pytest.fixture(scope="module")
def installed_by_two(settings: Settings) -> list[tuple[int, str]]:
    """What two processes say that install source-faker at once: exit code and output of each."""
    code = """
import sys, time
from pathlib import Path
from airberg.settings import Settings, SourceSettings
from airberg.sources.launch import resolve
from airberg.sources.registry import load_registry
settings = Settings(home=Path(sys.argv[1]), sources=SourceSettings(pyairbyte_dir=Path(sys.argv[2])))
launch = resolve(load_registry(settings).find("source-faker"), settings, deadline=time.monotonic() + 400)
print(launch.argv[0], launch.version)
"""
    command = [sys.executable, "-c", code, str(settings.home), str(settings.sources.pyairbyte_dir)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    return [(process.returncode, text) for process, text in zip(both, said, strict=True)]


@pytest.fixture
def faker(settings: Settings, installed_by_two: list[tuple[int, str]]) -> LaunchDescription:
    """The real source-faker, installed; read each time, since one of the tests has it built anew."""
    return resolve(load_registry(settings).find("source-faker"), settings, deadline=soon())


@pytest.fixture(scope="module")
def scripted(settings: Settings) -> ConnectorEntry:
    """The scripted source as an own connector."""
    return load_registry(settings).find("source-scripted")


def without_pyairbyte(settings: Settings) -> Settings:
    """The same deployment after PyAirbyte's environment was lost: whatever works does not start it."""
    sources = settings.sources.model_copy(update={"pyairbyte_dir": settings.home / "nowhere"})
    return settings.model_copy(update={"sources": sources})


# ---- resolve -----------------------------------------------------------------------------------------------


def test_two_processes_installing_at_once_both_succeed(
    installed_by_two: list[tuple[int, str]], faker: LaunchDescription, settings: Settings
) -> None:
    """Both get the same description, and PyAirbyte is started once."""
    assert [code for code, _ in installed_by_two] == [0, 0]
    (answer,) = {text for _, text in installed_by_two}
    assert answer.split() == [faker.argv[0], "7.2.1"]
    folder = settings.connectors_dir / "source-faker" / "7.2.1"
    assert (folder / "install.log").read_text().count("$ uv venv") == 1
    assert len([*folder.glob("env-*")]) == 1


def test_description_says_how_to_start_the_connector(faker: LaunchDescription) -> None:
    """The pinned version is installed, its command exists, its specification is the connector's."""
    assert faker.version == "7.2.1"
    assert Path(faker.argv[0]).name == "source-faker"
    assert os.access(faker.argv[0], os.X_OK)
    assert faker.spec["properties"]["count"]["type"] == "integer"


def test_second_resolve_does_not_start_pyairbyte(faker: LaunchDescription, settings: Settings) -> None:
    """What was resolved once is read from the file, at once, with no time to wait."""
    bare = without_pyairbyte(settings)
    assert resolve(load_registry(bare).find("source-faker"), bare, deadline=0.0) == faker


def test_missing_environment_of_pyairbyte_is_told(settings: Settings) -> None:
    """Without it nothing new can be installed, and the error says which part is missing."""
    bare = without_pyairbyte(settings)
    with pytest.raises(Unavailable) as caught:
        resolve(load_registry(bare).find("source-pokeapi"), bare, deadline=soon())
    assert caught.value.code == "pyairbyte-missing"


def test_half_built_installation_is_made_anew(faker: LaunchDescription, settings: Settings) -> None:
    """A folder without a description is what a killed installation left: it is wiped and built again."""
    folder = settings.connectors_dir / "source-faker" / faker.version
    (folder / "launch.json").unlink()
    Path(faker.argv[0]).unlink()
    (half_built := folder / "env-half-built").mkdir()
    again = resolve(load_registry(settings).find("source-faker"), settings, deadline=soon())
    assert again.spec == faker.spec
    assert os.access(again.argv[0], os.X_OK)
    assert not half_built.exists()


def test_deadline_leaves_the_installation_going(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """A caller without time is told to come back, and a later one finds the connector installed."""
    settings = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    settings.connectors_file.write_text(f'[connectors.source-later]\nexecutable = "{SCRIPT}"\n')
    entry = load_registry(settings).find("source-later")
    for _ in range(2):  # the second caller finds somebody else installing
        with pytest.raises(Unavailable) as caught:
            resolve(entry, settings, deadline=soon(0.2))
        assert (caught.value.code, caught.value.retry_after) == ("connector-installing", 30)
    # No installation of this caller's: it waits for the one that goes on.
    bare = without_pyairbyte(settings)
    assert resolve(entry, bare, deadline=soon()).argv == (str(SCRIPT),)


def test_failed_installation_is_told_without_credentials(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """The installer's reason is told, the same to who asks next, and a login in an address is not in it."""
    settings = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    entry = ConnectorEntry(
        name="source-faker",
        package="airbyte-source-faker",
        version="7.2.1",
        overrides=("no requirement https://me:s3cr3t@index.invalid/",),
    )
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            resolve(entry, settings, deadline=soon())
        assert caught.value.code == "connector-install-failed"
        assert "index.invalid" in caught.value.message
        assert "s3cr3t" not in str(caught.value)
    folder = tmp_path / "connectors" / "source-faker" / "7.2.1"
    assert not (folder / "launch.json").exists()
    assert "s3cr3t" in (folder / "failure.json").read_text()  # it was there to be hidden


def test_executable_that_changes_is_asked_again(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """The description of an executable holds for that very file; a missing one is told."""
    script = tmp_path / "source-own"
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    settings = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    entry = ConnectorEntry(name="source-own", executable=str(script))
    for name in ("a", "another"):
        schema["properties"] = {name: {"type": "string"}}
        message = json.dumps({"type": "SPEC", "spec": {"connectionSpecification": schema}})
        script.write_text(f"#!/bin/sh\necho '{message}'\n")
        script.chmod(0o700)
        launch = resolve(entry, settings, deadline=soon())
        assert (launch.spec, launch.version) == (schema, "local")
    script.unlink()
    with pytest.raises(Unavailable) as caught:
        resolve(entry, settings, deadline=soon())
    assert caught.value.code == "connector-missing"


def test_specification_without_bounds_is_told(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """Preparing a connector that answers 50 MB ends with the reason, and nothing is remembered of it."""
    script = tmp_path / "source-huge"
    command = shlex.join([sys.executable, "-I", str(HOSTILE), "huge-answer", "mark", str(tmp_path)])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o700)
    settings = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    with pytest.raises(Unavailable) as caught:
        resolve(ConnectorEntry(name="source-huge", executable=str(script)), settings, deadline=soon())
    assert caught.value.code == "connector-install-failed"
    assert "a line of more than 8 MiB" in caught.value.message
    assert not [*tmp_path.rglob("launch.json")]


# ---- the real source-faker ---------------------------------------------------------------------------------


def test_check_and_discover_of_the_real_connector(faker: LaunchDescription) -> None:
    """It accepts a good configuration and shows its three streams with keys and cursors."""
    assert check(faker, FAKER, 60) == CheckOutcome(True)
    streams = {stream["name"]: stream for stream in discover(faker, FAKER, 60)}
    assert set(streams) == {"users", "products", "purchases"}
    assert streams["users"]["source_defined_primary_key"] == [["id"]]
    assert "incremental" in streams["users"]["supported_sync_modes"]


def test_real_records_with_state(faker: LaunchDescription) -> None:
    """All users arrive, the books agree, and a second read from the state brings none."""
    (users,) = [stream for stream in discover(faker, FAKER, 60) if stream["name"] == "users"]
    catalog = {
        "streams": [
            {
                "stream": users,
                "sync_mode": "incremental",
                "destination_sync_mode": "append",
                "cursor_field": users["default_cursor_field"],
                "primary_key": users["source_defined_primary_key"],
            }
        ]
    }
    key = StateKey(None, "users")
    states: list[State] = []
    for expected in (150, 0):
        ledger = Ledger([key])
        ids: set[Any] = set()
        with ReadProcess(faker, FAKER, catalog, states_for_connector(states), idle_timeout_s=60) as process:
            for number, line in enumerate(process.lines(), 1):
                message = decode(line, number)
                ledger.observe(message)
                if isinstance(message, State):
                    states.append(message)
                if isinstance(message, Record):
                    ids.add(json.loads(bytes(message.data))["id"])
        ledger.verdict(process.exit_code, process.stderr_tail)
        assert len(ids) == ledger.records(key) == expected
        assert ledger.completed(key)


def test_preflight_of_the_real_connector(faker: LaunchDescription, settings: Settings) -> None:
    """Good passes with its streams within the time limit, wrong is refused by the specification."""
    entry = load_registry(settings).find("source-faker")
    found = preflight(entry, FAKER, settings, soon(settings.sources.preflight_timeout_s))
    assert found.launch == faker
    assert {stream["name"] for stream in found.streams} == {"users", "products", "purchases"}
    with pytest.raises(InvalidRequest) as caught:
        preflight(entry, FAKER | {"count": "many"}, settings, soon())
    assert [problem.pointer for problem in caught.value.problems] == ["/source_config/count"]


# ---- preflight of the scripted source ----------------------------------------------------------------------


def test_refused_check_is_told_in_the_connectors_words(
    tmp_path: Path, scripted: ConnectorEntry, settings: Settings
) -> None:
    """A failed check is a problem of the configuration; a slow discover is not waited for."""
    part = {"status": "FAILED", "message": f"password {PASSWORD} is wrong"}
    slow = {"steps": [{"ignore_sigterm": True}, {"sleep": 600}]}
    config = scenario_config(tmp_path, {"check": part, "discover": slow})
    with pytest.raises(InvalidRequest) as caught:
        preflight(scripted, config, settings, soon())
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/source_config", "check-failed")
    assert problem.message == f"password {MASK} is wrong"


def test_verdict_of_check_comes_before_that_of_discover(
    tmp_path: Path, scripted: ConnectorEntry, settings: Settings
) -> None:
    """Both fail; the reason of the check is the one to correct first."""
    both = {
        "steps": [{"trace_error": {"message": "cannot list", "failure_type": "config_error"}}, {"exit": 1}]
    }
    config = scenario_config(
        tmp_path, {"check": {"status": "FAILED", "message": "cannot log in"}, "discover": both}
    )
    with pytest.raises(InvalidRequest, match="cannot log in"):
        preflight(scripted, config, settings, soon())
    config = scenario_config(tmp_path, {"discover": both})
    with pytest.raises(InvalidRequest, match="cannot list") as caught:
        preflight(scripted, config, settings, soon())
    assert caught.value.code == "discover-failed"


def test_source_that_does_not_answer_is_unavailable(
    tmp_path: Path, scripted: ConnectorEntry, settings: Settings
) -> None:
    """Silence is no fault of the request: come back, or skip the preflight."""
    preflight(scripted, scenario_config(tmp_path, {"streams": []}), settings, soon())
    config = scenario_config(tmp_path, {"check": {"steps": [{"sleep": 600}]}})
    with pytest.raises(Unavailable, match="did not answer in time") as caught:
        preflight(scripted, config, settings, soon(1.0))
    assert caught.value.code == "preflight-timeout"
    assert "preflight=skip" in caught.value.guidance


def test_rotated_token_is_used_for_the_second_question(
    tmp_path: Path, scripted: ConnectorEntry, settings: Settings
) -> None:
    """With a refresh token, check goes first and discover gets what check got for it."""
    second = tmp_path / "second"
    second.mkdir()
    rotated = scenario_config(second, {"streams": [{"name": "after", "records": [{"id": 1}]}]})
    rotated["refresh_token"] = "two"
    scenario = {"check": {"steps": [{"control": rotated}]}, "discover": {"steps": [{"exit": 9}]}}
    config = scenario_config(tmp_path, scenario) | {"refresh_token": "one"}
    got: list[dict[str, Any]] = []
    found = preflight(scripted, config, settings, soon(), got.append)
    assert got == [rotated]
    assert [stream["name"] for stream in found.streams] == ["after"]
