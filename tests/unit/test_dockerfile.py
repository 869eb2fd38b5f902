"""The Dockerfile, read: `make test-kubernetes` builds it."""

from __future__ import annotations

import re

import pytest

from airberg_airflow.pods import HOME, USER
from support.image_build import DOCKERFILE, context_files, copied, lineage, needed, read_stages

STAGES = read_stages(DOCKERFILE.read_text())
FILES = context_files()


@pytest.mark.parametrize("name", STAGES)
def test_what_is_copied_is_there(name: str) -> None:
    """In the repository, and not hidden by `Dockerfile.dockerignore`; or in a stage that comes before."""
    before = list(STAGES)[: list(STAGES).index(name)]
    for rest in STAGES[name].all("COPY"):
        stage, sources, _ = copied(rest)
        assert stage is None or stage in before, rest
        for source in sources if stage is None else ():
            assert any(f == source or f.startswith(source.rstrip("/") + "/") for f in FILES), rest


def test_builds_see_what_they_need_and_nothing_else() -> None:
    """No tests, no compiled modules of this machine, nothing of a deployment."""
    assert {f.split("/")[0] for f in FILES} == {
        *("LICENSE", "README.md", "hatch_build.py", "native", "pyproject.toml", "requirements", "src"),
    }
    assert not [f for f in FILES if f.endswith((".so", ".pyc"))]


def test_packages_are_those_of_the_locks() -> None:
    """Each installation asks for hashes, but that of our own wheel."""
    for stage in STAGES.values():
        for rest in stage.all("RUN"):
            for command in re.findall(r"pip install [^&;]*", rest):
                assert "--require-hashes" in command or command.split()[-1].startswith("/wheel/"), command


@pytest.mark.parametrize("target", ["airberg", "airflow-worker"])
def test_images_run_without_root_and_home(target: str) -> None:
    """As the user that pods have, with the home that they have."""
    instructions = [one for stage in lineage(STAGES, target) for one in stage.instructions]
    assert [rest for name, rest in instructions if name == "USER"][-1] == f"{USER}:{USER}"
    assert f"AIRBERG_HOME={HOME}" in " ".join(rest for name, rest in instructions if name == "ENV")
    assert {s.name for s in needed(STAGES, target)} >= {"build", "connectors", "airberg"}
