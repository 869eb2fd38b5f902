"""The operators of the tasks of a job's flow, and what all operators of Airberg are made of."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from airflow.sdk import Asset, AssetAlias, BaseOperator, get_current_context

from airberg_airflow.airflow_versions import AirflowException, AirflowFailException, AirflowSkipException
from airberg_airflow.changed_tables import MAX_BYTES, VARIABLE, read_changed_tables
from airberg_airflow.child import Child, SupervisorEnded, child_environment, result_file, result_in
from airberg_airflow.late import LateWatch
from airberg_airflow.lineage import lineage_variables
from airberg_airflow.parts import VARIABLE as PARTS_VARIABLE
from airberg_airflow.parts import asked_arguments, read_parts

if TYPE_CHECKING:
    from airberg_airflow.pod_command import PodCommand
    from airberg_airflow.pod_deferral import DeferredPod

EXIT_CONFIGURATION = 2
EXIT_LEASE_HELD = 99
KILL_GRACE_S = 4.0
"""Airflow kills a task 5 seconds after it was asked to end."""


Say: TypeAlias = Callable[[str], None]


class Running(Protocol):
    """A command that runs, wherever that is."""

    def stop(self) -> None:
        """End it."""


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        code: Its exit code; negative for a signal.
        error: Text of its last line that began with `error: `.
        result: What it wrote into the file that it was asked to write.
    """

    code: int
    error: str | None
    result: bytes | None


def result_of(name: str, outcome: Outcome) -> bytes | None:
    """What a command has written.

    Args:
        name: Of the command.
        outcome: How it ended.

    Raises:
        AirflowSkipException: Another run of the job is alive.
        AirflowFailException: A retry would not help.
        AirflowException: It failed.
    """
    code = outcome.code
    if code == 0:
        return outcome.result
    how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
    reason = outcome.error or f"airberg {name} {how}."
    if code == EXIT_LEASE_HELD:
        raise AirflowSkipException(reason)
    if code == EXIT_CONFIGURATION:
        raise AirflowFailException(reason)
    raise AirflowException(reason)


