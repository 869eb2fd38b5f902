"""A command of Airberg in a pod of its own, started and watched by Airflow's provider for Kubernetes.

The provider's operator is used inside ours, and not in its place: so one task is one operator wherever its
command runs, exit codes mean the same, and the list of changed tables comes through.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiException

from airberg_airflow.airflow_versions import AirflowException, AirflowFailException
from airberg_airflow.child import ERROR_MARK
from airberg_airflow.pods import (
    CONTAINER,
    MAX_RESULT,
    MAX_RESULT_VARIABLE,
    RESULT_FILE,
    command_pod,
    hardened,
)

NOT_ACCEPTED = frozenset({400, 422})
"""Kubernetes says that a pod cannot be: it will say so again."""
GONE = "The pod is gone, and how its command ended is not known."
LEAVING_POLL_S, LEAVING_MARGIN_S = 1.0, 60.0
TOLD_WITHIN_S = 6.0
"""The triggerer looks every second or two whom it has lost."""


class PodCommand:
    """One command in a pod.

    Args:
        pods: How the deployment's pods are, with what the job needs (`airberg_airflow.pods`).
        arguments: The command's.
        variables: Its environment variables beside those of the deployment.
        result_variable: Names the file into which it may write a result.
        reattach: Whether a pod of an earlier attempt that still runs is waited for in its place.

    Attributes:
        error: Text of the last line that began with `error: `, without that; None if there was none.
        result: What it wrote into the file, if it succeeded.
    """

    def __init__(
        self,
        pods: Mapping[str, Any],
        arguments: Sequence[str],
        variables: Mapping[str, str],
        result_variable: str | None,
        *,
        reattach: bool,
    ) -> None:
        self.error: str | None = None
        self.result: bytes | None = None
        self._pods, self._arguments, self._reattach = pods, arguments, reattach
        asked = (
            {result_variable: RESULT_FILE, MAX_RESULT_VARIABLE: str(MAX_RESULT)} if result_variable else {}
        )
        self._variables = {**variables, **asked}
        self._operator: PodOperator | None = None

    def follow(self, task_id: str, context: Any, say: Callable[[str], None] | None = None) -> int:  # noqa: ANN401
        """Start the pod, write its log into the task's, wait for its end; it is gone then.

        Args:
            task_id: Of the task.
            context: Airflow's.
            say: Gets each line beside the task's log, which has them anyway.

        Returns:
            The exit code of its container.

        Raises:
            AirflowFailException: Kubernetes does not accept such a pod.
            AirflowException: It did not come so far as to end by itself; a retry may help.
        """
        operator = self.prepare(task_id, say)
        failure: AirflowException | None = None
        with kubernetes_errors():
            try:
                operator.execute_sync(context)
            except AirflowException as e:
                failure = e  # a command that failed is one to the operator too: the exit code says more
        return self.outcome(operator.remote_pod, failure)

    def outcome(self, pod: Any, failure: AirflowException | None) -> int:  # noqa: ANN401 - the client's
        """The exit code of a pod's container; what it has left behind is taken from it.

        Args:
            pod: As it was when it had ended.
            failure: What the provider made of that.

        Raises:
            AirflowException: It did not end by itself.
        """
        ended = container_end(pod)
        if ended is None:
            raise failure or AirflowException(GONE)
        message = (ended.message or "").encode()
        if ended.exit_code == 0:
            self.result = message or None
        elif ended.reason == "OOMKilled":
            self.error = "The pod needed more memory than it may have, and was ended (OOMKilled)."
        return int(ended.exit_code)

    def stop(self) -> None:
        """Delete the pod: its command gets SIGTERM, and is killed after the deployment's `stop_s`."""
        if self._operator is not None:
            self._operator.on_kill()

    def prepare(self, task_id: str, say: Callable[[str], None] | None = None) -> PodOperator:
        """The provider's operator for the pod; from now on `stop` ends the pod that it has."""
        self._operator = self.operator(task_id, say)
        return self._operator

    def operator(self, task_id: str, say: Callable[[str], None] | None = None) -> PodOperator:
        """The provider's operator for the pod.

        From the least to the last word: what goes for all pods, the deployment's template, the command.
        """
        base = PodGenerator.deserialize_model_dict(hardened())
        if template := self._pods.get("template_file"):
            base = PodGenerator.reconcile_pods(base, PodGenerator.deserialize_model_file(template))
        own = command_pod(self._pods, self._arguments, self._variables)
        operator = PodOperator(
            task_id=f"{task_id}_pod",
            kubernetes_conn_id=self._pods["connection"],
            full_pod_spec=PodGenerator.reconcile_pods(base, PodGenerator.deserialize_model_dict(own)),
            # The operator looks for pods of an earlier attempt by what it was told itself.
            labels=own["metadata"]["labels"],
            termination_message_policy=own["spec"]["containers"][0]["terminationMessagePolicy"],
            termination_grace_period=own["spec"]["terminationGracePeriodSeconds"],
            base_container_name=CONTAINER,
            startup_timeout_seconds=int(self._pods["start_timeout_s"]),
            container_name_log_prefix_enabled=False,
            log_pod_spec_on_failure=False,
            callbacks=[_Lines(self.take, say)],
            do_xcom_push=False,
            deferrable=False,
        )
        # Set here because the argument has another name in each version, and warns in some.
        operator.reattach_on_restart = self._reattach
        return operator

    def take(self, line: str) -> None:
        """Look at a line of its log."""
        if line.startswith(ERROR_MARK):
            self.error = line.removeprefix(ERROR_MARK).strip()


