"""With Airflow's own OpenLineage provider our runs are children of the task's, and of the flow's run."""

from __future__ import annotations

from typing import Any

from support.openlineage_schema import check_event


def named(job: dict[str, Any]) -> tuple[str, str]:
    """A job without its facets."""
    return job["namespace"], job["name"]


def test_our_run_is_a_child_of_the_tasks(played: Any) -> None:
    """Its parent is the run that the provider tells of the task, its root that of the flow; start and end."""
    [start, *_] = [e for e in played.by_airflow if e["eventType"] == "START"]
    [flow_end] = [e for e in played.by_airflow if e["job"]["name"] == start["job"]["name"].rpartition(".")[0]]
    assert start["job"]["namespace"] == "airflow-test"
    assert start["job"]["name"].endswith(".sync")
    assert [event["eventType"] for event in played.by_airberg] == ["START", "COMPLETE"]
    for event in played.by_airberg:
        check_event(event)
        parent = event["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == start["run"]["runId"]
        assert named(parent["job"]) == named(start["job"])
        assert parent["root"]["run"]["runId"] == flow_end["run"]["runId"]
        assert named(parent["root"]["job"]) == named(flow_end["job"])


def test_jobs_are_told_apart(played: Any) -> None:
    """The provider's task and our load are jobs of their own, both named after the flow."""
    ours = {event["job"]["name"] for event in played.by_airberg}
    theirs = {event["job"]["name"] for event in played.by_airflow}
    [load] = ours
    flow = load.removesuffix(".load")
    assert theirs == {flow, f"{flow}.sync"}


def test_the_tasks_run_spans_ours(played: Any) -> None:
    """Told before ours begins, and ended after."""
    times = [event["eventTime"] for event in played.by_airberg]
    task = [e["eventTime"] for e in played.by_airflow if e["job"]["name"].endswith(".sync")]
    assert min(task) < min(times) <= max(times) < max(task)
