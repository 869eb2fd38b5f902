"""Runs with many tables: one request where DataHub takes it, smaller ones with the same end where not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from airberg.errors import TransientFailed, Unavailable
from airberg.governance.files import FileSink
from airberg.governance.port import Proposal
from airberg.governance.register import register_run, run_proposals
from airberg.governance.rest import USUAL, RestSink
from airberg.jobs.model import Job, Run
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from benchmarks.governing.tables import job_of, run_of
from support.many_tables import ManyTables

TABLES, WIDTH = 30, 4
BATCH = "POST /aspects?action=ingestProposalBatch"
HUMAN = {"tag": "urn:li:tag:human"}
FIRST = "urn:li:dataset:(urn:li:dataPlatform:iceberg,shop.table_0000,PROD)"


@pytest.fixture(scope="module")
def load() -> tuple[Job, Run]:
    """A run that loaded thirty tables."""
    job = job_of(TABLES, WIDTH)
    return job, run_of(job)


@pytest.fixture(scope="module")
def proposals(load: tuple[Job, Run]) -> list[Proposal]:
    """What there is to tell of it: more than DataHub's own client puts into a request."""
    found = list(run_proposals(*load, ManyTables(WIDTH), Settings()))
    assert len(found) > 2 * USUAL
    return found


def without_stamps(datahub: DataHubDouble) -> dict[str, Any]:
    """The state; moments that are stamped when something is merged are not compared."""
    state: dict[str, Any] = datahub.state()
    for value in state["latest"].values():
        for stamp in ("created", "lastModified"):
            if "editableSchemaFieldInfo" in value or "owners" in value:
                value.pop(stamp, None)
    return state


@pytest.fixture(scope="module")
def wanted(load: tuple[Job, Run], proposals: list[Proposal]) -> dict[str, Any]:
    """The state after one request."""
    job, run = load
    with serve_datahub() as datahub:
        sink_of(datahub).send(job.id, run.id, proposals)
        return without_stamps(datahub)


@pytest.fixture
def served() -> Iterator[DataHubDouble]:
    """A service."""
    with serve_datahub() as datahub:
        yield datahub


def sink_of(datahub: DataHubDouble, waits: list[float] | None = None, **options: Any) -> RestSink:
    """A sink whose waits are written down and take no time."""
    noted = [] if waits is None else waits
    defaults = {"token": datahub.token, "timeout_s": 20, "retries": 2, "wait": noted.append}
    return RestSink(datahub.url, **(defaults | options))


def test_many_tables_are_one_request(served: DataHubDouble, load: tuple[Job, Run]) -> None:
    """From the tables to the service: what DataHub is and knows is asked once, and then all of it is sent."""
    where = register_run(*load, ManyTables(WIDTH), Settings(), sink_of(served))
    assert where == served.url
    assert served.calls == ["GET /config", BATCH]
    assert len({urn for urn, name in served.aspects if name == "schemaMetadata"}) == TABLES


