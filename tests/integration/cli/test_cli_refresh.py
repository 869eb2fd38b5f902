"""A newer list of connectors, from a registry on the loopback."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airberg.cli.connectors import refresh_registry
from airberg.errors import ConfigurationFailed, InvalidRequest, TransientFailed, Unavailable
from airberg.settings import Settings
from airberg.sources.registry import load_registry
from airberg.sources.snapshot import packaged_snapshot


def definition(source: str, version: str = "9.0.1", **changes: Any) -> dict[str, Any]:
    """A source as Airbyte's registry has it."""
    return {
        "name": source.removeprefix("source-").title(),
        "dockerRepository": f"airbyte/{source}",
        "dockerImageTag": version,
        "sourceType": "api",
        "documentationUrl": f"https://docs.example.com/{source}",
        "remoteRegistries": {"pypi": {"enabled": True, "packageName": f"airbyte-{source}"}},
        "tags": ["language:python"],
    } | changes


def packaged_as(package: str) -> dict[str, Any]:
    """A change: another package."""
    return {"remoteRegistries": {"pypi": {"enabled": True, "packageName": package}}}


OTHERS = [
    definition("source-mysql", remoteRegistries={}, language="java", tags=["language:java", 7]),
    definition("source-recipes", remoteRegistries=None, language="manifest-only", tags=[]),
]
STRANGE = [
    definition("source-evil", **packaged_as("evil")),
    definition("source-evil-two", dockerRepository="somebody/source-evil-two"),
    definition("source-evil-three", version="1.0 --index-url x"),
    definition("../../etc/passwd"),
    definition("source-java", remoteRegistries={}),
    definition("source-off", remoteRegistries={"pypi": {"enabled": False}}),
    definition("source-title", name="a\nb"),
    definition("source-tags", remoteRegistries={}, tags=["language:C++ 17\n"]),
    definition("source-buried", tombstone=True),
    {"dockerRepository": 7},
    "nonsense",
]


@pytest.fixture
def registry() -> Iterator[tuple[str, dict[str, Any]]]:
    """An address, and what it answers: to be changed."""
    content: dict[str, Any] = {
        "sources": [definition("source-new"), definition("source-github"), *OTHERS, *STRANGE]
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(content).encode()
            self.send_response(200 if self.path == "/registry.json" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/registry.json", content
        server.shutdown()


def test_newer_versions_and_new_connectors(
    tmp_path: Path, registry: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """They are used from then on; what is not of the expected form is left out and stays refused."""
    settings = Settings(home=tmp_path)
    with pytest.raises(InvalidRequest):
        load_registry(settings).find("source-new")
    refresh_registry(settings, registry[0])
    printed = capsys.readouterr().out
    assert "source-github 2.7.1 -> 9.0.1" in printed
    assert "2 connectors: 1 new, 1 in another version. 2 are no packages, and 11 were left out." in printed
    new, github = (load_registry(settings).find(name) for name in ("source-new", "source-github"))
    assert (new.package, new.version, new.tested) == ("airbyte-source-new", "9.0.1", False)
    assert (new.language, new.python_from) == ("python", "assumed")
    assert (github.python, github.python_from) == ("<3.14,>=3.10", "other-release")
    assert new.docs == "https://docs.example.com/source-new"
    assert (github.version, github.tested, github.title) == ("9.0.1", False, "GitHub")
    assert load_registry(settings).find("source-s3").overrides  # the package's, as before
    for name in ("source-mysql", "source-recipes"):
        with pytest.raises(InvalidRequest) as caught:
            load_registry(settings).find(name)
        assert caught.value.problems[0].code == "source-has-no-package"
    for name in (
        "source-tags",
        "source-buried",
        "source-evil",
        "source-evil-two",
        "source-evil-three",
        "source-java",
        "source-off",
    ):
        with pytest.raises(InvalidRequest):
            load_registry(settings).find(name)


def test_own_connectors_still_win(tmp_path: Path, registry: tuple[str, dict[str, Any]]) -> None:
    """What the deployment declares is not replaced."""
    settings = Settings(home=tmp_path)
    settings.connectors_file.write_text('[connectors.source-new]\nexecutable = "bin/new"\n')
    refresh_registry(settings, registry[0])
    assert load_registry(settings).find("source-new").executable == str(tmp_path / "bin/new")


@pytest.mark.parametrize("content", [{}, {"sources": []}, {"sources": STRANGE}, {"sources": "x"}])
def test_no_registry_changes_nothing(
    tmp_path: Path, registry: tuple[str, dict[str, Any]], content: dict[str, Any]
) -> None:
    """Whatever answers there: it is told, and no file is written."""
    settings = Settings(home=tmp_path)
    registry[1].clear()
    registry[1].update(content)
    with pytest.raises(ConfigurationFailed) as caught:
        refresh_registry(settings, registry[0])
    assert caught.value.code == "registry-unreadable"
    assert not settings.registry_file.exists()


def test_registry_that_does_not_answer(tmp_path: Path, registry: tuple[str, dict[str, Any]]) -> None:
    """An error that says what to do without the internet; a file works, and one that is not there is told."""
    settings = Settings(home=tmp_path)
    with pytest.raises(TransientFailed) as caught:
        refresh_registry(settings, registry[0] + "-not-there")
    assert caught.value.code == "registry-unreachable"
    assert "--from" in caught.value.guidance
    file = tmp_path / "copied.json"
    with pytest.raises(ConfigurationFailed):
        refresh_registry(settings, str(file))
    file.write_text(json.dumps(registry[1]))
    refresh_registry(settings, str(file))
    assert load_registry(settings).find("source-new").version == "9.0.1"


def test_address_is_that_of_pyairbyte(
    tmp_path: Path, pyairbyte_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own, or that of its variable; without PyAirbyte it has to be given."""
    from airberg.settings import SourceSettings
    from airberg.sources.refresh import registry_address

    settings = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=pyairbyte_dir))
    assert registry_address(settings).startswith("https://")
    with pytest.raises(ConfigurationFailed) as caught:
        registry_address(Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=tmp_path / "none")))
    assert caught.value.code == "pyairbyte-missing"
    monkeypatch.setenv("AIRBYTE_LOCAL_REGISTRY", "/mirror/registry.json")
    assert registry_address(settings) == "/mirror/registry.json"


def test_snapshot_of_the_deployment_that_is_older_or_broken(tmp_path: Path) -> None:
    """After an upgrade the package's is newer and wins; a file that is none stops nothing silently."""
    settings = Settings(home=tmp_path)
    github = {"name": "source-github", "package": "airbyte-source-github", "version": "0.0.1"}
    settings.registry_file.write_text(json.dumps({"snapshot": "2020-01-01", "connectors": [github]}))
    packaged = {entry.name: entry for entry in packaged_snapshot().connectors}
    assert load_registry(settings).find("source-github") == packaged["source-github"]
    settings.registry_file.write_text("{")
    with pytest.raises(Unavailable) as caught:
        load_registry(settings)
    assert caught.value.code == "registry-file"


def test_package_that_nobody_confirmed_is_not_installed(tmp_path: Path) -> None:
    """The answer says what it would be and how to declare it."""
    name, version = next(iter(packaged_snapshot().listed.items()))
    with pytest.raises(InvalidRequest) as caught:
        load_registry(Settings(home=tmp_path)).find(name)
    [problem] = caught.value.problems
    assert (problem.pointer, problem.code) == ("/source_name", "source-not-confirmed")
    assert f'package = "airbyte-{name}", version = "{version}"' in problem.guidance
