"""What Airflow's triggerer waits for in the place of a task: the end of a pod, or a time.

It is made of names and times. Where Kubernetes is, the triggerer knows by the connection of that name, as the
workers do: the provider's own trigger is given what is in the connection, and in `KUBECONFIG`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

WAKE = "wake"
"""The time has come: the task has something to do, and the pod works on."""
REST_S = 5.0
"""Nothing is told before. A task may come back before Airflow's scheduler (3.3) has heard that the executor
is done with it for now; the scheduler takes that word for the end of a task that did not end, and fails it
(apache/airflow issues 67287 and 72716)."""
LOOK_S, LOOKS = 2.0, 5
"""So often in a row a task is seen suspended again: then its next trigger is there."""
_held: set[asyncio.Task[None]] = set()
_AT_WORK = frozenset({None, "scheduled", "queued", "running", "restarting"})
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})
ENDED = ("success", "failed")
"""Of the provider's events: the container has ended."""
LAUNCH_TIMEOUT = "timeout"
"""Of the provider's events: the pod did not start in time."""


class PodTrigger(KubernetesPodTrigger):
    """Waits for a pod as the provider's trigger does, and not longer than to a time.

    Args:
        wake_at: That time, in seconds since 1970; None: there is none.
        **kwargs: The provider's.
    """

    def __init__(self, *, wake_at: float | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.wake_at = wake_at
        self._given = kwargs

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What is in Airflow's database."""
        return f"{__name__}.{type(self).__name__}", {"wake_at": self.wake_at, **self._given}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event. Where the pod works on after it, its task is still looked at for a while."""
        rested = asyncio.get_running_loop().time() + REST_S
        left = None if self.wake_at is None else max(self.wake_at - time.time(), 0.0)
        provider = asyncio.create_task(self._event_of_provider())
        try:
            await asyncio.wait({provider}, timeout=left)
            event = provider.result() if provider.done() else TriggerEvent({"status": WAKE})
        finally:
            provider.cancel()
        self._fired_event = False  # until it is told, `on_kill` has a pod to delete, be it one that has ended
        await asyncio.sleep(rested - asyncio.get_running_loop().time())
        self._fired_event = True
        yield event
        if event.payload["status"] == WAKE:
            _hold(self._end_with_task())

    async def on_kill(self) -> None:
        """Delete the pod: somebody has ended the task.

        It goes on when it is cancelled: Airflow (3.3) does so about a second after it has called.
        """
        await asyncio.shield(_hold(super().on_kill()))

    async def _end_with_task(self) -> None:
        """Delete the pod if the task is ended while nobody else hears of it.

        So it is from its trigger's word until the task is at work, and from its next suspension until the
        triggerer has taken up the next trigger.
        """
        if await self._was_ended():
            self._fired_event = False
            await super().on_kill()

    async def _was_ended(self) -> bool:
        """Whether the task has ended before its next trigger is there."""
        suspended = 0
        while suspended < LOOKS:
            await asyncio.sleep(LOOK_S)
            state = await self.get_task_state()
            if state in _ENDED:
                return True
            if state == "deferred":
                suspended += 1
            elif state not in _AT_WORK:
                return False
        return False

    async def _event_of_provider(self) -> TriggerEvent:
        """Its status and its words; names, the task knows."""
        async for event in super().run():
            said = event.payload
            return TriggerEvent({"status": said["status"], "message": str(said.get("message") or "")[:2000]})
        raise AssertionError("the provider's trigger gives an event")


def _hold(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Let something be done beside the trigger; asyncio forgets tasks that nobody holds."""
    task = asyncio.create_task(work)
    _held.add(task)
    task.add_done_callback(_held.discard)
    return task


def ends_pods() -> bool:
    """Whether Airflow tells triggers that somebody has ended their task: since 3.3."""
    return hasattr(BaseTrigger, "on_kill") and "on_kill" in vars(KubernetesPodTrigger)
