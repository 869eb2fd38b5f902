"""A command of Airberg in a pod of its own, started and watched by Airflow's provider for Kubernetes.

The provider's operator is used inside ours, and not in its place: so one task is one operator wherever its
command runs, exit codes mean the same, and the list of changed tables comes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self._stopped = False
        self._operator: KubernetesPodOperator | None = None

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
        self._operator = operator = self.operator(task_id, say)
        failure: AirflowException | None = None
        try:
            operator.execute_sync(context)
        except ApiException as e:
            if e.status not in NOT_ACCEPTED:
                raise AirflowException(f"Kubernetes answered {e.status} {e.reason}: {e.body}") from None
            raise AirflowFailException(f"Kubernetes does not accept the pod: {e.body}") from None
        except AirflowException as e:
            failure = e  # a command that failed is one to the operator too: the exit code says more
        ended = _ended(operator.remote_pod)
        if ended is None:
            raise failure or AirflowException("The pod is gone, and how its command ended is not known.")
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

    def operator(self, task_id: str, say: Callable[[str], None] | None = None) -> KubernetesPodOperator:
        """The provider's operator for the pod.

        From the least to the last word: what goes for all pods, the deployment's template, the command.
        """
        base = PodGenerator.deserialize_model_dict(hardened())
        if template := self._pods.get("template_file"):
            base = PodGenerator.reconcile_pods(base, PodGenerator.deserialize_model_file(template))
        own = command_pod(self._pods, self._arguments, self._variables)
        operator = KubernetesPodOperator(
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
            callbacks=[_Lines(self._take, say)],
            do_xcom_push=False,
            deferrable=False,
        )
        # Set here because the argument has another name in each version, and warns in some.
        operator.reattach_on_restart = self._reattach
        return operator

    def _take(self, line: str) -> None:
        if line.startswith(ERROR_MARK):
            self.error = line.removeprefix(ERROR_MARK).strip()


class _Lines(KubernetesPodOperatorCallback):
    """Gets the lines of a pod's log as they come."""

    def __init__(self, *takers: Callable[[str], None] | None) -> None:
        self._takers = [take for take in takers if take is not None]

    def progress_callback(self, *, line: str, **_more: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """A line; or several, where the log of Kubernetes has given them one time."""
        for one in line.splitlines():
            for take in self._takers:
                take(one)


def _ended(pod: Any) -> Any:  # noqa: ANN401 - the client's
    """The state of the container that has ended; None where it has not."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    state = next((status.state for status in statuses if status.name == CONTAINER), None)
    return state.terminated if state is not None else None
