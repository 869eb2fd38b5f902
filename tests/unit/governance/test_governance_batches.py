"""Proposals are grouped for requests as they are made, and nothing of a run is kept longer than that."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import datahub.metadata.schema_classes as aspects
import pytest
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from hypothesis import given
from hypothesis import strategies as st

from airberg.governance.batches import batches, packed, restli_body
from airberg.governance.files import FileSink
from airberg.governance.port import MetadataSink, Proposal
from airberg.governance.register import register_run
from airberg.governance.wire import as_json, render
from airberg.settings import Settings
from benchmarks.governing.tables import job_of, run_of
from support.many_tables import ManyTables


def saying(text: str) -> Proposal:
    """A proposal as long as a text."""
    properties = aspects.TagPropertiesClass(name="t", description=text)
    return MetadataChangeProposalWrapper(entityUrn="urn:li:tag:t", aspect=properties)


@given(
    lengths=st.lists(st.integers(0, 400), max_size=30),
    most=st.integers(1, 8),
    most_bytes=st.integers(1, 3_000),
)
def test_groups_are_as_large_as_may_be(lengths: list[int], most: int, most_bytes: int) -> None:
    """All proposals, in order; no group over a limit but of one proposal; none that could be larger."""
    proposals = [saying("x" * length) for length in lengths]
    groups = list(batches(proposals, most, most_bytes))
    assert [item.proposal for group in groups for item in group] == proposals
    sizes = [[len(item.text) for item in group] for group in groups]
    for group in sizes:
        assert 0 < len(group) <= most
        assert sum(group) <= most_bytes or len(group) == 1
    for group, following in itertools.pairwise(sizes):
        assert len(group) == most or sum(group) + following[0] > most_bytes


def test_the_body_is_that_of_datahubs_client() -> None:
    """The proposals in order, with their aspects as text, and the wish to wait for the primary store."""
    items = [packed(saying("ä\n")), packed(saying("b"))]
    body = json.loads(restli_body(items))
    assert body["async"] == "false"
    assert [json.loads(p["aspect"]["value"])["description"] for p in body["proposals"]] == ["ä\n", "b"]
    assert {p["entityUrn"] for p in body["proposals"]} == {"urn:li:tag:t"}


def test_a_file_is_the_list_of_its_proposals() -> None:
    """Written piece by piece, it is what would be written as a whole; without any, an empty list."""
    proposals = [saying("a\nb"), saying('"')]
    whole = json.dumps([as_json(p) for p in proposals], indent=1, ensure_ascii=False) + "\n"
    assert "".join(render(proposals)) == whole
    assert "".join(render([])) == "[]\n"


# ---- memory ----------------------------------------------------------------------------------------------


class Sending:
    """Groups proposals as the sink of DataHub does, and forgets them."""

    def send(self, _job_id: UUID, _run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Make the bodies of all requests; returns their bytes."""
        return str(sum(len(restli_body(batch)) for batch in batches(proposals, 80)))


class Filing(FileSink):
    """Writes files, and returns their bytes."""

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Write the file."""
        return str(Path(super().send(job_id, run_id, proposals)).stat().st_size)


@pytest.mark.parametrize("kind", ["requests", "file"])
def test_memory_does_not_grow_with_the_number_of_tables(kind: str, tmp_path: Path) -> None:
    """More tables take less than the bytes told of them; their proposals would take four times those."""
    sink: MetadataSink = Sending() if kind == "requests" else Filing(tmp_path)
    catalog = ManyTables(16)
    peaks, sizes = {}, {}
    for tables in (1, 10, 30):
        job = job_of(tables, 16)
        run = run_of(job)
        tracemalloc.start()
        try:
            sizes[tables] = int(register_run(job, run, catalog, Settings(), sink))
            peaks[tables] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peaks[30] - peaks[10] < sizes[30] - sizes[10]
