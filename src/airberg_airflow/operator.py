"""The operator of both tasks of a job's flow, and what all operators of Airberg are made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airberg_airflow.changed_tables import VARIABLE, changed_tables_file, read_changed_tables
from airberg_airflow.child import Child, child_environment
from airberg_airflow.lineage import lineage_variables

EXIT_CONFIGURATION = 2
EXIT_LEASE_HELD = 99
KILL_GRACE_S = 4.0
"""Airflow kills a task 5 seconds after it was asked to end."""


class CommandOperator(BaseOperator):
    """Runs commands of Airberg in its own environment, in process groups of their own.

    Only ids cross the border; the command reads what it needs from Airberg's store. Its exit code decides:
    0 is success, 99 skips the task (another run of the job is alive), 2 fails it for good (a person has to
    change something), anything else fails it with the retries that the flow has.

    Attributes:
        ended: Whether Airflow has asked the task to end.
    """

    ui_color = "#d9ead3"

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - what every operator takes
        kwargs.setdefault("do_xcom_push", False)
        super().__init__(**kwargs)
        self.ended = False
        self._child: Child | None = None

    def run_command(
        self,
        *arguments: str,
        say: Callable[[str], None] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Run `airberg` with these arguments.

        Args:
            *arguments: The first ones that are no ids are its name.
            say: Gets each line that it prints; by default the task's log does.
            more: Variables that it gets beside those of the task.

        Raises:
            AirflowSkipException: Another run of the job is alive.
            AirflowFailException: A retry would not help.
            AirflowException: It failed.
        """
        argv = [os.environ.get("AIRBERG_BIN", "airberg"), *arguments]
        try:
            environment = child_environment(os.environ) | dict(more or {})
            self._child = Child(argv, environment, KILL_GRACE_S)
        except OSError as e:
            raise AirflowFailException(
                f"Airberg's command cannot be started ({e.strerror}); AIRBERG_BIN has to name it."
            ) from None
        code = self._child.follow(say or self.say)
        if code == 0:
            return
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        reason = self._child.error or f"airberg {arguments[0]} {how}."
        if code == EXIT_LEASE_HELD:
            raise AirflowSkipException(reason)
        if code == EXIT_CONFIGURATION:
            raise AirflowFailException(reason)
        raise AirflowException(reason)

    def say(self, line: str) -> None:
        """Write a line into the task's log."""
        self.log.info("%s", line)

    def on_kill(self) -> None:
        """Pass the end on to the command and all that belongs to it."""
        self.ended = True
        if self._child is not None:
            self._child.stop()


class AirbergOperator(CommandOperator):
    """Runs `airberg sync JOB_ID` or `airberg register JOB_ID`.

    A sync that succeeds tells Airflow which tables have changed, as events of the assets
    `iceberg://<namespace>.<table>`, so that other flows start. They come through an alias and are no static
    outlets: which tables there are is known by the run only, and an asset of another flow with the same URI
    and another name would make Airflow refuse to run a task that has a static outlet.

    Args:
        verb: `sync` or `register`.
        job_id: The job.
        **kwargs: What every operator takes.
    """

    def __init__(self, *, verb: str, job_id: str, **kwargs: Any) -> None:  # noqa: ANN401
        self._alias = AssetAlias(f"airberg_{job_id}")
        super().__init__(**({"outlets": [self._alias]} if verb == "sync" else {}) | kwargs)
        self.verb = verb
        self.job_id = job_id

    def execute(self, context: Any) -> None:  # noqa: ANN401 - Airflow's context
        """Run the command; raises what `run_command` raises."""
        arguments = [self.verb, self.job_id, "--flow-run-id", context["dag_run"].run_id]
        if self.verb != "sync":
            self.run_command(*arguments)
            return
        with changed_tables_file() as file:
            attempt = str(context["ti"].try_number)
            more = {VARIABLE: str(file)} | lineage_variables(context["ti"])
            self.run_command(*arguments, "--attempt", attempt, more=more)
            tables = read_changed_tables(file)
        events = context["outlet_events"][self._alias]
        for table in tables:
            self.say(f"changed: {table.uri}")
            events.add(Asset(table.uri), extra=table.extra)
