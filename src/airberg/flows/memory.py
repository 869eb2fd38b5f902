"""An orchestrator in memory: the twin of Airflow for tests and for planning without one."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airberg.errors import Unavailable
from airberg.flows.model import Spec
from airberg.flows.port import FlowRunState, pool_refused
from airberg.jobs.model import RunRequest


@dataclass(slots=True)
class _Flow:
    spec_hash: str
    paused: bool
    runs: dict[str, FlowRunState] = field(default_factory=dict)
    asked: dict[str, RunRequest] = field(default_factory=dict)


class MemoryOrchestrator:
    """Behaves as Airflow does towards this service; runs stay queued until a test says otherwise.

    Args:
        public_url: Base of `flow_url`.
        feed: What the feed holds at the moment; without it, a published spec is taken as it is.

    Attributes:
        available: Set to False to let every call fail as when Airflow is away.
        may_make_pools: Whether our user's role may do that.
    """

    def __init__(
        self,
        public_url: str = "http://airflow.invalid",
        feed: Callable[[], Iterable[Spec]] | None = None,
    ) -> None:
        self.available = True
        self.may_make_pools = True
        self._public_url = public_url.rstrip("/")
        self._feed = feed
        self._flows: dict[str, _Flow] = {}
        self._pools = {"default_pool": 128}
        self._lock = threading.RLock()

    def seen_by_a_lesser_user(self) -> MemoryOrchestrator:
        """The same, by a user whose role may look at pools and not make them."""
        seen = copy.copy(self)
        seen.may_make_pools = False
        return seen

    def flow_url(self, flow_id: str) -> str:
        """Where a person would see the flow."""
        return f"{self._public_url}/dags/{flow_id}"

    def publish(self, spec: Spec, wait_s: float, beside: str | None = None) -> bool:
        """Take the feed over; there is nothing to wait for."""
        del wait_s, beside
        with self._reached():
            self._parse([spec] if self._feed is None else self._feed())
            flow = self._flows.get(spec.flow_id)
            return flow is not None and flow.spec_hash == spec.spec_hash()

    def withdraw(self, flow_id: str) -> None:
        """Forget a flow with its runs."""
        with self._reached():
            self._flows.pop(flow_id, None)

    def set_paused(self, flow_id: str, paused: bool) -> None:
        """Pause or resume."""
        with self._reached():
            self._known(flow_id).paused = paused

    def is_paused(self, flow_id: str) -> bool | None:
        """Whether it is paused."""
        with self._reached():
            flow = self._flows.get(flow_id)
            return None if flow is None else flow.paused

    def trigger(self, flow_id: str, flow_run_id: str, asked: RunRequest | None = None) -> None:
        """Queue a run."""
        with self._reached():
            flow = self._known(flow_id)
            if flow_run_id not in flow.runs:
                flow.runs[flow_run_id] = "queued"
                flow.asked[flow_run_id] = asked or RunRequest()

    def cancel(self, flow_id: str, flow_run_id: str) -> None:
        """Fail a run that has not ended."""
        with self._reached():
            flow = self._flows.get(flow_id)
            if flow is not None and flow.runs.get(flow_run_id) in ("queued", "running"):
                flow.runs[flow_run_id] = "failed"

    def run_state(self, flow_id: str, flow_run_id: str) -> FlowRunState | None:
        """State of a run."""
        with self._reached():
            flow = self._flows.get(flow_id)
            return None if flow is None else flow.runs.get(flow_run_id)

    def pools(self) -> dict[str, int]:
        """Pools and their slots."""
        with self._reached():
            return dict(self._pools)

    def set_pool(self, name: str, slots: int) -> None:
        """Have a pool with so many slots."""
        with self._reached():
            if self._pools.get(name) == slots:
                return
            if not self.may_make_pools:
                raise pool_refused(name, slots)
            self._pools[name] = slots

    def healthy(self) -> bool:
        """Whether it is available."""
        return self.available

    def asked_of(self, flow_id: str, flow_run_id: str) -> RunRequest:
        """What is asked of a run that was triggered."""
        with self._lock:
            return self._flows[flow_id].asked[flow_run_id]

    def set_run_state(self, flow_id: str, flow_run_id: str, state: FlowRunState) -> None:
        """What a scheduler would do: move a run on."""
        with self._lock:
            self._flows[flow_id].runs[flow_run_id] = state

    def flow_ids(self) -> list[str]:
        """Ids of all registered flows."""
        with self._lock:
            return sorted(self._flows)

    def _parse(self, specs: Iterable[Spec]) -> None:
        for spec in specs:
            flow = self._flows.setdefault(spec.flow_id, _Flow("", spec.paused))
            flow.spec_hash = spec.spec_hash()

    def _known(self, flow_id: str) -> _Flow:
        if flow_id not in self._flows:
            raise Unavailable(f"The flow {flow_id} is not registered yet.", code="flow-not-visible")
        return self._flows[flow_id]

    def _reached(self) -> threading.RLock:
        if not self.available:
            raise Unavailable("Airflow does not answer.", code="orchestrator-away")
        return self._lock
