"""Installing, from many processes at once and after a kill, and `airberg sources`, with a tiny package."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import AirbergError, ConfigurationFailed, Conflict, InvalidRequest, NotFound
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.plan.model import IngestRequest
from airberg.settings import Settings, SourceSettings
from airberg.sources.description import lock_of, read_description
from airberg.sources.installed import installed_versions
from airberg.sources.installer import Request, main
from airberg.sources.redact import MASK
from airberg.sources.registry import load_registry
from support.conditions import eventually
from support.deployment import Deployment
from support.package_index import PackageIndex

pytestmark = [pytest.mark.connector, pytest.mark.xdist_group("connector"), pytest.mark.timeout(600)]

DECLARED = """
[connectors.source-tiny]
package = "airbyte-source-tiny"
version = "1.0.0"
title = "Tiny [things]"
"""
RESOLVE = """
import sys, time
from airberg.settings import load_settings
from airberg.sources.launch import resolve
from airberg.sources.registry import load_registry
settings = load_settings()
launch = resolve(load_registry(settings).find("source-tiny"), settings, deadline=time.monotonic() + 400)
print(launch.argv[0])
"""


@dataclass
class Machine:
    """A deployment that knows the tiny connector and no index but the folder."""

    settings: Settings
    index: PackageIndex

    @property
    def folder(self) -> Path:
        """Of the tiny connector's version."""
        return self.settings.connectors_dir / "source-tiny" / "1.0.0"

    def process(self) -> subprocess.Popen[str]:
        """A process that wants the connector."""
        environment = os.environ | self.index.environment | self.variables
        return subprocess.Popen(
            [sys.executable, "-c", RESOLVE], env=environment, stdout=subprocess.PIPE, text=True
        )

    @property
    def variables(self) -> dict[str, str]:
        """The settings, for a process."""
        return {
            "AIRBERG_HOME": str(self.settings.home),
            "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(self.settings.pyairbyte_dir),
        }

    def say(self, *arguments: str, given: str | None = None) -> str:
        """What a command prints to standard output; its error is raised."""
        outcome = CliRunner().invoke(
            app, ["sources", *arguments], input=given, env=self.variables | self.index.environment
        )
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        self.code, self.errors = outcome.exit_code, outcome.stderr
        return outcome.stdout


def machine(folder: Path, pyairbyte_dir: Path) -> Machine:
    """A new one."""
    index = PackageIndex(folder / "index")
    index.add_dependency("1.0")
    index.add_tiny()
    settings = Settings(home=folder / "home", sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    settings.home.mkdir()
    settings.connectors_file.write_text(DECLARED)
    ensure_master_key(settings)
    upgrade(settings.database_url)
    return Machine(settings, index)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path) -> Machine:
    """One for the module; the connector is installed by the first test that needs it."""
    return machine(tmp_path_factory.mktemp("shared"), pyairbyte_dir)


@pytest.fixture(scope="module")
def said_by_eight(shared: Machine) -> list[tuple[int, str]]:
    """Exit codes and answers of eight processes that want the connector at once."""
    started = [shared.process() for _ in range(8)]
    said = [process.communicate()[0] for process in started]
    return [(process.returncode, text.strip()) for process, text in zip(started, said, strict=True)]


@pytest.fixture
def tiny(shared: Machine, said_by_eight: list[tuple[int, str]]) -> Iterator[Machine]:
    """The machine with the connector installed."""
    assert shared.folder.is_dir()
    yield shared
    assert read_description(shared.folder) is not None


# ---- installing --------------------------------------------------------------------------------------------


def test_eight_processes_make_one_build(said_by_eight: list[tuple[int, str]], shared: Machine) -> None:
    """All eight get the same connector; it was built once and asked for its specification once."""
    assert [code for code, _ in said_by_eight] == [0] * 8
    [program] = {text for _, text in said_by_eight}
    assert os.access(program, os.X_OK)
    assert [Path(program).parents[1]] == [*shared.folder.glob("env-*")]
    assert shared.index.started("spec") == ["1.0"]
    assert (shared.folder / "install.log").read_text().count("$ uv venv") == 1
    assert not (shared.folder / "claim").exists()