class _Lines(KubernetesPodOperatorCallback):
    """Gets the lines of a pod's log as they come."""

    def __init__(self, *takers: Callable[[str], None] | None) -> None:
        self._takers = [take for take in takers if take is not None]

    def progress_callback(self, *, line: str, **_more: Any) -> None:  # noqa: ANN401
        """A line; or several, where the log of Kubernetes has given them one time."""
        for one in line.splitlines():
            for take in self._takers:
                take(one)


class PodOperator(KubernetesPodOperator):
    """The provider's operator, which does not take up a pod again that was told to end."""

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:  # noqa: ANN401 - the client's
        """The pod of an earlier attempt, or a new one.

        A task that was cleared is started again at once, and its pod has its time to end.
        """
        selector = self._build_find_pod_label_selector(context)
        deadline = time.monotonic() + (self.termination_grace_period or 0) + LEAVING_MARGIN_S
        while leaving := [
            pod.metadata.name
            for pod in self._pods(pod_request_obj.metadata.namespace, selector)
            if pod.metadata.deletion_timestamp
        ]:
            if time.monotonic() > deadline:
                raise AirflowException(f"The pod {leaving[0]} was told to end, and does not.")
            self.log.info("Waiting for the pod %s, which was told to end", leaving[0])
            time.sleep(LEAVING_POLL_S)
        return super().get_or_create_pod(pod_request_obj, context)

    def end_pods_of_earlier_runs(self, context: Any, namespace: str) -> None:  # noqa: ANN401 - Airflow's
        """Delete what is left of runs that ended while nobody could be told: a flow has one run at a time."""
        labels = self._get_ti_pod_labels(context, include_try_number=False)
        selector = f"dag_id={labels['dag_id']},run_id!={labels['run_id']},kubernetes_pod_operator=True"
        for pod in self._pods(namespace, selector):
            if pod.metadata.deletion_timestamp is None:
                self.log.warning("The pod %s of an earlier run is told to end", pod.metadata.name)
                self.pod_manager.delete_pod(pod)

    def await_word_of_triggerer(self, context: Any, namespace: str) -> None:  # noqa: ANN401 - Airflow's
        """Give the triggerer its time to end the pod of an earlier attempt.

        A task that was cleared is started again before the triggerer knows of it. A pod that is still not
        told to end then is one that outlived its worker, and is taken up again.
        """
        selector = self._build_find_pod_label_selector(context)
        selector += f",try_number!={self._get_ti_pod_labels(context)['try_number']}"
        deadline = time.monotonic() + TOLD_WITHIN_S
        while time.monotonic() < deadline:
            found = list(self._pods(namespace, selector))
            if not found or any(pod.metadata.deletion_timestamp for pod in found):
                return
            time.sleep(LEAVING_POLL_S)

    def _pods(self, namespace: str, selector: str) -> Iterable[Any]:
        found: Iterable[Any] = self.client.list_namespaced_pod(
            namespace=namespace, label_selector=selector
        ).items
        return found


@contextlib.contextmanager
def kubernetes_errors() -> Iterator[None]:
    """Errors of Kubernetes' API as failures of the task.

    Raises:
        AirflowFailException: It does not accept such a pod.
        AirflowException: Any other.
    """
    try:
        yield
    except ApiException as e:
        if e.status not in NOT_ACCEPTED:
            raise AirflowException(f"Kubernetes answered {e.status} {e.reason}: {e.body}") from None
        raise AirflowFailException(f"Kubernetes does not accept the pod: {e.body}") from None


def container_end(pod: Any) -> Any:  # noqa: ANN401 - the client's
    """The state of the container that has ended; None where it has not."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    state = next((status.state for status in statuses if status.name == CONTAINER), None)
    return state.terminated if state is not None else None
