"""One change of one job, in a real Airflow: the flows of other files are not parsed again."""

from __future__ import annotations

import msgspec
import pytest

from support.airflow_stack import AirflowStack

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

SHARDS = (90_001, 90_002, 90_003)
"""No other test's flows are in these files."""


def test_a_change_has_one_file_parsed(airflow_stack: AirflowStack) -> None:
    """The changed flow and its neighbour in the file have a new time of parsing, all others keep theirs."""
    specs = [airflow_stack.spec(shard=shard) for shard in (*SHARDS, SHARDS[0])]
    airflow_stack.feed.offer(*specs[:-1])
    for spec in specs:
        airflow_stack.registered(spec)
    changed, *others, neighbour = specs

    def parsed() -> dict[str, str]:
        return {s.flow_id: airflow_stack.get(f"/dags/{s.flow_id}")["last_parsed_time"] for s in specs}

    before = parsed()
    airflow_stack.registered(msgspec.structs.replace(changed, schedule="@yearly"))
    after = parsed()
    assert {flow_id for flow_id in before if after[flow_id] != before[flow_id]} == {
        changed.flow_id,
        neighbour.flow_id,
    }
    assert len(others) == len(SHARDS) - 1
