"""Builds the flows of a shard from their specs. Called by the generated flow files."""

from __future__ import annotations

import hashlib
import json
import logging
import zoneinfo
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airberg_airflow.flow_files import DOCTOR_KIND, UPKEEP_KIND
from airberg_airflow.flow_options import flow_arguments, late_watch, remarks, task_arguments
from airberg_airflow.flow_texts import MAX_NAME, shown
from airberg_airflow.pods import where_tasks_run

if TYPE_CHECKING:
    from airflow.sdk import DAG

log = logging.getLogger(__name__)

SENTINEL_ID = "airberg_sentinel"
HASH_MARK = "airberg-spec: "
"""Stands before the spec's hash in a flow's documentation; the service looks for it there."""
MAX_STREAM = 2000
MAX_STREAMS = 500
"""That one run may be asked for by name: they are arguments of a command."""
MAX_TAG = 100
"""Longer tags make Airflow refuse the flow."""
NEWLY_DUE = timedelta(minutes=1)
"""A new flow without a start runs at once when its schedule has just come true, and not when that was hours
ago: Airflow's default `False` is documented as never, and means a tenth of the interval."""
REGISTER_TIMEOUT = timedelta(minutes=15)


def build_all(specs_json: str, sentinel: bool = False) -> dict[str, DAG]:
    """The flows of one file, by their ids.

    Args:
        specs_json: A JSON array of flow specs.
        sentinel: Also make the flow whose file is parsed again when flows are to be looked for.
    """
    from airflow.sdk import get_parsing_context

    only = get_parsing_context().dag_id  # on a worker: the one flow that it is about to run
    flows: dict[str, DAG] = {}
    if sentinel and only in (None, SENTINEL_ID):
        flows[SENTINEL_ID] = _sentinel()
    for spec in json.loads(specs_json):
        flow_id = spec["flow_id"]
        if only not in (None, flow_id):
            continue
        flow = _build_or_mark(flow_id, spec)
        if flow is not None:
            flows[flow_id] = flow
    return flows


def spec_hash(spec: dict[str, Any]) -> str:
    """Hash of a spec as it arrived. `airberg.flows.model.FlowSpec.spec_hash` computes the same."""
    canonical = json.dumps(spec, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def common_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """What all flows are made with.

    Raises:
        Exception: The spec is broken, in whatever way Airflow or the code below finds that.
    """
    from airberg_airflow.airflow_versions import CronTriggerTimetable

    # All of this Airflow checks too, later, and then makes every flow of the file stale.
    schedule, zone = spec["schedule"], zoneinfo.ZoneInfo(spec["timezone"]).key
    return {
        "auto_register": False,  # a flow that turns out to be broken must not be found by Airflow
        "dag_display_name": shown(spec["name"], MAX_NAME) or spec["flow_id"],
        "schedule": CronTriggerTimetable(schedule, timezone=zone, run_immediately=NEWLY_DUE)
        if schedule
        else None,
        "catchup": False,
        "max_active_runs": 1,
        "is_paused_upon_creation": bool(spec["paused"]),
        "tags": sorted({shown(tag, MAX_TAG) for tag in spec["tags"] if tag}),
        "default_args": {
            "owner": "airberg",
            "retries": int(spec["retries"]),
            "retry_delay": timedelta(seconds=int(spec["retry_delay_s"])),
            **where_tasks_run(spec),
        },
    }


def build_flow(spec: dict[str, Any]) -> DAG:
    """A job's flow: `sync`, then `register`; with parallelism `plan`, a `sync` for each part, `register`.

    It has no start. One in the past, such as that of the job, would make Airflow run the last time that the
    schedule has missed: all jobs at once, where Airflow has a new database. See `NEWLY_DUE`.

    Raises:
        Exception: The spec is broken.
    """
    from airflow.sdk import DAG

    from airberg_airflow.operator import AirbergOperator

    common = common_arguments(spec)
    common["default_args"] |= task_arguments(spec)
    with DAG(
        spec["flow_id"],
        doc_md=f"Job {spec['job_id']} of Airberg.\n\n{remarks(spec)}{HASH_MARK}{spec_hash(spec)}",
        params=_parameters(),
        **common,
        **flow_arguments(spec),
    ) as flow:
        sync = _sync_tasks(spec)
        register = AirbergOperator(
            task_id="register", verb="register", job_id=spec["job_id"], execution_timeout=REGISTER_TIMEOUT
        )
        sync >> register
    flow.validate()
    return flow


def _sync_tasks(spec: dict[str, Any]) -> Any:  # noqa: ANN401 - an operator, or a mapped one
    """The last of the tasks that load."""
    from airberg_airflow.operator import AirbergOperator, PlanOperator

    limit = timedelta(seconds=int(spec["timeout_s"]))
    own: dict[str, Any] = {
        "job_id": spec["job_id"],
        "late": late_watch(spec),
        "execution_timeout": limit,
    }
    at_once = int(spec.get("parallelism", 1))
    if at_once <= 1:
        return AirbergOperator(task_id="sync", verb="sync", **own)
    plan = PlanOperator(task_id="plan", **own)
    return AirbergOperator.partial(
        task_id="sync",
        verb="sync",
        max_active_tis_per_dagrun=at_once,
        map_index_template="{{ part_name }}",
        **own,
    ).expand(part=plan.output)


def _parameters() -> dict[str, Any]:
    """What a person, or Airberg's API, may ask of one run."""
    from airflow.sdk import Param

    return {
        "streams": Param(
            [],
            type="array",
            items={"type": "string", "minLength": 1, "maxLength": MAX_STREAM},
            maxItems=MAX_STREAMS,
            title="Streams",
            description="The only streams to sync, one a line; empty: all of the job's.",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            title="Full refresh",
            description="Read them from their beginning, and replace the rows of their tables at the end.",
        ),
    }


def _build(spec: dict[str, Any]) -> DAG:
    if spec.get("kind") == DOCTOR_KIND:
        from airberg_airflow.doctor import build_doctor

        return build_doctor(spec)
    if spec.get("kind") != UPKEEP_KIND:
        return build_flow(spec)
    from airberg_airflow.upkeep import build_upkeep

    return build_upkeep(spec)


def _build_or_mark(flow_id: str, spec: dict[str, Any]) -> DAG | None:
    """The flow, or an empty one that says what is wrong; a broken spec never harms its neighbours."""
    try:
        return _build(spec)
    except Exception as e:  # whatever it is: the other flows of the file must load
        log.exception("the flow %s cannot be built", flow_id)
        reason = f"{type(e).__name__}: {e}"[:500]
    try:
        return _broken(flow_id, reason)
    except Exception:
        log.exception("the flow %s cannot even be shown as broken", flow_id)
        return None


def _broken(flow_id: str, reason: str) -> DAG:
    from airflow.sdk import DAG

    return DAG(
        flow_id,
        dag_display_name=f"{flow_id} (broken)",
        doc_md=f"Airberg's spec of this flow cannot be used.\n\n    {reason}",
        schedule=None,
        is_paused_upon_creation=True,
        tags=["airberg", "airberg-broken"],
    )


def _sentinel() -> DAG:
    from airflow.sdk import DAG

    return DAG(
        SENTINEL_ID,
        doc_md="Airberg asks Airflow to parse this flow's file when jobs have changed. It never runs.",
        schedule=None,
        is_paused_upon_creation=True,
        tags=["airberg"],
    )
