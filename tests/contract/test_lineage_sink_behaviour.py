"""What every sink of OpenLineage events does: the client over HTTP, and the twin in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

from airberg.errors import Unavailable
from airberg.governance.openlineage.client import open_lineage_sink
from airberg.governance.openlineage.memory import MemoryLineage
from airberg.governance.openlineage.port import LineageSink
from airberg.settings import OpenLineageSettings, Settings
from support.lineage_listener import API_KEY, lineage_listener

RUN = "0198f0a0-0000-7000-8000-00000000000b"


@dataclass
class Bench:
    """A sink, what it was told, and how to break and mend it."""

    sink: LineageSink
    events: list[dict[str, Any]]
    broken: Callable[[bool], None]


@pytest.fixture(params=["client", "memory"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each of them."""
    if request.param == "memory":
        memory = MemoryLineage()
        yield Bench(memory, memory.events, lambda yes: setattr(memory, "available", not yes))
        return
    with lineage_listener() as listener:
        settings = Settings(openlineage=OpenLineageSettings(url=listener.url, api_key=API_KEY, timeout_s=4))
        sink = open_lineage_sink(settings)
        yield Bench(sink, listener.events, lambda yes: setattr(listener, "status", 401 if yes else None))


def an_event(state: RunState) -> RunEvent:
    """The least that an event has."""
    return RunEvent(
        eventType=state,
        eventTime="2026-11-23T10:00:00+00:00",
        producer="urn:airberg:test",
        run=Run(runId=RUN),
        job=Job(namespace="airberg", name="j.load"),
    )


def test_events_arrive_in_order(bench: Bench) -> None:
    """As JSON objects without members that have no value."""
    bench.sink.emit(an_event(RunState.START))
    bench.sink.emit(an_event(RunState.COMPLETE))
    bench.sink.close(4.0)
    assert [e["eventType"] for e in bench.events] == ["START", "COMPLETE"]
    assert bench.events[0]["run"]["runId"] == RUN
    assert None not in bench.events[0].values()


def test_what_is_not_taken_is_told_without_secrets(bench: Bench) -> None:
    """One error of ours; the next event goes out when the other side is there again."""
    bench.broken(True)
    with pytest.raises(Unavailable) as caught:
        bench.sink.emit(an_event(RunState.START))
    assert caught.value.code == "openlineage-unavailable"
    assert API_KEY not in str(caught.value.sentence())
    bench.broken(False)
    bench.sink.emit(an_event(RunState.COMPLETE))
    assert [e["eventType"] for e in bench.events] == ["COMPLETE"]