def test_killed_installation_is_made_anew(tmp_path: Path, pyairbyte_dir: Path) -> None:
    """Killed while it asks for the specification: nothing looks finished, the next one builds at once."""
    made = machine(tmp_path, pyairbyte_dir)
    made.index.hold.touch()
    asking = made.process()
    assert eventually(lambda: made.index.started("spec") == ["1.0"], 300)
    [half_built] = made.folder.glob("env-*")
    holder = int((made.folder / "claim").read_text().split()[1])
    os.killpg(holder, signal.SIGKILL)  # the connector is in its group
    asking.kill()
    asking.communicate()
    assert read_description(made.folder) is None
    made.index.hold.unlink()
    again = made.process()
    program = Path(again.communicate()[0].strip())
    assert again.returncode == 0
    assert program.parents[1] != half_built
    assert [*made.folder.glob("env-*")] == [program.parents[1]]
    assert made.index.started("spec") == ["1.0", "1.0"]


def test_host_that_finds_the_work_done_leaves_it(tmp_path: Path, tiny: Machine) -> None:
    """An installer that got its turn after another host's builds nothing; PyAirbyte is not needed for it."""
    found = read_description(tiny.folder)
    assert found is not None
    before = (tiny.folder / "launch.json").read_bytes()
    request = Request(
        name="source-tiny",
        version="1.0.0",
        fingerprint=found.fingerprint,
        folder=str(tiny.folder),
        python=str(tmp_path / "no interpreter"),
        work=str(tmp_path),
        limit_s=60,
    )
    try:
        assert main(request) == 0
    finally:
        signal.alarm(0)
    assert (tiny.folder / "launch.json").read_bytes() == before


