"""Which connectors are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from airberg.errors import InvalidRequest, Unavailable
from airberg.settings import Settings
from airberg.sources.entry import UNKNOWN_PYTHON
from airberg.sources.registry import ConnectorRegistry, load_registry
from airberg.sources.snapshot import Snapshot


def settings_with(tmp_path: Path, text: str | None = None) -> Settings:
    """Settings whose connectors file has that text."""
    settings = Settings(home=tmp_path)
    if text is not None:
        settings.connectors_file.write_text(text)
    return settings


def test_every_entry_of_the_snapshot_is_complete() -> None:
    """Each connector has a package of its name, an exact version, an interpreter range, a title."""
    entries = ConnectorRegistry().entries()
    assert len(entries) >= 60
    for entry in entries:
        assert entry.package == f"airbyte-{entry.name}"
        assert entry.version
        assert entry.python.startswith(("<", ">"))
        assert entry.title
        assert entry.category != "own"
        assert entry.executable is None
        assert entry.language == "python"


def test_how_the_interpreters_are_known_is_told() -> None:
    """A version's own word, that of another release, or an assumption: an assumption is always the same."""
    entries = {entry.name: entry for entry in ConnectorRegistry().entries()}
    assert entries["source-github"].python_from == "package"
    assert entries["source-appfollow"].python_from == "other-release"
    assumed = [entry for entry in entries.values() if entry.python_from == "assumed"]
    assert assumed
    assert {entry.python for entry in assumed} == {UNKNOWN_PYTHON}


@pytest.mark.parametrize(
    ("language", "how"),
    [("java", 'image = "docker.io/airbyte/source-other:TAG"'), ("manifest-only", "manifest.yaml")],
)
def test_connector_without_a_package_is_told_as_such(language: str, how: str) -> None:
    """It is known, and the answer says what to declare; a misspelt one leads to it."""
    registry = ConnectorRegistry(snapshot=Snapshot(connectors=[], images={"source-other": language}))
    with pytest.raises(InvalidRequest) as caught:
        registry.find("source-other")
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/source_name", "source-has-no-package")
    assert f"source-other ({language})" in problem.message
    assert how in problem.guidance
    with pytest.raises(InvalidRequest, match="no connector") as misspelt:
        registry.find("source-othr")
    assert "source-other" in misspelt.value.problems[0].guidance


def test_declared_image_of_a_connector_without_a_package(tmp_path: Path) -> None:
    """What the answer says to declare is found from then on."""
    with pytest.raises(InvalidRequest):
        load_registry(settings_with(tmp_path)).find("source-postgres")
    settings = settings_with(
        tmp_path, '[connectors.source-postgres]\nimage = "docker.io/airbyte/source-postgres:3.7.0"'
    )
    assert load_registry(settings).find("source-postgres").version == "3.7.0"


@pytest.mark.parametrize(
    ("text", "language", "python_from"),
    [
        ('package = "p"\nversion = "1"', "python", "assumed"),
        ('package = "p"\nversion = "1"\npython = ">=3.11"', "python", "package"),
        ('manifest = "m.yaml"', "manifest-only", "package"),
        ('image = "acme/x:1"', "", "package"),
        ('image = "acme/x:1"\nlanguage = "java"', "java", "package"),
        ('executable = "x"', "", "package"),
    ],
)
def test_language_of_declared_connectors(tmp_path: Path, text: str, language: str, python_from: str) -> None:
    """It follows from the kind where it can, and may be said where it cannot."""
    [entry] = load_registry(settings_with(tmp_path, f"[connectors.source-x]\n{text}")).versions("source-x")
    assert (entry.language, entry.python_from) == (language, python_from)


