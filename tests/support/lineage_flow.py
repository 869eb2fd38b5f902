"""A flow with Airberg's task `sync`, run to its end in this process; Airflow's own environment runs it."""

from __future__ import annotations

import sys

from airflow.sdk import DAG

from airberg_airflow.operator import AirbergOperator

JOB_ID = "0198f0a0-0000-7000-8000-00000000000a"

with DAG(f"airberg_{JOB_ID}", schedule=None, catchup=False) as flow:
    AirbergOperator(task_id="sync", verb="sync", job_id=JOB_ID)

if __name__ == "__main__":
    run = flow.test()
    sys.exit(0 if run.state == "success" else f"the flow's run is {run.state}")
