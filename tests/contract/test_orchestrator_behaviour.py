"""What every orchestrator does: Airflow, and its twin in memory."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from airberg.errors import Unavailable
from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.memory import MemoryOrchestrator
from airberg.flows.model import FlowSpec
from airberg.flows.port import Orchestrator
from airberg.settings import AirflowSettings
from support.airflow_stack import AirflowStack
from support.free_ports import free_ports

WAIT_S = 30.0
AIRFLOW = pytest.param("airflow", marks=[pytest.mark.airflow, pytest.mark.xdist_group("airflow")])


@dataclass
class Site:
    """An orchestrator with the feed that it reads.

    Attributes:
        away: The same kind of orchestrator when it cannot be reached.
        administrator: Another view of it, by a user who may make pools; `orchestrator` may not.
    """

    orchestrator: Orchestrator
    away: Orchestrator
    offer: Callable[[FlowSpec], None]
    remove: Callable[[str], None]
    administrator: Orchestrator

    def registered(self, **changes: Any) -> FlowSpec:
        """A new flow that the orchestrator has."""
        spec = a_spec(**changes)
        self.offer(spec)
        assert self.orchestrator.publish(spec, WAIT_S)
        return spec


@pytest.fixture(params=["memory", AIRFLOW])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each adapter."""
    if request.param == "memory":
        feed: dict[str, FlowSpec] = {}
        away = MemoryOrchestrator()
        away.available = False
        administrator = MemoryOrchestrator(feed=lambda: list(feed.values()))
        yield Site(
            administrator.seen_by_a_lesser_user(),
            away,
            lambda spec: feed.update({spec.flow_id: spec}),
            lambda flow_id: feed.pop(flow_id, None),
            administrator,
        )
        return
    stack: AirflowStack = request.getfixturevalue("airflow_stack")
    nowhere = stack.settings.model_copy(update={"airflow": AirflowSettings(port=free_ports(1)[0])})
    unreachable = AirflowOrchestrator(nowhere, stack.credentials)
    administrator = stack.administrator()
    yield Site(stack.orchestrator, unreachable, stack.feed.offer, stack.feed.remove, administrator)
    unreachable.close()
    administrator.close()


def a_spec(**changes: Any) -> FlowSpec:
    """A spec of a job that nobody has."""
    job_id = str(uuid.uuid4())
    fields: dict[str, Any] = {
        "job_id": job_id,
        "flow_id": f"airberg_{job_id}",
        "name": "a job",
        "schedule": None,
        "timezone": "UTC",
        "created_at": datetime.now(UTC).isoformat(),
        "paused": False,
        "shard": 1,
        "retries": 0,
        "retry_delay_s": 0,
        "timeout_s": 60,
    }
    return FlowSpec(**(fields | changes))


def test_a_new_flow_beside_another_one(site: Site) -> None:
    """Its file is asked for by a flow that is in it; by one that nobody has, it is found all the same."""
    first = site.registered(shard=80_001)
    for beside in (first.flow_id, "airberg_nobody"):
        spec = a_spec(shard=80_001)
        site.offer(spec)
        assert site.orchestrator.publish(spec, WAIT_S, beside)


def test_a_published_flow_is_there(site: Site) -> None:
    """Publishing says True once the flow is there with its spec, and again when nothing has changed."""
    spec = site.registered()
    assert site.orchestrator.is_paused(spec.flow_id) is False
    assert site.orchestrator.publish(spec, 0.0)


def test_a_flow_that_is_not_in_the_feed_is_not_published(site: Site) -> None:
    """Publishing says False, in time, when the feed does not have the spec."""
    spec = a_spec()
    assert not site.orchestrator.publish(spec, 0.3)
    assert site.orchestrator.is_paused(spec.flow_id) is None


def test_a_changed_spec_replaces_the_old_one(site: Site) -> None:
    """After a change the orchestrator has the new spec and no longer the old one."""
    old = site.registered(schedule="0 3 * * *")
    new = msgspec.structs.replace(old, schedule="30 4 * * *", timezone="Europe/Berlin")
    site.offer(new)
    assert site.orchestrator.publish(new, WAIT_S)
    assert not site.orchestrator.publish(old, 0.0)


def test_flow_url_names_the_flow(site: Site) -> None:
    """The address ends with the flow's id, and needs nobody to answer."""
    assert site.orchestrator.flow_url("airberg_x").endswith("/dags/airberg_x")
    assert site.away.flow_url("airberg_x").endswith("/dags/airberg_x")


def test_pause_and_resume(site: Site) -> None:
    """A flow can be paused and resumed, each as often as one likes."""
    spec = site.registered()
    for paused in (True, True, False, False):
        site.orchestrator.set_paused(spec.flow_id, paused)
        assert site.orchestrator.is_paused(spec.flow_id) is paused


def test_a_flow_can_be_paused_from_the_start(site: Site) -> None:
    """A spec that says paused makes a flow that is."""
    spec = site.registered(paused=True)
    assert site.orchestrator.is_paused(spec.flow_id) is True


