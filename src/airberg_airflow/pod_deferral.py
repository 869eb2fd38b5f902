"""A command in a pod that Airflow's triggerer waits for, so that no worker's slot is held while it works.

The task starts the pod and is suspended. It is resumed when the pod has ended, and for moments before: to
write the new lines of its log, to tell that the run is late, to end the pod when its time is over. What has
to be known then goes through Airflow's database, and is no more than names, times and numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from airberg_airflow.airflow_versions import AirflowException
from airberg_airflow.late import LateWatch
from airberg_airflow.pod_command import GONE, PodCommand, PodOperator, container_end, kubernetes_errors
from airberg_airflow.pod_log import Place, PodLog
from airberg_airflow.pod_trigger import ENDED, LAUNCH_TIMEOUT, WAKE, PodTrigger
from airberg_airflow.pods import CONTAINER

POLL_S = 2.0
MOST_ERRORS = 5
"""So many times one after the other the triggerer may fail to look at a pod, before the task does it."""
BACKSTOP_S = 60
"""A triggerer that does not wake a task at the end of its time is given so much more."""
LOG_TRIES = 3
RESUMED = "resumed"
"""The operators' method that goes on."""


@dataclass(frozen=True)
class Noted:
    """What a suspended task has to know when it is resumed.

    Attributes:
        pod: Name of its pod.
        namespace: Of the pod.
        log_at: Time of the line of the log that was written last; None: none was.
        log_lines: How many lines of that time there were.
        late: Whether the run was late the last time, and those who want to know that were told.
        errors: Times in a row that the triggerer could not look at the pod.
    """

    pod: str
    namespace: str
    log_at: int | None = None
    log_lines: int = 0
    late: bool = False
    errors: int = 0


