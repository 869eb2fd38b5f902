"""The port to the orchestrator. `airberg.flows.airflow` and `airberg.flows.memory` pass one behaviour suite.

Every method may be repeated: asking for what is already so does nothing. All of them are safe to be called
from several threads, and raise `Unavailable` when the orchestrator does not answer or does not let us in.
"""

from __future__ import annotations

import shlex
from typing import Literal, Protocol, TypeAlias

from airberg.errors import Unavailable
from airberg.flows.model import Spec
from airberg.jobs.model import RunRequest
from airberg.quoted import quoted

FlowRunState: TypeAlias = Literal["queued", "running", "success", "failed"]


class Orchestrator(Protocol):
    """Holds one flow for each job, and that of upkeep, and runs them.

    Flows get there through the feed of the API (`GET /internal/airflow/flows`), which the orchestrator
    reads; this port asks it to read at once, and does what a feed cannot.
    """

    def flow_url(self, flow_id: str) -> str:
        """Where a person sees the flow. Asks nobody."""
        ...

    def publish(self, spec: Spec, wait_s: float, beside: str | None = None) -> bool:
        """Have a flow registered as the feed now has it.

        Args:
            spec: The flow.
            wait_s: How long it may take.
            beside: A registered flow in the same flow file, where the flow itself is new.

        Returns:
            Whether it was seen with exactly this spec within `wait_s`.
        """
        ...

    def withdraw(self, flow_id: str) -> None:
        """Remove a flow with its history, once the feed does not have it any more. Ends its runs."""
        ...

    def set_paused(self, flow_id: str, paused: bool) -> None:
        """Let a flow's schedule rest, or go on. Raises Unavailable when the flow is not registered yet."""
        ...

    def is_paused(self, flow_id: str) -> bool | None:
        """Whether it rests; None when there is no such flow."""
        ...

    def trigger(self, flow_id: str, flow_run_id: str, asked: RunRequest | None = None) -> None:
        """Start a run. The id makes it happen once.

        Args:
            flow_id: The flow.
            flow_run_id: Id of the new run.
            asked: What is asked of it, for those who look at the run there.

        Raises:
            Unavailable: Also when there is no such flow yet.
        """
        ...

    def cancel(self, flow_id: str, flow_run_id: str) -> None:
        """End a run that has not ended; its processes get SIGTERM within seconds."""
        ...

    def run_state(self, flow_id: str, flow_run_id: str) -> FlowRunState | None:
        """State of a run; None when it is not known."""
        ...

    def pools(self) -> dict[str, int]:
        """Pools and their slots; -1: without a limit."""
        ...

    def set_pool(self, name: str, slots: int) -> None:
        """Have a pool with so many slots.

        Raises Unavailable, with the code `pool-refused`, when it is not so and our user may not change that.
        """
        ...

    def healthy(self) -> bool:
        """Whether flows are being parsed and run. Never raises."""
        ...


def pool_refused(name: str, slots: int) -> Unavailable:
    """What `set_pool` raises: with the command that does it."""
    command = shlex.join(["airflow", "pools", "set", name, str(slots), "Airberg"])
    return Unavailable(
        f"Airflow does not let us make the pool {quoted(name)} with {slots} slots.",
        guidance=f"Run `{command}` where Airflow is, or give our user a role that may (`op`).",
        code="pool-refused",
    )