def test_one_run_for_one_id(site: Site) -> None:
    """Triggering with the same id again, from several threads too, leaves one run."""
    spec = site.registered(paused=True)
    run_id = f"airberg__{uuid.uuid4()}"
    start = threading.Barrier(4)

    def trigger(_: int) -> None:
        start.wait()
        site.orchestrator.trigger(spec.flow_id, run_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(trigger, range(4)))
    assert site.orchestrator.run_state(spec.flow_id, run_id) == "queued"


def test_unknown_runs_have_no_state(site: Site) -> None:
    """An unknown run of a known flow, and of an unknown one, has no state."""
    spec = site.registered()
    assert site.orchestrator.run_state(spec.flow_id, "airberg__none") is None
    assert site.orchestrator.run_state("airberg_none", "airberg__none") is None


def test_an_unknown_flow_cannot_be_started_or_paused(site: Site) -> None:
    """What needs a flow says that it is not there yet, so that the caller tries again."""
    with pytest.raises(Unavailable) as trigger:
        site.orchestrator.trigger("airberg_none", "airberg__1")
    with pytest.raises(Unavailable) as pause:
        site.orchestrator.set_paused("airberg_none", True)
    assert {trigger.value.code, pause.value.code} == {"flow-not-visible"}


def test_cancel_ends_a_queued_run_and_no_other(site: Site) -> None:
    """A cancelled run has failed; cancelling it again, or one that nobody knows, does nothing."""
    spec = site.registered(paused=True)
    for run_id in ("airberg__1", "airberg__2"):
        site.orchestrator.trigger(spec.flow_id, run_id)
    for _ in range(2):
        site.orchestrator.cancel(spec.flow_id, "airberg__1")
    site.orchestrator.cancel(spec.flow_id, "airberg__none")
    site.orchestrator.cancel("airberg_none", "airberg__1")
    assert site.orchestrator.run_state(spec.flow_id, "airberg__1") == "failed"
    assert site.orchestrator.run_state(spec.flow_id, "airberg__2") == "queued"


def test_a_withdrawn_flow_is_gone_with_its_runs(site: Site) -> None:
    """Withdrawing removes a flow that has a queued run; its neighbour stays; a second time does nothing."""
    spec, neighbour = site.registered(), site.registered()
    site.orchestrator.set_paused(spec.flow_id, True)
    site.orchestrator.trigger(spec.flow_id, "airberg__1")
    site.remove(spec.flow_id)
    for _ in range(2):
        site.orchestrator.withdraw(spec.flow_id)
    assert site.orchestrator.is_paused(spec.flow_id) is None
    assert site.orchestrator.run_state(spec.flow_id, "airberg__1") is None
    assert site.orchestrator.is_paused(neighbour.flow_id) is False


@pytest.mark.parametrize("name", ["a pool/of 'ours' 池", "default_pool"])
def test_a_pool_has_the_slots_that_it_was_set_to(site: Site, name: str) -> None:
    """Made, set again, resized; the others stay as they are."""
    others = {n: slots for n, slots in site.orchestrator.pools().items() if n != name}
    before = site.orchestrator.pools().get(name, 128)
    for slots in (2, 2, 5, before):
        site.administrator.set_pool(name, slots)
        assert site.orchestrator.pools() == others | {name: slots}


def test_who_may_not_make_pools_is_told_the_command_that_does(site: Site) -> None:
    """And is not refused where there is nothing to do."""
    name = f"pool of {uuid.uuid4()}"
    with pytest.raises(Unavailable) as refused:
        site.orchestrator.set_pool(name, 3)
    assert refused.value.code == "pool-refused"
    assert f"airflow pools set '{name}' 3 Airberg" in refused.value.guidance
    assert name not in site.orchestrator.pools()
    site.administrator.set_pool(name, 3)
    site.orchestrator.set_pool(name, 3)
    with pytest.raises(Unavailable):
        site.orchestrator.set_pool(name, 4)
    assert site.orchestrator.pools()[name] == 3


def test_healthy(site: Site) -> None:
    """It says whether it works, and never raises."""
    assert site.orchestrator.healthy() is True
    assert site.away.healthy() is False


@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.publish(a_spec(), 0.0),
        lambda o: o.withdraw("airberg_x"),
        lambda o: o.set_paused("airberg_x", True),
        lambda o: o.is_paused("airberg_x"),
        lambda o: o.trigger("airberg_x", "airberg__1"),
        lambda o: o.cancel("airberg_x", "airberg__1"),
        lambda o: o.run_state("airberg_x", "airberg__1"),
        lambda o: o.pools(),
        lambda o: o.set_pool("default_pool", 3),
    ],
    ids=[
        "publish",
        "withdraw",
        "set_paused",
        "is_paused",
        "trigger",
        "cancel",
        "run_state",
        "pools",
        "set_pool",
    ],
)
def test_unavailable_when_it_is_away(site: Site, call: Callable[[Orchestrator], object]) -> None:
    """Every call that needs an answer says that there is none."""
    with pytest.raises(Unavailable) as caught:
        call(site.away)
    assert caught.value.code == "orchestrator-away"