def test_worker_without_the_connector_builds_it_in_its_first_run(
    tiny: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was planned where it is installed; the worker has a folder of its own with a lock in it."""
    tiny.index.use(monkeypatch)
    pyairbyte = tiny.settings.pyairbyte_dir
    service = Deployment(tmp_path / "home", pyairbyte, tiny.settings.connectors_dir)
    service.settings.connectors_file.write_text(DECLARED)
    job = service.job_of("source-tiny", {"token": "good"}, "overwrite")
    worker = Deployment(tmp_path / "home", pyairbyte, tmp_path / "connectors of the worker")
    folder = worker.settings.connectors_dir / "source-tiny" / "1.0.0"
    folder.mkdir(parents=True)
    [lock] = tiny.folder.glob("*.lock.txt")
    (folder / lock.name).write_bytes(lock.read_bytes())
    tiny.index.add_dependency("2.0")
    run = worker.run(job)
    assert (run.status, run.report.streams[0].rows_written) == ("completed", 2)
    described = read_description(folder)
    assert described is not None
    assert Path(described.argv[0]).is_relative_to(folder)
    assert tiny.index.started("read") == ["1.0"]


# ---- the commands ------------------------------------------------------------------------------------------


def test_list_and_search(tiny: Machine) -> None:
    """They show what may be named and what is installed; a search takes all words, in any case."""
    lines = [json.loads(line) for line in tiny.say("list", "--json").splitlines()]
    assert {"source-faker", "source-tiny"} < {line["name"] for line in lines}
    [one] = [json.loads(line) for line in tiny.say("list", "--installed", "--json").splitlines()]
    assert one == {
        "name": "source-tiny",
        "display_name": "Tiny [things]",
        "category": "own",
        "package_name": "airbyte-source-tiny",
        "version": "1.0.0",
        "language": "python",
        "installed": ["1.0.0"],
    }
    assert "Tiny [things]" in tiny.say("list", "--installed")
    assert [
        json.loads(line)["name"] for line in tiny.say("search", "GIT", "engineering", "--json").splitlines()
    ] == [
        "source-github",
        "source-gitlab",
    ]


def test_install_of_what_is_there_does_nothing(tiny: Machine) -> None:
    """It says so in the same words, and the connector is not started."""
    before = tiny.index.started("spec")
    assert tiny.say("install", "source-tiny") == "source-tiny 1.0.0 is installed.\n"
    said = json.loads(tiny.say("install", "source-tiny", "--json"))
    assert (said["name"], said["version"]) == ("source-tiny", "1.0.0")
    assert os.access(said["command"], os.X_OK)
    assert tiny.index.started("spec") == before
    with pytest.raises(InvalidRequest, match="source-tinny"):
        tiny.say("install", "source-tiny", "source-tinny")


def test_spec(tiny: Machine) -> None:
    """A table of the fields, or the schema itself."""
    table = tiny.say("spec", "source-tiny")
    [line] = [line for line in table.splitlines() if line.startswith("token")]
    assert {"string", "required", "secret", "Token"} <= set(line.replace("│", " ").split())
    assert json.loads(tiny.say("spec", "source-tiny", "--json"))["required"] == ["token"]


def test_check(tiny: Machine, tmp_path: Path) -> None:
    """The verdict of the connector, from a file or standard input, without the secret."""
    good = tmp_path / "good.json"
    good.write_text('{"token": "good"}')
    assert (
        tiny.say("check", "source-tiny", "--config", str(good))
        == "source-tiny 1.0.0: the configuration works.\n"
    )
    assert json.loads(
        tiny.say("check", "source-tiny", "--config", "-", "--json", given='{"token": "good"}')
    ) == {
        "ok": True,
        "message": "",
    }
    bad = '{"token": "wrong-t0ken"}'
    with pytest.raises(InvalidRequest) as refused:
        tiny.say("check", "source-tiny", "--config", "-", given=bad)
    assert (refused.value.code, refused.value.message) == ("check-failed", f"the token {MASK} is not known")
    assert json.loads(tiny.say("check", "source-tiny", "--config", "-", "--json", given=bad))["ok"] is False
    assert tiny.code == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [('{"token": "t0p-secret",}', "is not JSON"), ('["t0p-secret"]', "JSON object"), (None, "No such file")],
)
def test_configuration_that_cannot_be_read(
    tiny: Machine, tmp_path: Path, given: str | None, said: str
) -> None:
    """What is wrong with it is told, and nothing of what is in it."""
    file = tmp_path / "config.json"
    if given is not None:
        file.write_text(given)
    with pytest.raises(ConfigurationFailed, match=said) as refused:
        tiny.say("check", "source-tiny", "--config", str(file))
    assert refused.value.code == "bad-configuration-file"
    assert "t0p-secret" not in refused.value.sentence()


def test_configuration_that_does_not_fit_is_refused_before_it_is_tried(tiny: Machine) -> None:
    """The specification says so; the connector is not asked."""
    before = tiny.index.started("check")
    with pytest.raises(InvalidRequest) as refused:
        tiny.say("check", "source-tiny", "--config", "-", given='{"page_size": "many"}')
    assert {p.pointer for p in refused.value.problems} == {"/source_config/token", "/source_config/page_size"}
    assert tiny.index.started("check") == before


def test_discover(tiny: Machine, tmp_path: Path) -> None:
    """Streams with keys, cursors and modes; a token that was renewed meanwhile is kept beside the file."""
    config = tmp_path / "config.json"
    config.write_text('{"token": "once"}')
    table = tiny.say("discover", "source-tiny", "--config", str(config))
    [line] = [line for line in table.splitlines() if line.startswith("things")]
    assert [cell.strip() for cell in line.split("│")] == [
        "things",
        "id",
        "at",
        "full_refresh, incremental",
        "2",
    ]
    renewed = tmp_path / "config.json.renewed"
    assert str(renewed) in tiny.errors
    assert json.loads(renewed.read_text()) == {"token": "next"}
    assert stat.S_IMODE(renewed.stat().st_mode) == 0o600
    [stream] = tiny.say(
        "discover", "source-tiny", "--config", "-", "--json", given='{"token": "good"}'
    ).splitlines()
    assert json.loads(stream)["source_defined_primary_key"] == [["id"]]


def test_references_to_secrets(tiny: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the settings may use all of them, or try what an owner may; none is resolved in a file."""
    monkeypatch.setenv("AIRBERG_SECRET_GOOD", "good")
    monkeypatch.setenv("AIRBERG_SECRET_ONCE", "once")
    given = '{"token": "secret://env/GOOD"}'
    assert "the configuration works" in tiny.say("check", "source-tiny", "--config", "-", given=given)
    with pytest.raises(InvalidRequest) as refused:
        tiny.say("check", "source-tiny", "--config", "-", "--owner", "ada", given=given)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [
        ("/source_config/token", "secret-not-allowed")
    ]
    config = tmp_path / "config.json"
    config.write_text('{"token": "secret://env/ONCE", "page_size": 5}')
    tiny.say("discover", "source-tiny", "--config", str(config))
    assert json.loads((tmp_path / "config.json.renewed").read_text())["token"] == "next"


# ---- removing ----------------------------------------------------------------------------------------------


@pytest.fixture
def versions(tmp_path: Path, pyairbyte_dir: Path) -> Machine:
    """A machine with two versions in its folder; described, not built: removing looks at no more."""
    made = machine(tmp_path, pyairbyte_dir)
    for version in ("1.0.0", "1.1.0"):
        folder = made.folder.with_name(version)
        (folder / "env-1" / "bin").mkdir(parents=True)
        program = folder / "env-1" / "bin" / "source-tiny"
        program.touch()
        described = {"source_name": "source-tiny", "version": version, "argv": [str(program)]}
        (folder / "launch.json").write_text(json.dumps(described))
    return made


def test_remove(versions: Machine) -> None:
    """Nothing of the version is left; which one has to be said where there are several."""
    with pytest.raises(Conflict, match=r"1\.0\.0, 1\.1\.0") as refused:
        versions.say("remove", "source-tiny")
    assert refused.value.code == "version-not-named"
    assert versions.say("remove", "source-tiny", "--version", "1.0.0") == "source-tiny 1.0.0 is removed.\n"
    assert installed_versions(versions.settings.connectors_dir) == {"source-tiny": ["1.1.0"]}
    assert [p.name for p in versions.folder.parent.iterdir() if p.is_dir()] == ["1.1.0"]
    versions.say("remove", "source-tiny")
    for name in ("source-tiny", "source-faker", "..", "*"):
        with pytest.raises(NotFound):
            versions.say("remove", name)


def test_version_that_a_job_runs_with_is_not_removed(versions: Machine) -> None:
    """The job is named; another version goes, and with --force this one too."""
    entry = load_registry(versions.settings).find("source-tiny")
    request = IngestRequest(
        name="Things of today",
        source_name="source-tiny",
        schema_name="tiny",
        mode="append",
        owner_id="ann",
        connector=entry,
    )
    job = Job(
        id=uuid4(),
        owner_id="ann",
        created_by="test|ann",
        request=request,
        plan=None,
        public_config={},
        created_at=datetime.now(UTC),
    )
    store = open_store(versions.settings)
    store.add_job(job, {})
    store.close()
    with pytest.raises(Conflict, match="'Things of today'") as refused:
        versions.say("remove", "source-tiny", "--version", "1.0.0")
    assert refused.value.code == "connector-in-use"
    versions.say("remove", "source-tiny", "--version", "1.1.0")
    assert versions.folder.is_dir()
    versions.say("remove", "source-tiny", "--force")
    assert not versions.folder.exists()


def test_version_that_is_being_installed_is_not_removed(versions: Machine) -> None:
    """By a process of this host, which has the lock, or by another host, which has claimed it."""
    remove = ("remove", "source-tiny", "--version", "1.0.0")
    (versions.folder / "claim").write_text("another-kernel 1 1\n")
    with pytest.raises(AirbergError, match="being installed"):
        versions.say(*remove)
    (versions.folder / "claim").unlink()
    code = (
        f"import fcntl, sys; f = open({str(lock_of(versions.folder))!r}, 'ab'); fcntl.flock(f, fcntl.LOCK_EX)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('locked', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(AirbergError, match="being installed"):
        versions.say(*remove)
    holder.communicate()
    versions.say(*remove)
