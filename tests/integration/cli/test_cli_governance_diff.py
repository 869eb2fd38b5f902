"""`airberg governance diff`: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.types import StringType
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import AirbergError
from airberg.testing.datahub import DataHubDouble, serve_datahub
from support.governed_deployment import GovernedDeployment

CUSTOMERS = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
ORDERS = CUSTOMERS.replace("customers", "orders")


class Ground(GovernedDeployment):
    """With the command, in its environment."""

    def diff(self, *options: str) -> tuple[int, list[str]]:
        """Exit code and lines; whatever it says, it writes nothing."""
        before = self.datahub.state()
        self.datahub.calls.clear()
        done = CliRunner().invoke(app, ["governance", "diff", *options])
        if isinstance(done.exception, AirbergError):
            return getattr(done.exception, "exit_code", 1), [done.exception.sentence()]
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        assert self.datahub.state() == before
        assert {call.split()[0] for call in self.datahub.calls} == {"GET"}
        assert self.datahub.token not in done.output
        return done.exit_code, done.output.splitlines()

    def found(self, *options: str) -> list[dict[str, Any]]:
        """Differences as JSON."""
        return [json.loads(line) for line in self.diff("--json", *options)[1]]

    def change(self, urn: str, aspect: str, /, **members: Any) -> None:
        """Have something else in DataHub than was sent."""
        self.datahub.upsert(urn, aspect, self.datahub.aspect(urn, aspect) | members)


@pytest.fixture(params=["v1.7.0", "v0.14.0"])
def ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Ground]:
    """Registered; the older service is read by rest.li."""
    with serve_datahub(DataHubDouble(version=request.param)) as datahub:
        monkeypatch.setenv("AIRBERG_HOME", str(tmp_path))
        for name, value in {"SERVER": datahub.url, "TOKEN": datahub.token, "RETRIES": "0"}.items():
            monkeypatch.setenv(f"AIRBERG_DATAHUB__{name}", value)
        made = Ground(tmp_path, datahub)
        yield made
        made.store.close()


def test_what_was_just_registered_does_not_differ(ground: Ground) -> None:
    """Also after a second run of one of the tables: the other is told by the first."""
    assert ground.diff() == (0, ["0 difference(s), 0 of people kept"])
    ground.load(2, "customers")
    assert ground.diff() == (0, ["0 difference(s), 0 of people kept"])


def test_tags_and_owners_of_people_are_kept(ground: Ground) -> None:
    """They are shown; ours that people removed are missing."""
    tags = ground.datahub.aspect(CUSTOMERS, "globalTags")["tags"]
    ground.change(CUSTOMERS, "globalTags", tags=[{"tag": "urn:li:tag:checked"}, *tags])
    owner = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}
    owners = ground.datahub.aspect(CUSTOMERS, "ownership")["owners"]
    ground.change(CUSTOMERS, "ownership", owners=[*owners, owner])
    code, lines = ground.diff()
    assert (code, lines[-1]) == (0, "0 difference(s), 2 of people kept")
    assert f"kept       {CUSTOMERS} globalTags: urn:li:tag:checked" in lines
    assert f"kept       {CUSTOMERS} ownership: urn:li:corpuser:bob" in lines
    ground.change(CUSTOMERS, "globalTags", tags=[{"tag": "urn:li:tag:checked"}])
    code, lines = ground.diff()
    assert (code, lines[-1]) == (1, "2 difference(s), 2 of people kept")
    assert sum(line.startswith(f"missing    {CUSTOMERS} globalTags") for line in lines) == 2


def test_each_kind_of_difference(ground: Ground) -> None:
    """A text that is another, a property too many and one too few, an aspect that is not there."""
    properties = ground.datahub.aspect(CUSTOMERS, "datasetProperties")
    custom = {k: v for k, v in properties["customProperties"].items() if k != "format-version"}
    ground.change(CUSTOMERS, "datasetProperties", customProperties=custom | {"theirs": "x"}, name="x" * 500)
    ground.datahub.delete(ORDERS)
    found = ground.found()
    assert {(d["kind"], d["pointer"]) for d in found if d["urn"] == CUSTOMERS} == {
        ("missing", "/customProperties/format-version"),
        ("extra", "/customProperties/theirs"),
        ("different", "/name"),
    }
    assert max(len(d["found"] or "") for d in found) <= 80
    gone = {d["aspect"] for d in found if d["urn"] == ORDERS}
    assert {"status", "schemaMetadata", "upstreamLineage", "globalTags", "domains"} <= gone


def test_columns_that_came_and_went(ground: Ground) -> None:
    """The table has got a column and lost one since; both are told by their names."""
    with ground.catalog.load_table("sales.customers").update_schema() as update:
        update.add_column("added", StringType())
        update.delete_column("amount")
    fields = {
        (d["kind"], d["pointer"].rpartition(".")[2])
        for d in ground.found("--table", "sales.customers")
        if d["pointer"].startswith("/fields/")
    }
    assert ("missing", "added") in fields
    assert ("extra", "amount") in fields


def test_choosing(ground: Ground) -> None:
    """By table, whatever its case, without what belongs to the flow; by job; and what is not there."""
    ground.datahub.delete(ORDERS)
    assert ground.diff("--table", "sales.customers")[0] == 0
    assert {d["urn"] for d in ground.found("--table", "Sales.Orders")} >= {ORDERS}
    assert ground.diff("--job", str(ground.job.id))[0] == 1
    code, [words] = ground.diff("--table", "no.such")
    assert (code, "No job has loaded the table no.such" in words) == (2, True)
    code, [words] = ground.diff("--job", str(ground.run.id))
    assert (code, "There is no job" in words) == (1, True)
