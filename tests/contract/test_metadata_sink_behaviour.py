"""What every metadata sink does: file, REST (against a double of DataHub's service) and memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import datahub.metadata.schema_classes as aspects
import pytest
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.specific.dataset import DatasetPatchBuilder

from airberg.errors import Unavailable
from airberg.governance.files import FileSink
from airberg.governance.memory import MemorySink
from airberg.governance.port import MetadataSink, Proposal
from airberg.governance.rest import RestSink
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
JOB, RUN = UUID(int=1), UUID(int=2)


def described(text: str) -> Proposal:
    """An UPSERT."""
    aspect = aspects.DatasetPropertiesClass(description=text)
    return MetadataChangeProposalWrapper(entityUrn=DATASET, aspect=aspect)


def tagged(name: str) -> Proposal:
    """A PATCH."""
    tag = aspects.TagAssociationClass(tag=f"urn:li:tag:{name}")
    (patch,) = DatasetPatchBuilder(DATASET).add_tag(tag).build()
    return patch


@dataclass
class Bench:
    """A sink, how to see what it holds, and how to break it.

    Attributes:
        received: Description and tags of the dataset after the run's proposals, from where they went.
        break_it: From now on it cannot take anything.
    """

    sink: MetadataSink
    received: Callable[[UUID], tuple[str | None, list[str]]]
    break_it: Callable[[], None]


def end_state(gms: DataHubDouble) -> tuple[str | None, list[str]]:
    """Description and tags as the service has them."""
    properties = gms.aspects.get((DATASET, "datasetProperties"), {})
    tags = gms.aspects.get((DATASET, "globalTags"), {"tags": []})
    return properties.get("description"), [t["tag"] for t in tags["tags"]]


def replayed(objects: list[dict[str, object]]) -> tuple[str | None, list[str]]:
    """Description and tags after the service took the objects of a metadata file."""
    gms = DataHubDouble()
    for obj in objects:
        aspect: dict[str, object] = obj["aspect"]  # type: ignore[assignment]  # the shape of a metadata file
        gms.propose(obj | {"aspect": {"value": aspect.get("value") or json.dumps(aspect["json"])}})
    return end_state(gms)


def file_bench(tmp_path: Path, _stack: ExitStack) -> Bench:
    """Files below a folder; broken by a file where the folder of the job has to be."""
    folder = tmp_path / "metadata"

    def break_it() -> None:
        folder.write_text("in the way")

    def received(run: UUID) -> tuple[str | None, list[str]]:
        return replayed(json.loads((folder / str(JOB) / f"{run}.json").read_text()))

    return Bench(FileSink(folder), received, break_it)


def memory_bench(_tmp_path: Path, _stack: ExitStack) -> Bench:
    """The twin."""
    sink = MemorySink()

    def break_it() -> None:
        sink.available = False

    return Bench(sink, lambda run: replayed(sink.sent[JOB, run]), break_it)


def rest_bench(_tmp_path: Path, stack: ExitStack) -> Bench:
    """The double over loopback; broken by answering 503."""
    gms = stack.enter_context(serve_datahub())

    def break_it() -> None:
        gms.fault = Fault(status=503)

    sink = RestSink(gms.url, token=gms.token, timeout_s=5, retries=0)
    return Bench(sink, lambda _run: end_state(gms), break_it)


@pytest.fixture(params=[file_bench, memory_bench, rest_bench], ids=["file", "memory", "rest"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Each sink in turn."""
    with ExitStack() as stack:
        yield request.param(tmp_path, stack)


def test_upserts_and_patches_arrive_in_order(bench: Bench) -> None:
    """The later description wins, both tags are there."""
    proposals = [described("first"), tagged("pii"), described("second"), tagged("crm")]
    where = bench.sink.send(JOB, RUN, proposals)
    assert where
    assert bench.received(RUN) == ("second", ["urn:li:tag:pii", "urn:li:tag:crm"])


def test_sending_a_run_again_replaces_it(bench: Bench) -> None:
    """A retried task leaves what one that worked at once leaves."""
    for _ in range(2):
        where = bench.sink.send(JOB, RUN, [described("x"), tagged("pii")])
    assert bench.received(RUN) == ("x", ["urn:li:tag:pii"])
    assert bench.sink.send(JOB, RUN, [described("x"), tagged("pii")]) == where


def test_nothing_to_say_is_no_failure(bench: Bench) -> None:
    """A run without tables is sent like any other."""
    assert bench.sink.send(JOB, RUN, [])


def test_proposals_are_not_changed(bench: Bench) -> None:
    """They can be sent elsewhere afterwards."""
    proposals = [described("x"), tagged("pii")]
    before = [p.to_obj() for p in proposals]
    bench.sink.send(JOB, RUN, proposals)
    assert [p.to_obj() for p in proposals] == before


def test_a_sink_that_cannot_says_so(bench: Bench) -> None:
    """Unavailable, with a sentence for people, so that the task is tried again."""
    bench.break_it()
    with pytest.raises(Unavailable) as caught:
        bench.sink.send(JOB, uuid4(), [described("x")])
    assert caught.value.code == "metadata-unavailable"
    assert caught.value.message


def test_proposals_may_be_made_as_they_are_taken(bench: Bench) -> None:
    """They need not be there before, nor a second time."""
    bench.sink.send(JOB, RUN, (make for make in (described("first"), tagged("pii"))))
    assert bench.received(RUN) == ("first", ["urn:li:tag:pii"])


def test_what_making_them_raises_is_not_the_sinks_fault(bench: Bench) -> None:
    """It reaches whoever made them as it is, and what was sent before is still there."""
    bench.sink.send(JOB, RUN, [described("whole")])

    def torn() -> Iterator[Proposal]:
        yield tagged("pii")
        raise FileNotFoundError("a table's metadata")

    with pytest.raises(FileNotFoundError, match="a table's metadata"):
        bench.sink.send(JOB, RUN, torn())
    assert bench.received(RUN) == ("whole", [])