def test_no_request_has_more_than_it_may(
    served: DataHubDouble, load: tuple[Job, Run], proposals: list[Proposal], wanted: dict[str, Any]
) -> None:
    """As few as do, each with at most so many."""
    job, run = load
    sink_of(served, batch_size=150).send(job.id, run.id, proposals)
    assert served.calls.count(BATCH) == -(-len(proposals) // 150)
    assert without_stamps(served) == wanted


def test_openapi_takes_one_for_each_kind(
    served: DataHubDouble, load: tuple[Job, Run], proposals: list[Proposal], wanted: dict[str, Any]
) -> None:
    """Of entity and of change, and for each two hundred of those."""
    job, run = load
    sink_of(served, transport="openapi").send(job.id, run.id, proposals)
    kinds: dict[tuple[str, bool], int] = {}
    for proposal in proposals:
        kind = (proposal.entityType, proposal.changeType == "PATCH")
        kinds[kind] = kinds.get(kind, 0) + 1
    assert len(served.calls) - 1 == sum(-(-count // 200) for count in kinds.values())
    assert without_stamps(served) == wanted


@pytest.mark.parametrize(
    ("fault", "sink"),
    [
        (Fault(status=413, over=60_000), {}),
        (Fault(status=413, over=60_000), {"patch_mode": "upsert"}),
        (Fault(status=413, over=60_000), {"transport": "openapi"}),
        (Fault(status=500, over=250_000), {}),
        (Fault(status=502, over=250_000), {"patch_mode": "patch"}),
        (Fault(status=504, over=250_000), {}),
        (Fault(cut="before", over=250_000), {}),
        (Fault(cut="after", over=250_000), {}),
        (Fault(delay_s=30, over=250_000), {"timeout_s": 1}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else f"{value.status or value.cut or 'slow'}",
)
def test_what_is_too_much_becomes_smaller(
    served: DataHubDouble,
    load: tuple[Job, Run],
    proposals: list[Proposal],
    wanted: dict[str, Any],
    fault: Fault,
    sink: dict[str, Any],
) -> None:
    """At once, without waiting; whoever limits it, the service ends in the same state, and again."""
    job, run = load
    served.fault = fault
    waits: list[float] = []
    sink_of(served, waits, **sink).send(job.id, run.id, proposals)
    assert without_stamps(served) == wanted
    assert waits == []
    served.calls.clear()
    sink_of(served, waits, **sink).send(job.id, run.id, proposals)
    assert without_stamps(served) == wanted


@pytest.mark.parametrize("service", [{"old": True}, {"drops_patches": True, "version": "v1.3.0"}])
def test_smaller_requests_to_old_services(
    load: tuple[Job, Run], proposals: list[Proposal], wanted: dict[str, Any], service: dict[str, Any]
) -> None:
    """The size is found first, then what the service does not know is merged, and people's tags stay."""
    job, run = load
    with serve_datahub(DataHubDouble(**service)) as datahub:
        datahub.upsert(FIRST, "globalTags", {"tags": [HUMAN]})
        datahub.fault = Fault(status=413, over=60_000)
        sink_of(datahub).send(job.id, run.id, proposals)
        tags = datahub.aspect(FIRST, "globalTags")["tags"]
        assert [tag["tag"] for tag in tags] == ["urn:li:tag:human", "urn:li:tag:pii", "urn:li:tag:shop"]
        datahub.aspects[FIRST, "globalTags"]["tags"].remove(HUMAN)
        assert without_stamps(datahub) == wanted


def test_nothing_is_smaller_than_a_proposal(
    served: DataHubDouble, load: tuple[Job, Run], proposals: list[Proposal]
) -> None:
    """A service that takes none of any size is told at once, with what to do."""
    job, run = load
    waits: list[float] = []
    served.fault = Fault(status=413, only="/aspects?")
    with pytest.raises(Unavailable, match="does not take a request of this size") as caught:
        sink_of(served, waits).send(job.id, run.id, proposals)
    assert "client_max_body_size" in caught.value.guidance
    assert waits == []
    assert served.calls.count(BATCH) == len(proposals).bit_length() + 1 - (
        len(proposals) & (len(proposals) - 1) == 0
    )


@pytest.mark.parametrize(
    "fault", [Fault(status=500, only="/aspects?"), Fault(cut="before", only="/aspects?")]
)
def test_an_outage_is_not_taken_for_a_limit_for_ever(
    served: DataHubDouble, load: tuple[Job, Run], proposals: list[Proposal], fault: Fault
) -> None:
    """Halves until they are as small as those of DataHub's client; that one is tried as any other."""
    job, run = load
    waits: list[float] = []
    served.fault = fault
    with pytest.raises(Unavailable) as caught:
        sink_of(served, waits).send(job.id, run.id, proposals)
    assert re.search(r"\(500\)|gave no answer", caught.value.message)
    assert waits == [1.0, 2.0]
    halvings = next(n for n in range(20) if len(proposals) / 2**n <= USUAL)
    assert served.calls.count(BATCH) == halvings + 3


def test_what_the_catalog_raises_is_not_datahubs_fault(
    served: DataHubDouble, load: tuple[Job, Run], tmp_path: Any
) -> None:
    """The task is tried again, and its words do not blame the service."""

    class Gone(ManyTables):
        def load_table(self, identifier: Any) -> Any:
            if identifier[-1] == "table_0007":
                raise ConnectionError("warehouse")
            return super().load_table(identifier)

    with pytest.raises(TransientFailed, match=r"could not be registered \(ConnectionError\)") as caught:
        register_run(*load, Gone(WIDTH), Settings(), sink_of(served))
    assert caught.value.code == "metadata-failed"
    with pytest.raises(TransientFailed, match=r"could not be registered \(ConnectionError\)"):
        register_run(*load, Gone(WIDTH), Settings(), FileSink(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