class DeferredPod:
    """One command whose pod is waited for by the triggerer.

    Args:
        command: The command.
        pods: How the deployment's pods are (`airberg_airflow.pods`).
        context: Airflow's, of the task.
        limit: How long an attempt may take.
        late: Who is told that the run is late.
        say: Gets the lines of the log.
    """

    def __init__(
        self,
        command: PodCommand,
        pods: Mapping[str, Any],
        context: Any,  # noqa: ANN401 - Airflow's
        *,
        limit: timedelta | None,
        late: LateWatch | None,
        say: Callable[[str], None],
    ) -> None:
        self._command, self._pods, self._context = command, pods, context
        self._late, self._say = late, say
        self._deadline = None if limit is None else context["ti"].start_date + limit
        self._log: PodLog | None = None

    def begin(self, task_id: str) -> NoReturn:
        """Start the pod, or find that of an earlier attempt.

        Raises:
            TaskDeferred: It is there.
            AirflowFailException: Kubernetes does not accept such a pod.
        """
        operator = self._command.prepare(task_id)
        with kubernetes_errors():
            pod = operator.pod_request_obj = operator.build_pod_request_obj(self._context)
            if self._deadline is not None and pod.spec.active_deadline_seconds is None:
                # Where nobody is left who could end it, Kubernetes does.
                left = self._deadline - datetime.now(UTC) + timedelta(seconds=2 * BACKSTOP_S)
                pod.spec.active_deadline_seconds = max(int(left.total_seconds()), BACKSTOP_S)
            operator.end_pods_of_earlier_runs(self._context, pod.metadata.namespace)
            operator.await_word_of_triggerer(self._context, pod.metadata.namespace)
            operator.pod = operator.get_or_create_pod(pod, self._context)
        metadata = operator.pod.metadata
        self._suspend(self._told_of_late(Noted(metadata.name, metadata.namespace)), None)

    def go_on(self, task_id: str, noted: Noted | None, event: Mapping[str, Any]) -> int:
        """Do what there is to do.

        Args:
            task_id: Of the task.
            noted: What was noted; None, where Airflow has lost it: it has ended the trigger.
            event: Of the trigger.

        Returns:
            The exit code of the pod's container, which has ended.

        Raises:
            TaskDeferred: It works on.
            AirflowException: The pod is gone, or did not start.
            AirflowTaskTimeout: Its time is over.
        """
        operator = self._command.prepare(task_id)
        with kubernetes_errors():
            noted = self._find(operator, noted)
            while not has_ended(operator.pod):
                self._write_log(operator, noted, ended=False)
                self._end_in_time()
                noted = self._told_of_late(noted)
                noted = self._look_for_itself(operator, noted, event)
                operator.pod = operator.hook.get_pod(noted.pod, noted.namespace)
            self._write_log(operator, noted, ended=True)
            return self._collect(operator)

    # ---- the pod -----------------------------------------------------------------------------------------

    def _find(self, operator: PodOperator, noted: Noted | None) -> Noted:
        """Let the operator have its pod as it is now."""
        if noted is None:
            namespace = operator.build_pod_request_obj(self._context).metadata.namespace
            operator.pod = operator.find_pod(namespace, self._context)
            if operator.pod is None:
                raise AirflowException(GONE)
            return Noted(operator.pod.metadata.name, operator.pod.metadata.namespace, errors=MOST_ERRORS)
        try:
            operator.pod = operator.hook.get_pod(noted.pod, noted.namespace)
        except ApiException as e:
            if e.status != 404:
                raise
            raise AirflowException(GONE) from None
        return noted

    def _look_for_itself(self, operator: PodOperator, noted: Noted, event: Mapping[str, Any]) -> Noted:
        """Suspend the task again; or wait in it, where the triggerer cannot."""
        status, message = event.get("status"), event.get("message")
        waits = operator.pod.status.phase == "Pending"
        if status == LAUNCH_TIMEOUT and waits:
            self._command.stop()
            raise AirflowException(str(message))
        if status in (WAKE, LAUNCH_TIMEOUT, *ENDED):
            self._suspend(replace(noted, errors=0), operator.pod)
        if waits:
            # Whether it will never start, or could not be looked at from there, the provider says here.
            operator.await_pod_start(operator.pod)
        elif noted.errors < MOST_ERRORS:
            operator.log.warning("The triggerer could not look at the pod: %s", message)
            self._suspend(replace(noted, errors=noted.errors + 1), operator.pod)
        else:
            time.sleep(POLL_S)
        return noted

    def _collect(self, operator: PodOperator) -> int:
        """What became of it; the pod is deleted."""
        failure: AirflowException | None = None
        try:
            operator.remote_pod = operator.pod_manager.await_pod_completion(
                operator.pod, operator.is_istio_enabled(operator.pod), CONTAINER, False
            )
            operator.post_complete_action(
                pod=operator.pod, remote_pod=operator.remote_pod, context=self._context, result=None
            )
        except AirflowException as e:
            failure = e  # a command that failed; the exit code says more
        return self._command.outcome(operator.remote_pod or operator.pod, failure)

    # ---- the log -----------------------------------------------------------------------------------------

    def _write_log(self, operator: PodOperator, noted: Noted, *, ended: bool) -> None:
        """Write the lines that are new."""
        metadata = operator.pod.metadata

        def read(since_s: int | None) -> Iterable[bytes]:
            since = {} if since_s is None else {"since_seconds": since_s}
            lines: Iterable[bytes] = operator.client.read_namespaced_pod_log(
                name=metadata.name,
                namespace=metadata.namespace,
                container=CONTAINER,
                timestamps=True,
                _preload_content=False,
                **since,
            )
            return lines

        if self._log is None:
            place = None if noted.log_at is None else Place(noted.log_at, noted.log_lines)
            self._log = PodLog(read, place)
        for tries_left in reversed(range(LOG_TRIES if ended else 1)):
            try:
                for line in self._log.more(ended=ended):
                    self._command.take(line)
                    self._say(line)
                break
            except (ApiException, HTTPError) as e:
                if not is_not_there_yet(e) and not tries_left:
                    operator.log.warning("The log of the pod could not be read: %s", type(e).__name__)
        end = container_end(operator.pod)
        if end is not None and end.exit_code != 0 and self._command.error is None:
            self._look_for_error(read)

    def _look_for_error(self, read: Callable[[int | None], Iterable[bytes]]) -> None:
        """Why the command failed may stand in lines that were written the last time."""
        try:
            for line in PodLog(read).more(ended=True):
                self._command.take(line)
        except (ApiException, HTTPError):
            return

    # ---- time --------------------------------------------------------------------------------------------

    def _suspend(self, noted: Noted, pod: Any) -> NoReturn:  # noqa: ANN401 - the client's
        if self._log is not None and self._log.place is not None:
            place = self._log.place
            noted = replace(noted, log_at=place.at, log_lines=place.lines)
        start_s = start_left_s(pod, int(self._pods["start_timeout_s"]))
        trigger = PodTrigger(
            wake_at=self._wake_at(noted),
            pod_name=noted.pod,
            pod_namespace=noted.namespace,
            trigger_start_time=datetime.now(UTC),
            base_container_name=CONTAINER,
            kubernetes_conn_id=self._pods["connection"],
            poll_interval=POLL_S,
            startup_timeout=start_s,
            schedule_timeout=start_s,
            termination_grace_period=int(self._pods["stop_s"]),
        )
        timeout = None
        if self._deadline is not None:
            left = max(self._deadline - datetime.now(UTC), timedelta())
            timeout = left + timedelta(seconds=BACKSTOP_S)
        raise TaskDeferred(
            trigger=trigger, method_name=RESUMED, kwargs={"noted": asdict(noted)}, timeout=timeout
        )

    def _wake_at(self, noted: Noted) -> float | None:
        """The next time at which the task has something to do while its pod works."""
        times: list[float] = []
        if self._pods.get("log_s"):
            times.append(time.time() + int(self._pods["log_s"]))
        if self._late is not None and not noted.late:
            times.append(self._late.due(self._context["dag_run"]).timestamp())
        if self._deadline is not None:
            times.append(self._deadline.timestamp())
        return min(times, default=None)

    def _told_of_late(self, noted: Noted) -> Noted:
        """Tell of a run that is late by now; once for each attempt."""
        if self._late is None or noted.late or not self._late.tell_if_due(self._context):
            return noted
        return replace(noted, late=True)

    def _end_in_time(self) -> None:
        if self._deadline is not None and datetime.now(UTC) >= self._deadline:
            # Airflow calls `on_kill` for that, as it does where a task waits itself.
            raise AirflowTaskTimeout("The time of this task is over: its pod is told to end.")


def is_to_defer(pods: Mapping[str, Any]) -> bool:
    """Whether the triggerer is to wait: as the deployment says, else as Airflow does where the task runs."""
    asked = pods.get("defer")
    return (
        conf.getboolean("operators", "default_deferrable", fallback=False) if asked is None else bool(asked)
    )


def has_ended(pod: Any) -> bool:  # noqa: ANN401 - the client's
    """Whether a pod does nothing any more."""
    return container_end(pod) is not None or pod.status.phase in ("Succeeded", "Failed")


def is_not_there_yet(error: Exception) -> bool:
    """Whether there is no log because the container has not started."""
    return isinstance(error, ApiException) and error.status == 400


def start_left_s(pod: Any, allowed_s: int) -> int:  # noqa: ANN401 - the client's
    """How long a pod may still take to start; all of the time again when it has got its node."""
    if pod is None or pod.metadata.creation_timestamp is None:
        return allowed_s
    conditions = (pod.status.conditions if pod.status else None) or []
    done = (c for c in conditions if c.type == "PodScheduled" and c.status == "True")
    since = next((c.last_transition_time for c in done), None) or pod.metadata.creation_timestamp
    return max(allowed_s - int((datetime.now(UTC) - since).total_seconds()), 1)
