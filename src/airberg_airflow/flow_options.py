"""What a job's spec says about how its flow is run, as arguments of Airflow's DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airberg_airflow.flow_texts import MAX_NAME, shown
from airberg_airflow.late import LateWatch
from airberg_airflow.notices import FailureNotices, Subject, missing, tell_late

DEFAULT_PRIORITY = 10
BACKOFF = 2.0
"""Each wait before a retry is twice the one before, and up to twice that again (Airflow's jitter)."""
BY_TRIGGERER = "triggerer"


def flow_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the flow itself: who is told, and when.

    Raises:
        Exception: The spec is broken.
    """
    told = list(spec.get("on_failure") or ())
    arguments: dict[str, Any] = {}
    if told:
        arguments["on_failure_callback"] = FailureNotices(_subject(spec), told)
    if spec.get("deadline_s") and spec.get("deadline_by") == BY_TRIGGERER and knows_deadlines():
        arguments["deadline"] = _deadline(spec, told)
    return arguments


def task_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """Default arguments of all tasks of a job's flow.

    Weights are absolute: by default a task weighs what follows it too, so that flows with more tasks would go
    first.
    """
    delay = timedelta(seconds=int(spec["retry_delay_s"]))
    arguments: dict[str, Any] = {
        "retries": int(spec["retries"]),
        "retry_delay": delay,
        "priority_weight": int(spec.get("priority", DEFAULT_PRIORITY)),
        "weight_rule": "absolute",
    }
    if delay:  # without one, Airflow would wait for a second
        longest = timedelta(seconds=int(spec.get("max_retry_delay_s", 3600)))
        arguments["retry_exponential_backoff"] = BACKOFF if knows_deadlines() else True
        arguments["max_retry_delay"] = max(longest, delay)
    for name in ("pool", "queue"):
        if spec.get(name):
            arguments[name] = str(spec[name])
    return arguments


def late_watch(spec: dict[str, Any]) -> LateWatch | None:
    """What the tasks that load watch, where the triggerer does not."""
    told = list(spec.get("on_failure") or ())
    if not told or not spec.get("deadline_s") or spec.get("deadline_by") == BY_TRIGGERER:
        return None
    return LateWatch(_subject(spec), told, int(spec["deadline_s"]))


def remarks(spec: dict[str, Any]) -> str:
    """What a person should know who looks at the flow; empty, or paragraphs."""
    told = list(spec.get("on_failure") or ())
    lacking = missing(told)
    found = [f"{lacking} Those who were to be told by it are not."] if lacking else []
    if spec.get("deadline_s") and spec.get("deadline_by") == BY_TRIGGERER and not knows_deadlines():
        found.append("This Airflow has no alerts of deadlines that Airberg can use; 3.2 and newer ones have.")
    elif spec.get("deadline_s") and not told:
        found.append("It has a deadline, and nobody to be told: `on_failure` is empty.")
    return "".join(f"{remark}\n\n" for remark in found)


def knows_deadlines() -> bool:
    """Airflow 3.2 and newer: deadlines are public, and the backoff of retries is a number, not a switch."""
    import airflow.sdk

    return "AsyncCallback" in airflow.sdk.__all__


def _subject(spec: dict[str, Any]) -> Subject:
    name = shown(spec["name"], MAX_NAME)
    return Subject(spec["job_id"], name, spec["flow_id"], spec.get("flow_url"))


def _deadline(spec: dict[str, Any], told: list[Any]) -> Any:  # noqa: ANN401 - Airflow's
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=int(spec["deadline_s"])),
        callback=AsyncCallback(tell_late, {"subject": list(_subject(spec)), "notifications": told}),
    )
