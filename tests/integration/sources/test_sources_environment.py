"""A connector's environment: locked, from the lock, compiled; by the real uv from a folder of packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from airberg.errors import TransientFailed
from airberg.sources.environment import Recipe, build, compiling
from support.conditions import eventually
from support.package_index import PackageIndex

PYTHON = Path(sys.executable)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    """An index with the tiny connector and one version of what it needs."""
    made = PackageIndex(tmp_path / "index")
    made.add_dependency("1.0")
    made.add_tiny()
    made.use(monkeypatch)
    return made


def recipe(version: str = "1.0.0", overrides: Sequence[str] = (), command: str = "source-tiny") -> Recipe:
    """That of the tiny connector."""
    return Recipe(
        package="airbyte-source-tiny",
        version=version,
        overrides=tuple(overrides),
        python=">=3.10",
        command=command,
    )


def dependency_in(environment: Path) -> str:
    """The version of `tiny-dep` in an environment."""
    code = "import tiny_dep; print(tiny_dep.VERSION)"
    command = [environment / "bin" / "python", "-I", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def lock_in(folder: Path) -> Path:
    """The one lock in a folder."""
    [lock] = folder.glob("*.lock.txt")
    return lock


def test_lock_names_every_package_with_its_hash(index: PackageIndex, tmp_path: Path) -> None:
    """It has the connector and what it needs, and no address of an index."""
    program = build(recipe(), tmp_path / "env", tmp_path, PYTHON)
    assert program == tmp_path / "env" / "bin" / "source-tiny"
    lock = lock_in(tmp_path).read_text()
    assert "airbyte-source-tiny==1.0.0" in lock
    assert "tiny-dep==1.0" in lock
    assert lock.count("--hash=sha256:") == 2
    assert str(index.folder) not in lock
    assert [*tmp_path.glob(".locking-*")] == []


def test_lock_that_is_there_decides(index: PackageIndex, tmp_path: Path) -> None:
    """A second machine gets what the first one got, whatever was published since; without it the newest."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    build(recipe(), first / "env", first, PYTHON)
    index.add_dependency("2.0")
    lock = lock_in(first)
    (second / lock.name).write_bytes(lock.read_bytes())
    build(recipe(), second / "env", second, PYTHON)
    build(recipe(), third / "env", third, PYTHON)
    assert [dependency_in(f / "env") for f in (first, second, third)] == ["1.0", "1.0", "2.0"]


def test_package_that_differs_from_the_lock_is_refused(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name and version is not installed."""
    build(recipe(), tmp_path / "env", tmp_path, PYTHON)
    index.add("tiny-dep", "1.0", {"tiny_dep.py": "VERSION = 'forged'\n"})
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another machine's cache"))
    with pytest.raises(TransientFailed, match="ash mismatch"):
        build(recipe(), tmp_path / "other", tmp_path, PYTHON)


def test_overrides_replace_a_pin_that_cannot_be_met(index: PackageIndex, tmp_path: Path) -> None:
    """Without them uv says why it cannot be installed; a lock made with others is not used."""
    index.add_tiny("1.1.0", requires=["tiny-dep==1.1.0"])  # as some connectors pin their own version
    with pytest.raises(TransientFailed, match=r"tiny-dep==1\.1\.0"):
        build(recipe("1.1.0"), tmp_path / "broken", tmp_path, PYTHON)
    assert [*tmp_path.glob("*.lock.txt")] == []
    build(recipe("1.1.0", ["tiny-dep>=1"]), tmp_path / "env", tmp_path, PYTHON)
    index.add_dependency("2.0")
    build(recipe("1.1.0", ["tiny-dep>=2"]), tmp_path / "newer", tmp_path, PYTHON)
    assert [dependency_in(tmp_path / name) for name in ("env", "newer")] == ["1.0", "2.0"]


def test_package_without_the_command_is_told(index: PackageIndex, tmp_path: Path) -> None:
    """An entry of another name than the package's command."""
    with pytest.raises(TransientFailed, match="no command source-other"):
        build(recipe(command="source-other"), tmp_path / "env", tmp_path, PYTHON)


def test_everything_is_compiled(index: PackageIndex, tmp_path: Path) -> None:
    """Modules that nothing has imported too."""
    environment = tmp_path / "env"
    build(recipe(), environment, tmp_path, PYTHON)
    assert [*environment.rglob("unused.*.pyc")] == []
    with compiling(environment):
        pass
    assert len([*environment.rglob("unused.*.pyc")]) == 1


def test_compiling_ends_with_the_block(tmp_path: Path) -> None:
    """When an installation fails, no process goes on with its environment, the compiler's workers neither."""
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(PYTHON)
    (environment / "lib").mkdir()
    for number in range(200):
        (environment / "lib" / f"m{number}.py").write_text("x = [\n" + "    'some text',\n" * 2_000 + "]\n")

    def processes() -> list[int]:
        own = str(environment)
        found = psutil.process_iter(["cmdline"])
        return [process.pid for process in found if own in " ".join(process.info["cmdline"] or ())]

    def fail_behind_its_start() -> None:
        with compiling(environment):
            assert eventually(lambda: len(processes()) > 1)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail_behind_its_start()
    assert eventually(lambda: not processes(), 20)