class CommandOperator(BaseOperator):
    """Runs commands of Airberg: as children of the task, or in pods of their own.

    Only ids cross the border; the command reads what it needs from Airberg's store. Its exit code decides:
    0 is success, 99 skips the task (another run of the job is alive), 2 fails it for good (a person has to
    change something), anything else fails it with the retries that the flow has.

    Args:
        pod: What a pod is made of in which each command is to run (`airberg_airflow.pods`); None: on the
            worker, in Airberg's environment. The flow's default arguments say it for all tasks.
        **kwargs: What every operator takes.

    Attributes:
        ended: Whether Airflow has asked the task to end.
        commands: How many commands one task runs. Where it is one, a pod that outlived its task is taken up
            again by the next attempt.
    """

    ui_color = "#d9ead3"
    commands = 1

    def __init__(self, *, pod: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        kwargs.setdefault("do_xcom_push", False)
        super().__init__(**kwargs)
        self.pod = pod
        self.ended = False
        self._running: Running | None = None

    def run_command(
        self,
        *arguments: str,
        say: Say | None = None,
        more: Mapping[str, str] | None = None,
        result_variable: str | None = None,
    ) -> bytes | None:
        """Run `airberg` with these arguments.

        Args:
            *arguments: The first ones that are no ids are its name.
            say: Gets each line that it prints; by default the task's log does. (That of a pod is there
                in any case.)
            more: Variables that it gets beside those of the task.
            result_variable: Gets the path of a file into which the command may write.

        Returns:
            What it wrote into that file.

        Raises:
            AirflowSkipException: Another run of the job is alive.
            AirflowFailException: A retry would not help.
            AirflowException: It failed.
        """
        run = self._run_child if self.pod is None else self._run_in_pod
        return result_of(arguments[0], run(arguments, say, dict(more or {}), result_variable))

    def _run_child(
        self, arguments: tuple[str, ...], say: Say | None, more: dict[str, str], variable: str | None
    ) -> Outcome:
        argv = [os.environ.get("AIRBERG_BIN", "airberg"), *arguments]
        with result_file() as file:
            asked = {variable: str(file)} if variable else {}
            try:
                child = Child(argv, child_environment(os.environ) | more | asked, KILL_GRACE_S)
            except OSError as e:
                raise AirflowFailException(
                    f"Airberg's command cannot be started ({e.strerror}); AIRBERG_BIN has to name it."
                ) from None
            self._running = child
            try:
                code = child.follow(say or self.say)
            except SupervisorEnded:
                raise AirflowException(
                    "The worker of this task has ended, and its command with it."
                ) from None
            return Outcome(code, child.error, result_in(file, MAX_BYTES))

    def _run_in_pod(
        self, arguments: tuple[str, ...], say: Say | None, more: dict[str, str], variable: str | None
    ) -> Outcome:
        from airberg_airflow.pod_command import PodCommand  # loads Airflow's provider and its client

        assert self.pod is not None  # noqa: S101 - the caller looked
        command = PodCommand(self.pod, arguments, more, variable, reattach=self.commands == 1)
        self._running = command
        code = command.follow(self.task_id, get_current_context(), say)
        return Outcome(code, command.error, command.result)

    def say(self, line: str) -> None:
        """Write a line into the task's log."""
        self.log.info("%s", line)

    def on_kill(self) -> None:
        """Pass the end on to the command and all that belongs to it."""
        self.ended = True
        if self._running is not None:
            self._running.stop()


class Asked(NamedTuple):
    """A command that a task is to run.

    Attributes:
        arguments: As for `run_command`; the others too.
    """

    arguments: tuple[str, ...]
    more: Mapping[str, str] | None = None
    result_variable: str | None = None


class OneCommandOperator(CommandOperator):
    """Runs one command. Where that is in a pod, Airflow's triggerer may wait for it in the place of the task.

    Args:
        late: Tells of a run that has not ended in time.
        **kwargs: What every operator takes.
    """

    def __init__(self, *, late: LateWatch | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self._late = late

    @abstractmethod
    def asked(self, context: Any) -> Asked:  # noqa: ANN401 - Airflow's context
        """The command."""

    @abstractmethod
    def done(self, context: Any, written: bytes | None) -> Any:  # noqa: ANN401 - Airflow's context, an XCom
        """What follows when it has succeeded, and has written this."""

    def execute(self, context: Any) -> Any:  # noqa: ANN401 - Airflow's context, an XCom
        """Run the command; raises what `run_command` raises."""
        asked = self.asked(context)
        if self._defers():
            deferred, _ = self._deferred(asked, context)
            deferred.begin(self.task_id)
        with self._late.watching(context) if self._late else contextlib.nullcontext():
            written = self.run_command(
                *asked.arguments, more=asked.more, result_variable=asked.result_variable
            )
        return self.done(context, written)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:  # noqa: ANN401
        """Airflow's way into a task that was suspended.

        A trigger that has failed (our package is missing where the triggerer runs), or was not heard of, does
        not fail the task: its pod is at work.
        """
        if next_method != "resumed":
            self.log.warning("The triggerer does not wait for the pod: %s", (next_kwargs or {}).get("error"))
            return self.resumed(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def resumed(
        self,
        context: Any,  # noqa: ANN401 - Airflow's
        event: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - an XCom
        """Go on with a command that was waited for; raises what `run_command` raises."""
        from airberg_airflow.pod_deferral import Noted

        asked = self.asked(context)
        deferred, command = self._deferred(asked, context)
        code = deferred.go_on(self.task_id, Noted(**noted) if noted else None, event or {})
        outcome = Outcome(code, command.error, command.result)
        return self.done(context, result_of(asked.arguments[0], outcome))

    def _defers(self) -> bool:
        if self.pod is None or self.pod.get("defer") is False:
            return False
        from airberg_airflow.pod_trigger import ends_pods

        if not ends_pods():
            if self.pod.get("defer"):
                self.say("This Airflow does not tell triggers that their task was ended: the task waits.")
            return False
        from airberg_airflow.pod_deferral import is_to_defer

        return is_to_defer(self.pod)

    def _deferred(self, asked: Asked, context: Any) -> tuple[DeferredPod, PodCommand]:  # noqa: ANN401
        from airberg_airflow.pod_command import PodCommand
        from airberg_airflow.pod_deferral import DeferredPod

        if self.pod is None:  # the deployment has changed while the task was suspended
            raise AirflowException("The command was started in a pod, and this flow has none any more.")
        more = dict(asked.more or {})
        command = PodCommand(self.pod, asked.arguments, more, asked.result_variable, reattach=True)
        self._running = command
        limit, late = self.execution_timeout, self._late
        return DeferredPod(command, self.pod, context, limit=limit, late=late, say=self.say), command


class AirbergOperator(OneCommandOperator):
    """Runs `airberg sync JOB_ID` or `airberg register JOB_ID`.

    A sync that succeeds tells Airflow which tables have changed, as events of the assets
    `iceberg://<namespace>.<table>`, so that other flows start. They come through an alias and are no static
    outlets: which tables there are is known by the run only, and an asset of another flow with the same URI
    and another name would make Airflow refuse to run a task that has a static outlet.

    Args:
        verb: `sync` or `register`.
        job_id: The job.
        part: Number and name of the part of a planned run that is synced; None: all of it.
        **kwargs: What every operator takes.
    """

    def __init__(
        self,
        *,
        verb: str,
        job_id: str,
        part: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        self._alias = AssetAlias(f"airberg_{job_id}")
        super().__init__(**({"outlets": [self._alias]} if verb == "sync" else {}) | kwargs)
        self.verb = verb
        self.job_id = job_id
        self.part = part

    def asked(self, context: Any) -> Asked:  # noqa: ANN401 - Airflow's context
        """The command."""
        arguments = [self.verb, self.job_id, "--flow-run-id", context["dag_run"].run_id]
        if self.verb != "sync":
            return Asked(tuple(arguments))
        if self.part is None:
            arguments += asked_arguments(context["params"])
        else:
            context["part_name"] = self.part["name"]
            arguments += ["--part", str(int(self.part["part"]))]
        arguments += ["--attempt", str(context["ti"].try_number)]
        return Asked(tuple(arguments), lineage_variables(context["ti"]), VARIABLE)

    def done(self, context: Any, written: bytes | None) -> None:  # noqa: ANN401 - Airflow's context
        """Tell Airflow which tables have changed."""
        if self.verb != "sync":
            return
        tables = read_changed_tables(written)
        events = context["outlet_events"][self._alias]
        for table in tables:
            self.say(f"changed: {table.uri}")
            events.add(Asset(table.uri), extra=table.extra)


class PlanOperator(OneCommandOperator):
    """Runs `airberg plan JOB_ID`: begins a run, and says which parts it has.

    Args:
        job_id: The job.
        **kwargs: What every operator takes.
    """

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**{"do_xcom_push": True} | kwargs)
        self.job_id = job_id

    def asked(self, context: Any) -> Asked:  # noqa: ANN401 - Airflow's context
        """The command."""
        arguments = ["plan", self.job_id, "--flow-run-id", context["dag_run"].run_id]
        arguments += ["--attempt", str(context["ti"].try_number), *asked_arguments(context["params"])]
        return Asked(tuple(arguments), result_variable=PARTS_VARIABLE)

    def done(self, context: Any, written: bytes | None) -> list[dict[str, Any]]:  # noqa: ARG002, ANN401
        """Number and name of each part.

        Raises:
            AirflowException: The command did not say which parts there are.
        """
        try:
            return read_parts(written)
        except ValueError as e:
            raise AirflowException(f"{e}.") from None
