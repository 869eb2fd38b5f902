"""The operator of both tasks of a flow."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airberg_airflow.child import Child, child_environment

EXIT_CONFIGURATION = 2
EXIT_LEASE_HELD = 99
KILL_GRACE_S = 4.0
"""Airflow kills a task 5 seconds after it was asked to end."""


class AirbergOperator(BaseOperator):
    """Runs `airberg sync JOB_ID` or `airberg register JOB_ID` in Airberg's own environment.

    Only ids cross the border; the command reads what it needs from Airberg's store. Its exit code decides:
    0 is success, 99 skips the task (another run of the job is alive), 2 fails it for good (a person has to
    change something), anything else fails it with the retries that the flow has.

    Args:
        verb: `sync` or `register`.
        job_id: The job.
        **kwargs: What every operator takes.
    """

    ui_color = "#d9ead3"

    def __init__(self, *, verb: str, job_id: str, **kwargs: Any) -> None:  # noqa: ANN401
        kwargs.setdefault("do_xcom_push", False)
        super().__init__(**kwargs)
        self.verb = verb
        self.job_id = job_id
        self._child: Child | None = None

    def execute(self, context: Any) -> None:  # noqa: ANN401 - Airflow's context
        """Run the command.

        Raises:
            AirflowSkipException: Another run of the job is alive.
            AirflowFailException: A retry would not help.
            AirflowException: It failed.
        """
        try:
            self._child = Child(self._argv(context), child_environment(os.environ), KILL_GRACE_S)
        except OSError as e:
            raise AirflowFailException(
                f"Airberg's command cannot be started ({e.strerror}); AIRBERG_BIN has to name it."
            ) from None
        code = self._child.follow(lambda line: self.log.info("%s", line))
        if code == 0:
            return
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        reason = self._child.error or f"airberg {self.verb} {how}."
        if code == EXIT_LEASE_HELD:
            raise AirflowSkipException(reason)
        if code == EXIT_CONFIGURATION:
            raise AirflowFailException(reason)
        raise AirflowException(reason)

    def on_kill(self) -> None:
        """Pass the end on to the command and all that belongs to it."""
        if self._child is not None:
            self._child.stop()

    def _argv(self, context: Any) -> list[str]:  # noqa: ANN401
        run_id = context["dag_run"].run_id
        argv = [os.environ.get("AIRBERG_BIN", "airberg"), self.verb, self.job_id, "--flow-run-id", run_id]
        if self.verb == "sync":
            argv += ["--attempt", str(context["ti"].try_number)]
        return argv