def test_well_known_connectors_are_there() -> None:
    """The connectors that the documentation speaks of, with the fix for one whose pins are broken."""
    registry = ConnectorRegistry()
    assert registry.find("source-faker").version == "7.2.1"
    for name in ("github", "file", "s3", "sftp-bulk", "gcs", "azure-blob-storage"):
        registry.find(f"source-{name}")
    assert registry.find("source-s3").overrides == ("smart-open[s3]>=5.2,<8",)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("source-fakr", "source-faker"),
        ("faker", "source-faker"),
        ("GitHub", "source-github"),
        ("source-google-sheet", "source-google-sheets"),
        ("azure", "source-azure-blob-storage"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    """A misspelt name becomes a question, never a download."""
    with pytest.raises(InvalidRequest) as caught:
        ConnectorRegistry().find(name)
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/source_name", "unknown-source")
    assert near in problem.guidance


@pytest.mark.parametrize(
    "name", ["", "source-", "../../etc/passwd", "x" * 10_000, "source-evil==1 --index-url x"]
)
def test_strange_names_are_refused(name: str) -> None:
    """No name leads anywhere but to the registry."""
    with pytest.raises(InvalidRequest) as caught:
        ConnectorRegistry().find(name)
    assert len(str(caught.value)) < 500


def test_own_connectors_are_read_from_the_file(tmp_path: Path) -> None:
    """An executable (relative to the file) and a package of another version; both win over the snapshot."""
    settings = settings_with(
        tmp_path,
        """
        [connectors.source-orders]
        executable = "bin/source-orders"
        [connectors.source-s3]
        package = "airbyte-source-s3"
        version = "4.14.2"
        overrides = ["a<2"]
        title = "Our S3"
        """,
    )
    registry = load_registry(settings)
    orders, s3 = registry.find("source-orders"), registry.find("source-s3")
    assert (orders.executable, orders.title) == (str(tmp_path / "bin/source-orders"), "Orders")
    assert (s3.version, s3.overrides, s3.title, s3.category) == ("4.14.2", ("a<2",), "Our S3", "own")


def test_no_file_is_no_own_connectors(tmp_path: Path) -> None:
    """The file is optional."""
    assert load_registry(settings_with(tmp_path)).entries() == ConnectorRegistry().entries()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[connectors", "Expected"),
        ("x = 1", "no table"),
        ("connectors = 1", "not a table"),
        ("[connectors]\nsource-x = 1", "not a table"),
        ("[connectors.source-x]", "needs `executable`"),
        ('[connectors.source-x]\nexecutable = "a"\npackage = "b"\nversion = "1"', "needs `executable`"),
        ('[connectors.source-x]\npackage = "b"', "needs `executable`"),
        ('[connectors.source-x]\nexecutabel = "a"', "executabel"),
        ('[connectors.source-x]\npackage = "-r evil.txt"\nversion = "1"', "package"),
        ('[connectors.source-x]\npackage = "b"\nversion = "../1"', "version"),
        ('[connectors."../x"]\nexecutable = "a"', "source-some-words"),
        ('[connectors.source-x]\nexecutable = "a"\ndigest = "d"', "unknown field `digest`"),
        ('[connectors.source-x]\nexecutable = "a"\npython_from = "assumed"', "unknown field `python_from`"),
        ('[connectors.source-x]\nexecutable = "a"\nlanguage = "C++ 17"', "language"),
        ('[connectors.source-x]\nexecutable = "a"\nversions = 3', "neither a list nor a table"),
        ('[connectors.source-x]\nexecutable = "a"\nversion = "1"\nversions = ["1"]', "one version twice"),
        ('[connectors.source-x]\nexecutable = "a"\nversions = ["../1"]', "version"),
        ('[connectors.source-x]\nexecutable = "a"\ncomponents = "c.py"', "without a `manifest`"),
        ('[connectors.source-x]\nimage = "acme/x"', "without a version"),
        ('[connectors.source-x]\nimage = "acme/x:latest"', "without a version"),
        ('[connectors.source-x]\nimage = "localhost:5000/x"', "without a version"),
        ('[connectors.source-x]\nimage = "--privileged"', "image"),
    ],
)
def test_file_that_is_not_well_formed_is_told(tmp_path: Path, text: str, why: str) -> None:
    """Each fault of the file is named; nothing is silently left out."""
    with pytest.raises(Unavailable) as caught:
        load_registry(settings_with(tmp_path, text))
    assert caught.value.code == "connectors-file"
    assert why in caught.value.message


# ---- versions ----------------------------------------------------------------------------------------------


def test_versions_side_by_side(tmp_path: Path) -> None:
    """New jobs get the entry's own version; the others have what they do not say themselves from it."""
    settings = settings_with(
        tmp_path,
        """
        [connectors.source-orders]
        executable = "one"
        title = "Orders"
        [connectors.source-orders.versions."2"]
        executable = "two"
        [connectors.source-s3]
        package = "airbyte-source-s3"
        version = "4.14.2"
        overrides = ["a<2"]
        versions = ["4.16.1"]
        """,
    )
    registry = load_registry(settings)
    assert registry.find("source-orders").executable == str(tmp_path / "one")
    assert registry.find("source-orders", "local") == registry.find("source-orders")
    second = registry.find("source-orders", "2")
    assert (second.executable, second.title) == (str(tmp_path / "two"), "Orders")
    assert registry.find("source-s3").version == "4.14.2"
    assert registry.find("source-s3", "4.16.1").overrides == ("a<2",)


def test_unknown_version_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """Also of a package: a version that nobody has seen to work is no download."""
    with pytest.raises(InvalidRequest) as caught:
        ConnectorRegistry().find("source-faker", "6.0.0")
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/source_version", "unknown-source-version")
    assert "Known: 7.2.1." in problem.guidance


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("acme/source-x:1.4.0", "1.4.0"),
        ("localhost:5000/x:v2", "v2"),
        ("acme/x:1.4.0@sha256:0123456789abcdef", "1.4.0"),
        ("acme/x@sha256:0123456789abcdef", "0+0123456789ab"),
    ],
)
def test_version_of_an_image_is_its_tag(tmp_path: Path, image: str, version: str) -> None:
    """Or the beginning of its digest, when nothing else is said."""
    registry = load_registry(settings_with(tmp_path, f'[connectors.source-x]\nimage = "{image}"'))
    assert registry.find("source-x").version == version


def test_manifest_is_known_by_its_content(tmp_path: Path) -> None:
    """Its digest is kept with the entry; without a version of its own it is called by it."""
    settings = settings_with(
        tmp_path,
        """
        [connectors.source-items]
        manifest = "items.yaml"
        [connectors.source-named]
        manifest = "items.yaml"
        version = "1"
        """,
    )
    registry = load_registry(settings)
    with pytest.raises(Unavailable, match="of source-items cannot be read") as caught:
        registry.find("source-items")
    assert caught.value.code == "connector-missing"
    (tmp_path / "items.yaml").write_text("a: 1")
    first, named = registry.find("source-items"), registry.find("source-named")
    assert first.version == f"0+{first.digest[:12]}"
    assert (named.version, named.digest) == ("1", first.digest)
    assert registry.find("source-items", first.version) == first
    (tmp_path / "items.yaml").write_text("a: 2")
    assert registry.find("source-items").digest != first.digest
    assert registry.find("source-named", "1").digest != first.digest
