"""The command lines that run images."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from airberg.errors import Unavailable
from airberg.settings import Settings, SourceSettings
from airberg.sources.container import run_options
from airberg.sources.container_runner import command
from airberg.sources.launch import installed, resolve
from airberg.sources.registry import ConnectorEntry

IMAGE = ConnectorEntry(name="source-crm", image="registry.example/source-crm:1.4.0", version="1.4.0")


def test_command_of_a_read() -> None:
    """Options of the deployment, then the mounts; paths of this machine do not reach the connector."""
    recipe: dict[str, object] = {
        "engine": "/usr/bin/docker",
        "image": "acme/x:1",
        "options": ["--network", "n"],
    }
    secrets = "/dev/shm/airberg-run-s"
    options = [*("--config", f"{secrets}/config.json"), *("--catalog", f"{secrets}/catalog.json")]
    assert list(command(recipe, "/tmp/airberg-run-h", "read", options)) == [
        *("/usr/bin/docker", "run", "--rm", "-i", "--init", "--name", "airberg-run-h", "--network", "n"),
        *("--user", f"{os.getuid()}:{os.getgid()}"),
        *("--volume", "/tmp/airberg-run-h:/tmp", "--env", "HOME=/tmp", "--env", "TMPDIR=/tmp"),
        *("--volume", f"{secrets}:/airberg:ro", "acme/x:1", "read"),
        *("--config", "/airberg/config.json", "--catalog", "/airberg/catalog.json"),
    ]


def test_command_of_a_spec_mounts_no_configuration() -> None:
    """There is none."""
    recipe: dict[str, object] = {"engine": "podman", "image": "acme/x:1", "options": []}
    argv = list(command(recipe, "/tmp/h", "spec", []))
    assert argv[-2:] == ["acme/x:1", "spec"]
    assert argv.count("--volume") == 1


@pytest.mark.parametrize(("name", "keeps"), [("docker", False), ("podman", True)])
def test_options_of_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keeps: bool
) -> None:
    """Limits and network of the deployment; nothing of the output is kept; rights are dropped."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    sources = SourceSettings(
        max_memory_bytes=7,
        max_processes=8,
        max_open_files=0,
        container_network="none",
        container_options=("--dns", "192.0.2.1"),
    )
    options = list(run_options(f"/usr/bin/{name}", sources))
    pairs = list(itertools.pairwise(options))
    for pair in (
        ("--log-driver", "none"),
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--memory", "7"),
        ("--pids-limit", "8"),
        ("--env", "HTTPS_PROXY"),
        ("--pull", "never"),
    ):
        assert pair in pairs
    assert "--ulimit" not in options
    assert (("--userns", "keep-id") in pairs) is keeps
    assert options[-2:] == ["--dns", "192.0.2.1"]


def test_without_an_engine_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found, or not what the setting names; and such a connector is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for engine, words in ((None, "no docker or podman was found"), ("nerdctl", "no nerdctl was found")):
        settings = Settings(home=tmp_path, sources=SourceSettings(container_engine=engine))
        with pytest.raises(Unavailable, match=words) as caught:
            resolve(IMAGE, settings, deadline=0)
        assert caught.value.code == "container-engine-missing"
        assert installed(IMAGE, settings) is None


def test_engine_that_does_not_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command without its service is as good as none, and says why."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///x' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Unavailable, match="docker says: Cannot connect to the Docker daemon") as caught:
        resolve(IMAGE, Settings(home=tmp_path), deadline=0)
    assert caught.value.code == "container-engine-missing"
