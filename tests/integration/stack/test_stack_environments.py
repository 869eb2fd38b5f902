"""Environments: made once, by one of many, again when their lock changes. No index is asked here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.settings import Settings, SourceSettings
from airberg.stack.environments import (
    Environment,
    airflow_environment,
    ensure,
    lock_file,
    pyairbyte_environment,
)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment of no packages."""
    lock = tmp_path / "lock.txt"
    lock.write_text("# nothing\n")
    return Environment("A test's environment", tmp_path / "home" / "venv", lock)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home that does not exist yet."""
    return Settings(home=tmp_path / "home")


def test_it_is_made_once(environment: Environment, settings: Settings) -> None:
    """The first call makes it and says so; the second one does nothing."""
    said: list[str] = []
    assert ensure(environment, settings, said.append) == environment.folder
    assert len(said) == 2
    ran = subprocess.run(
        [environment.python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True
    )
    assert ran.stdout.strip() == str(environment.folder)
    ensure(environment, settings, said.append)
    assert len(said) == 2


def test_of_several_at_once_one_makes_it(environment: Environment, settings: Settings) -> None:
    """Callers that come at the same time wait for the first."""
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure(environment, settings, said.append), range(4)))
    assert len([s for s in said if s.startswith("installing")]) == 1


def a_lock(folder: Path, name: str) -> str:
    """A lock of one package that has one module of its name, made here and now."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name} @ {wheel.as_uri()} --hash=sha256:{digest}\n"


def test_a_changed_lock_brings_it_in_line(
    environment: Environment, settings: Settings, tmp_path: Path
) -> None:
    """Another lock is installed into the same folder; what is not in it goes."""
    environment.lock.write_text(a_lock(tmp_path, "before"))
    ensure(environment, settings, lambda _: None)
    kept = environment.folder / "kept"
    kept.touch()
    environment.lock.write_text(a_lock(tmp_path, "after"))
    assert not environment.complete()
    ensure(environment, settings, lambda _: None)
    packages = next((environment.folder / "lib").glob("python3*")) / "site-packages"
    assert environment.complete()
    assert kept.exists()
    assert {p.name for p in packages.glob("*er*.py")} == {"after.py"}


def test_a_package_with_another_hash_is_refused(
    environment: Environment, settings: Settings, tmp_path: Path
) -> None:
    """What is not the very file of the lock is not installed."""
    environment.lock.write_text(a_lock(tmp_path, "forged").replace("sha256:", "sha256:0", 1)[:-2] + "\n")
    with pytest.raises(TransientFailed) as caught:
        ensure(environment, settings, lambda _: None)
    assert "ash mismatch" in caught.value.message


@pytest.mark.parametrize("damage", ["no stamp", "no interpreter", "moved"])
def test_a_damaged_one_is_made_again(environment: Environment, settings: Settings, damage: str) -> None:
    """An interrupted installation, a lost interpreter or another place: it is made from scratch."""
    ensure(environment, settings, lambda _: None)
    rest = environment.folder / "rest-of-before"
    rest.touch()
    if damage == "no stamp":
        environment.stamp.unlink()
    elif damage == "no interpreter":
        environment.python.unlink()
        environment.python.symlink_to("/nowhere/python")
    else:
        moved = replace(environment, folder=environment.folder.with_name("elsewhere"))
        environment.folder.rename(moved.folder)
        assert not moved.complete()
        return
    ensure(environment, settings, lambda _: None)
    assert environment.complete()
    assert not rest.exists()


def test_what_cannot_be_installed_is_told_by_uv(environment: Environment, settings: Settings) -> None:
    """The error has uv's own reason, and the environment does not count as made."""
    environment.lock.write_text("something-without-a-hash==1.0\n")
    with pytest.raises(TransientFailed) as caught:
        ensure(environment, settings, lambda _: None)
    assert caught.value.code == "environment-failed"
    assert "something-without-a-hash" in caught.value.message
    assert not environment.complete()


def test_one_that_does_not_work_is_told(environment: Environment, settings: Settings) -> None:
    """When the module that it is for cannot be imported, it does not count as made."""
    with pytest.raises(ConfigurationFailed) as caught:
        ensure(replace(environment, imports="no_such_module"), settings, lambda _: None)
    assert "No module named 'no_such_module'" in caught.value.message
    assert not environment.complete()


def test_a_file_in_the_way(environment: Environment, settings: Settings, tmp_path: Path) -> None:
    """A home that is a file is an error for people, not a trace."""
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationFailed) as caught:
        ensure(environment, settings, lambda _: None)
    assert caught.value.code == "environment-not-writable"


def test_the_real_locks_are_found_and_hold_hashes(settings: Settings, tmp_path: Path) -> None:
    """Both locks come with us; every package in them has a hash; no index address is in them."""
    for name, package in (("airflow", "apache-airflow==3"), ("pyairbyte", "airbyte==")):
        text = lock_file(name).read_text()
        assert package in text
        pinned = [line for line in text.splitlines() if line[:1].isalnum()]
        assert pinned
        assert all(line.endswith("\\") for line in pinned)
        assert "index-url" not in text
    assert airflow_environment(settings).folder.is_relative_to(settings.home)
    other = Settings(home=tmp_path, sources=SourceSettings(pyairbyte_dir=tmp_path / "other"))
    assert pyairbyte_environment(other).folder == tmp_path / "other"


def test_a_missing_lock_is_an_installation_problem() -> None:
    """A broken installation says so."""
    with pytest.raises(ConfigurationFailed) as caught:
        lock_file("no-such-environment")
    assert caught.value.code == "installation-broken"


def test_it_uses_our_interpreter_where_that_fits(environment: Environment, settings: Settings) -> None:
    """With a fitting interpreter of our own nothing is searched or downloaded."""
    ensure(environment, settings, lambda _: None)
    ran = subprocess.run(
        [environment.python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
    )
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    assert ran.stdout.strip() == str(sys.version_info[:2]) or not fits
