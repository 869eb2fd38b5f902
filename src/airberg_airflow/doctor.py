"""The flow `airberg_doctor`: its task asks a worker what it has (`airberg airflow doctor --run-task`)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airberg_airflow.airflow_versions import AirflowException
from airberg_airflow.dags import HASH_MARK, common_arguments, spec_hash
from airberg_airflow.job_ids import PATTERN, is_job_id
from airberg_airflow.operator import CommandOperator

MAX_FINDINGS = 50
MAX_FINDING = 4000
DOCUMENTATION = """\
Says whether a worker has what a load needs: settings, job store, keys, catalog, connectors.
Started by `airberg airflow doctor --run-task`, or by hand; it changes nothing."""


def build_doctor(spec: dict[str, Any]) -> DAG:
    """The flow: task `look`."""
    with DAG(
        spec["flow_id"],
        doc_md=f"{DOCUMENTATION}\n\n{HASH_MARK}{spec_hash(spec)}",
        params={
            "job": Param(
                None,
                type=["null", "string"],
                pattern=PATTERN,
                title="Job",
                description="Id of any job: the worker has to find it, and to decrypt its configuration.",
            )
        },
        **common_arguments(spec),
    ) as flow:
        DoctorOperator(task_id="look", execution_timeout=timedelta(seconds=int(spec["timeout_s"])))
    flow.validate()
    return flow


class DoctorOperator(CommandOperator):
    """Runs `airberg airflow worker` and returns the lines that it prints: a JSON text each, no secrets."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - what every operator takes
        super().__init__(**{"do_xcom_push": True} | kwargs)

    def execute(self, context: Any) -> list[str]:  # noqa: ANN401 - Airflow's context
        """What was found. That the command fails is a finding too."""
        found: list[str] = []

        def take(line: str) -> None:
            self.say(line)
            if is_finding(line) and len(found) < MAX_FINDINGS:
                found.append(line)

        job = context["params"]["job"]
        options = ["--job", job] if job is not None and is_job_id(job) else []
        try:
            self.run_command("airflow", "worker", *options, say=take)
        except AirflowException as e:
            advice = "Install Airberg of the service's version on the workers; AIRBERG_BIN names its command."
            failed = {"check": "worker-command", "status": "problem", "found": str(e), "advice": advice}
            found.append(json.dumps(failed))
        return found


def is_finding(line: str) -> bool:
    """Whether a line is the JSON of a finding, and no word of anybody else's."""
    if not line.startswith("{") or len(line) > MAX_FINDING:
        return False
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and all(
        isinstance(value.get(n), str) for n in ("check", "status", "found")
    )
