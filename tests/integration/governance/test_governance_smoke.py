"""The smoke test of a real DataHub finds what is wrong: played against the double, whole and broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import smoke_datahub
from pyiceberg.types import StringType
from smoke_datahub import OWNER, TAG, check, smoke, somebody_comes

from airberg.governance.register import register_run
from airberg.governance.sinks import open_sink
from airberg.testing.datahub import DataHubDouble, serve_datahub
from support.governed_deployment import GovernedDeployment
from support.pages import ROOT

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GovernedDeployment]:
    """Two tables of which the double knows."""
    with serve_datahub() as datahub:
        deployment = GovernedDeployment(tmp_path_factory.mktemp("smoke"), datahub)
        yield deployment
        deployment.store.close()


@pytest.fixture
def whole(loaded: GovernedDeployment) -> Iterator[GovernedDeployment]:
    """The same; what a test does to the double is undone."""
    datahub = loaded.datahub
    aspects, events = dict(datahub.aspects), list(datahub.timeseries)
    yield loaded
    datahub.aspects, datahub.timeseries = aspects, events


def test_a_whole_state_has_no_problem(whole: GovernedDeployment) -> None:
    """Every entity is looked at, each once."""
    checked = check(whole.settings)
    assert checked.problems == []
    assert checked.kept == set()
    urns = {urn for urn, _ in whole.datahub.aspects}
    assert checked.entities == Counter(urn.split(":")[2] for urn in urns)
    assert checked.entities["dataset"] == 2


def gone(part: str) -> Callable[[DataHubDouble], None]:
    """Whatever has this in its urn is not there."""

    def go(datahub: DataHubDouble) -> None:
        for urn in {urn for urn, _ in datahub.aspects if part in urn}:
            datahub.delete(urn)

    return go


def without(aspect: str) -> Callable[[DataHubDouble], None]:
    """An aspect, or the events of a kind, are not there."""

    def go(datahub: DataHubDouble) -> None:
        datahub.aspects = {k: v for k, v in datahub.aspects.items() if k[1] != aspect}
        datahub.timeseries = [event for event in datahub.timeseries if event[1] != aspect]

    return go


def changed(aspect: str, **members: object) -> Callable[[DataHubDouble], None]:
    """An aspect of the table says something else."""

    def go(datahub: DataHubDouble) -> None:
        datahub.upsert(DATASET, aspect, datahub.aspect(DATASET, aspect) | members)

    return go


def late(datahub: DataHubDouble) -> None:
    """The events are those of an earlier run."""
    for urn, name, value in list(datahub.timeseries):
        datahub.timeseries.remove((urn, name, value))
        datahub.upsert(urn, name, value | {"timestampMillis": 1})


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (gone(":container:"), "missing: urn:li:container:"),
        (gone("sales.orders"), "sales.orders,PROD) schemaMetadata"),
        (gone(":tag:pii"), "missing: urn:li:tag:pii tagKey"),
        (gone(":dataFlow:"), "missing: urn:li:dataFlow:"),
        (gone(":dataJob:"), "dataJobInputOutput"),
        (gone(":dataProcessInstance:"), "dataProcessInstanceProperties"),
        (without("globalTags"), "globalTags"),
        (without("ownership"), "ownership"),
        (without("domains"), "domains"),
        (without("editableSchemaMetadata"), "editableSchemaMetadata"),
        (without("upstreamLineage"), "upstreamLineage"),
        (without("browsePathsV2"), "browsePathsV2"),
        (without("operation"), "operation of"),
        (without("datasetProfile"), "datasetProfile of"),
        (without("dataProcessInstanceRunEvent"), "dataProcessInstanceRunEvent of"),
        (late, "the latest is 1"),
        (changed("datasetProperties", name="another"), "'another' instead of"),
        (changed("status", removed=True), "status/removed"),
        (changed("schemaMetadata", fields=[]), "schemaMetadata/fields"),
        (changed("domains", domains=["urn:li:domain:other"]), "domains"),
    ],
)
def test_each_broken_state_is_found(
    whole: GovernedDeployment, break_it: Callable[[DataHubDouble], None], words: str
) -> None:
    """What is missing, other or old is told by its urn and aspect."""
    break_it(whole.datahub)
    problems = check(whole.settings).problems
    assert problems
    assert any(words in problem for problem in problems), problems


def test_what_people_added_is_looked_for(whole: GovernedDeployment) -> None:
    """Their tag and their ownership are kept when the run is told again, and missed when they are lost."""
    theirs = somebody_comes(whole.settings)
    assert {what for _, _, what in theirs} == {TAG, OWNER}
    register_run(whole.job, whole.run, whole.catalog, whole.settings, open_sink(whole.settings))
    checked = check(whole.settings)
    assert checked.problems == []
    assert theirs <= checked.kept
    without("ownership")(whole.datahub)
    register_run(whole.job, whole.run, whole.catalog, whole.settings, open_sink(whole.settings))
    assert {aspect for _, aspect, _ in theirs - check(whole.settings).kept} == {"ownership"}


class Forgetful(DataHubDouble):
    """Takes patches for the whole aspect, as it would if its patches were no patches."""

    def patch(self, urn: str, name: str, patch: object, *, envelopes: bool = True) -> None:
        """Forget what was there."""
        self.aspects.pop((urn, name), None)
        super().patch(urn, name, patch, envelopes=envelopes)


@pytest.mark.parametrize("kind", [DataHubDouble, Forgetful])
def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[DataHubDouble]) -> None:
    """Domain, load, check, somebody, once more, check; a service that wipes what people did is found out."""
    with serve_datahub(kind()) as datahub:
        made: list[GovernedDeployment] = []

        def load() -> None:
            made.append(GovernedDeployment(tmp_path, datahub))

        def again() -> None:
            [one] = made
            register_run(one.job, one.run, one.catalog, one.settings, open_sink(one.settings))

        settings = GovernedDeployment.settings_of(tmp_path, datahub)
        problems = smoke(settings, load, again)
        made[0].store.close()
        assert datahub.aspect(smoke_datahub.DOMAIN_URN, "domainProperties")["name"] == "Marketing"
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "after the load",
        "told again, after somebody came",
    ]
    if kind is DataHubDouble:
        assert problems == []
    else:
        lost = [problem.split(": ")[0] for problem in problems]
        assert lost == ["lost", "lost"]


def test_a_table_that_changed_since_is_found(whole: GovernedDeployment) -> None:
    """DataHub is compared with the tables as they are."""
    table = whole.catalog.load_table("sales.orders")
    with table.update_schema() as update:
        update.add_column("later", StringType())
    assert any("later" in problem for problem in check(whole.settings).problems)
    with table.update_schema() as update:
        update.delete_column("later")


def test_without_docker_it_says_what_to_do(tmp_path: Path) -> None:
    """And ends with 1."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
    done = subprocess.run(
        [sys.executable, ROOT / "examples/datahub/smoke_datahub.py"],
        env=kept | {"PATH": str(tmp_path), "AIRBERG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "error: There is no Docker here. Name a DataHub that runs: --server URL.\n"
