"""Images, on an engine of our own that behaves like `docker run` (there is none to test with here)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import TransientFailed, Unavailable
from airberg.settings import Settings
from airberg.sources.launch import installed, resolve
from airberg.sources.process import ConnectorProcess
from airberg.sources.registry import load_registry
from support.connectors.scenarios import SCRIPT, configured, scenario_config
from support.connectors.waiting import until
from support.deployment import Deployment, write_scenario
from support.fake_engine import FakeEngine, parsed, running_engine

NAME = "source-scripted"
IMAGE = "registry.example/source-scripted:1.4.0"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The engine, which can pull the scripted source."""
    folder = tmp_path / "engine"
    folder.mkdir()
    with running_engine(folder) as made:
        made.registry[IMAGE] = [sys.executable, "-I", str(SCRIPT)]
        monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{made.address}")
        yield made


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment whose scripted source is an image; PyAirbyte has no part in it."""
    made = Deployment(tmp_path / "home", tmp_path / "no-pyairbyte", tmp_path / "connectors")
    made.settings.connectors_file.write_text(f'[connectors.{NAME}]\nimage = "{IMAGE}"\n')
    return made


def soon(seconds: float = 60) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def launch_of(settings: Settings) -> Any:
    """How the image is started."""
    return resolve(load_registry(settings).find(NAME), settings, deadline=soon())


def orders(count: int) -> dict[str, Any]:
    """A stream with a cursor."""
    fields = {"id": "$i", "item": "item $i"}
    return {"name": "orders", "cursor": "id", "generate": {"count": count, "from": 1, "fields": fields}}


def test_image_is_pulled_and_loaded(engine: FakeEngine, deployment: Deployment, tmp_path: Path) -> None:
    """Spec, check, discover and two reads, the second from the state of the first; nothing stays behind."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(20)]}))
    assert job.request.source_version == "1.4.0"
    deployment.run(job, "run-1")
    write_scenario(tmp_path, {"streams": [orders(25)]})
    second = deployment.run(job, "run-2")
    assert [s.rows_written for s in second.report.streams] == [5]
    assert sorted(deployment.rows("orders", "id")) == [(n,) for n in range(1, 26)]
    assert not engine.containers
    verbs = [parsed(arguments)[2][0] for arguments in engine.ran]
    assert sorted(verbs) == ["check", "discover", "read", "read", "spec"]
    for arguments in engine.ran:
        options, image, _ = parsed(arguments)
        assert image == IMAGE
        assert options["--log-driver"] == ["none"]
        mounts = [volume.split(":")[0] for volume in options["--volume"]]
        assert mounts
        assert not any(Path(mount).exists() for mount in mounts)
    assert "hunter2-hunter2" not in json.dumps(engine.ran)


def test_connector_sees_its_own_folders_only(
    engine: FakeEngine, deployment: Deployment, tmp_path: Path
) -> None:
    """Its configuration is private, and nothing of our environment is in the container's."""
    launch = launch_of(deployment.settings)
    report = tmp_path / "report.json"
    config = scenario_config(tmp_path, {"read": {"steps": [{"report": str(report)}]}})
    files = {"config": json.dumps(config).encode(), "catalog": json.dumps(configured()).encode()}
    with ConnectorProcess(launch, "read", files) as process:
        list(process.batches(idle_timeout_s=60))
    seen = json.loads(report.read_text())
    assert set(seen["files"].values()) == {"0o600"}
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "HOME", "TMPDIR"}
    assert seen["env"]["HOME"] == seen["env"]["TMPDIR"]
    assert Path(seen["env"]["HOME"]).name.startswith("airberg-run-")


def test_container_that_does_not_listen_is_removed(
    engine: FakeEngine, deployment: Deployment, tmp_path: Path
) -> None:
    """The engine's command ends at once when it is killed, its container does not."""
    launch = launch_of(deployment.settings)
    began = tmp_path / "began"
    steps = [{"ignore_sigterm": True}, {"touch": str(began)}, {"sleep": 600}]
    config = scenario_config(tmp_path, {"check": {"steps": steps}})
    process = ConnectorProcess(launch, "check", {"config": json.dumps(config).encode()}, grace_s=0.1)
    with process:
        until(began.exists)
        (container,) = engine.containers.values()
        with pytest.raises(TransientFailed):
            list(process.batches(idle_timeout_s=0.1))
    until(lambda: not engine.containers)
    assert container.returncode == -signal.SIGKILL


def test_container_goes_with_us(engine: FakeEngine, deployment: Deployment, tmp_path: Path) -> None:
    """Killed without a word, we leave no container behind."""
    launch_of(deployment.settings)
    began = tmp_path / "began"
    steps = [{"ignore_sigterm": True}, {"touch": str(began)}, {"sleep": 600}]
    config = scenario_config(tmp_path, {"check": {"steps": steps}})
    code = """
import json, sys, time
from pathlib import Path
from airberg.settings import Settings, SourceSettings
from airberg.sources.launch import resolve
from airberg.sources.process import ConnectorProcess
from airberg.sources.registry import load_registry
settings = Settings(home=Path(sys.argv[1]), sources=SourceSettings(connectors_dir=Path(sys.argv[2])))
launch = resolve(load_registry(settings).find("source-scripted"), settings, deadline=time.monotonic() + 60)
with ConnectorProcess(launch, "check", {"config": sys.argv[3].encode()}) as process:
    list(process.batches(idle_timeout_s=600))
"""
    folders = [str(deployment.home), str(deployment.connectors_dir)]
    child = subprocess.Popen([sys.executable, "-c", code, *folders, json.dumps(config)])
    until(began.exists)
    (container,) = engine.containers.values()
    child.kill()
    child.wait()
    until(lambda: not engine.containers)
    assert container.returncode == -signal.SIGKILL


def test_long_pull_goes_on_without_us(engine: FakeEngine, deployment: Deployment) -> None:
    """Who has no time is told to come back, and finds the image then."""
    entry = load_registry(deployment.settings).find(NAME)
    engine.may_pull.clear()
    for _ in range(2):  # the second finds somebody else pulling
        with pytest.raises(Unavailable) as caught:
            resolve(entry, deployment.settings, deadline=soon(0.3))
        assert (caught.value.code, caught.value.retry_after) == ("connector-installing", 30)
    assert installed(entry, deployment.settings) is None
    engine.may_pull.set()
    launch = resolve(entry, deployment.settings, deadline=soon())
    assert launch.spec["required"] == ["scenario"]
    assert installed(entry, deployment.settings) == launch


def test_image_that_cannot_be_used_is_told(engine: FakeEngine, deployment: Deployment) -> None:
    """It cannot be pulled, or gives no specification; a login in an address is not shown."""
    engine.registry.clear()
    with pytest.raises(Unavailable, match="is not known") as caught:
        launch_of(deployment.settings)
    assert caught.value.code == "connector-install-failed"
    assert "s3cr3t" not in str(caught.value)
    engine.images[IMAGE] = ["/bin/sh", "-c", "echo '<html>'; echo no such verb >&2; exit 3"]
    with pytest.raises(Unavailable, match="no such verb") as caught:
        launch_of(deployment.settings)
    assert caught.value.code == "connector-install-failed"
