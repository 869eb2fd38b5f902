"""The flow that looks after the tables of all jobs: one task asks which jobs, one task for each does it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airberg_airflow.airflow_versions import AirflowException, AirflowFailException, AirflowSkipException
from airberg_airflow.dags import HASH_MARK, common_arguments, spec_hash
from airberg_airflow.job_ids import PATTERN, is_job_id, shared_out
from airberg_airflow.operator import CommandOperator

LIST_TIMEOUT = timedelta(minutes=5)
DOCUMENTATION = """\
Looks after the tables of all jobs of Airberg that have run: one task for each job.
Triggered by hand it can be limited to one job, and made to say only what it would do."""


def build_upkeep(spec: dict[str, Any]) -> DAG:
    """The flow: task `jobs`, then task `upkeep` for each job.

    It has no start: Airflow takes the next time of the schedule (see `airberg_airflow.dags.NEWLY_DUE`).
    """
    with DAG(
        spec["flow_id"],
        doc_md=f"{DOCUMENTATION}\n\n{HASH_MARK}{spec_hash(spec)}",
        params={
            "job": Param(
                None,
                type=["null", "string"],
                pattern=PATTERN,
                title="Job",
                description="Id of the only job whose tables are looked after; empty: all jobs.",
            ),
            "dry_run": Param(
                False, type="boolean", title="Dry run", description="Only say what would be done."
            ),
        },
        **common_arguments(spec),
    ) as flow:
        jobs = UpkeepJobsOperator(task_id="jobs", execution_timeout=LIST_TIMEOUT)
        UpkeepOperator.partial(
            task_id="upkeep",
            do_xcom_push=False,
            max_active_tis_per_dag=int(spec["parallelism"]),
            # Absolute and small: where places are scarce, syncs (which weigh 10) get them first.
            priority_weight=1,
            weight_rule="absolute",
            execution_timeout=timedelta(seconds=int(spec["timeout_s"])),
            map_index_template="{{ looked_after }}",
        ).expand(job_ids=jobs.output)
    flow.validate()
    return flow


class UpkeepJobsOperator(CommandOperator):
    """Asks `airberg tables jobs` which jobs there are: when it runs, so that the flow never changes."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - what every operator takes
        super().__init__(**{"do_xcom_push": True} | kwargs)

    def execute(self, context: Any) -> list[list[str]]:  # noqa: ANN401 - Airflow's context
        """The ids of jobs, by task.

        Raises:
            AirflowException: The command failed, or the job that was asked for is none of them.
        """
        ids: list[str] = []

        def take(line: str) -> None:
            ids.append(line) if is_job_id(line) else self.say(line)

        self.run_command("tables", "jobs", say=take)
        self.say(f"jobs that have run: {len(ids)}")
        only = context["params"]["job"]
        if only is None:
            return shared_out(ids)
        if only not in ids:
            raise AirflowFailException(f"There is no job {only} that has run; was it deleted?")
        return [[only]]


class UpkeepOperator(CommandOperator):
    """Runs `airberg tables upkeep --job JOB_ID` for its jobs: one, unless there are very many.

    Args:
        job_ids: The jobs. That one fails does not keep the others from their turn.
        **kwargs: What every operator takes.
    """

    def __init__(self, *, job_ids: list[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.job_ids = job_ids
        self.commands = len(job_ids)

    def execute(self, context: Any) -> None:  # noqa: ANN401 - Airflow's context
        """Run the command for each.

        Raises:
            AirflowSkipException: There was nothing to do for any.
            AirflowFailException: All that failed would fail again.
            AirflowException: A retry may help.
        """
        more = len(self.job_ids) - 1
        context["looked_after"] = self.job_ids[0] + (f" and {more} more" if more else "")
        options = ["--dry-run"] if context["params"]["dry_run"] else []
        problems: list[AirflowException] = []
        for job_id in self.job_ids:
            if self.ended:
                raise AirflowException("The task was asked to end.")
            try:
                self.run_command("tables", "upkeep", "--job", job_id, *options)
            except AirflowException as e:
                self.log.warning("job %s: %s", job_id, e)
                problems.append(e)
        failures = [e for e in problems if not isinstance(e, AirflowSkipException)]
        if failures:
            # The first that may go well the next time, so that there is one.
            raise next((e for e in failures if not isinstance(e, AirflowFailException)), failures[0])
        if len(problems) == len(self.job_ids):
            raise problems[0]
