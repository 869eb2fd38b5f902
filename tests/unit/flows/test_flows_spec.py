"""Specs of flows: what they hold, and their hash on both sides of the border."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.flows.model import (
    HASH_MARK,
    SENTINEL_ID,
    FlowSpec,
    PodSpec,
    flow_spec,
    hash_in,
    settings_version,
)
from airberg.plan.flow_request import FlowRequest, Notification
from airberg.settings import AirflowSettings, Settings
from airberg_airflow import dags
from support.jobs import a_job, a_request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SPEC = st.builds(
    FlowSpec,
    job_id=st.uuids().map(str),
    flow_id=st.uuids().map(lambda u: f"airberg_{u}"),
    name=TEXT,
    schedule=st.none() | TEXT,
    timezone=TEXT,
    created_at=st.datetimes().map(lambda t: t.isoformat()),
    paused=st.booleans(),
    shard=st.integers(0, 99_999),
    retries=st.integers(0, 9),
    retry_delay_s=st.integers(0, 9999),
    timeout_s=st.integers(1, 99_999),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    parallelism=st.integers(1, 100),
    pool=st.none() | TEXT,
    queue=st.none() | TEXT,
    priority=st.integers(1, 1000),
    deadline_s=st.none() | st.integers(1, 9999),
    on_failure=st.lists(
        st.builds(
            Notification,
            type=st.sampled_from(["slack", "email", "webhook"]),
            connection=st.none() | TEXT,
            channel=st.none() | TEXT,
            to=st.none() | st.lists(TEXT, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    pods=st.none() | st.builds(PodSpec, by=st.just("operator"), image=TEXT, cpu=st.none() | TEXT),
)


@settings(max_examples=80, deadline=None)
@given(SPEC)
def test_both_sides_compute_one_hash(spec: FlowSpec) -> None:
    """What Airflow's side computes from the JSON that arrived is the hash that the service expects."""
    arrived = json.loads(msgspec.json.encode(spec))
    assert dags.spec_hash(arrived) == spec.spec_hash()
    assert hash_in(f"anything\n\n{dags.HASH_MARK}{dags.spec_hash(arrived)}") == spec.spec_hash()


def test_both_sides_use_one_mark_and_sentinel() -> None:
    """The names that both packages know are the same; they cannot share a module."""
    assert (dags.HASH_MARK, dags.SENTINEL_ID) == (HASH_MARK, SENTINEL_ID)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"schedule": "1 1 * * *"},
        {"timezone": "Asia/Kolkata"},
        {"paused": True},
        {"shard": 3},
        {"tags": ("a",)},
        {"parallelism": 2},
        {"pool": "p"},
        {"queue": "q"},
        {"priority": 11},
        {"max_retry_delay_s": 1},
        {"deadline_s": 60},
        {"deadline_by": "triggerer"},
        {"flow_url": "http://a/dags/x"},
        {"on_failure": (Notification(type="webhook", connection="c"),)},
        {"version": 1},
        {"pods": PodSpec(by="executor")},
    ],
    ids=lambda c: next(iter(c)),
)
def test_every_change_changes_the_hash(change: dict[str, Any]) -> None:
    """A difference anywhere in a spec makes it be registered again."""
    spec = flow_spec(a_job(), Settings())
    assert msgspec.structs.replace(spec, **change).spec_hash() != spec.spec_hash()


def test_the_spec_follows_the_job_and_the_settings() -> None:
    """Ids, name and schedule come from the job, limits from the settings; nothing else crosses the border."""
    job = a_job(id=uuid4())
    spec = flow_spec(job, Settings(airflow=AirflowSettings(retries=7, retry_delay_s=11, task_timeout_s=13)))
    assert (spec.flow_id, spec.job_id, spec.shard) == (f"airberg_{job.id}", str(job.id), job.shard)
    assert (spec.name, spec.schedule, spec.timezone) == (
        job.request.name,
        job.request.schedule,
        job.request.timezone,
    )
    assert (spec.retries, spec.retry_delay_s, spec.timeout_s) == (7, 11, 13)
    assert spec.tags[:2] == ("airberg", job.request.source_name)
    assert spec.created_at == job.created_at.isoformat()


DEPLOYMENT = Settings(
    airflow=AirflowSettings.model_validate(
        {
            "retries": 1,
            "retry_delay_s": 11,
            "max_retry_delay_s": 99,
            "task_timeout_s": 13,
            "pool": "all",
            "source_pools": {"source-faker": "faker"},
            "queue": "plain",
            "source_queues": {"source-faker": "fast"},
            "priority": 7,
            "deadline_s": 17,
            "on_failure": [{"type": "webhook", "connection": "ops"}],
        }
    )
)
OF_FLOWS = set(FlowRequest.__struct_fields__) - {"cpu", "memory"}
"""Options that are members of a spec; the others are those of its pods (`test_flows_kubernetes`)."""
OPS = Notification(type="webhook", connection="ops")


def options(spec: FlowSpec) -> dict[str, Any]:
    """What can be asked for, as a spec has it."""
    return {name: getattr(spec, name) for name in OF_FLOWS}


def test_options_are_those_of_the_job_then_of_its_source_then_of_the_deployment() -> None:
    """Each for itself; a zero and an empty list are values."""
    common = {"retry_delay_s": 11, "timeout_s": 13, "parallelism": 1, "deadline_s": 17}
    of_all = common | {"retries": 1, "pool": "all", "queue": "plain", "priority": 7, "on_failure": (OPS,)}
    other = flow_spec(a_job(request=a_request(source_name="source-other")), DEPLOYMENT)
    assert options(other) == of_all
    assert other.max_retry_delay_s == 99
    assert other.flow_url == f"http://127.0.0.1:8080/dags/{other.flow_id}"
    faker = flow_spec(a_job(request=a_request(source_name="source-faker")), DEPLOYMENT)
    assert options(faker) == of_all | {"pool": "faker", "queue": "fast"}
    asked = FlowRequest(
        parallelism=3,
        pool="own",
        queue="slow",
        priority=1,
        retries=0,
        retry_delay_s=0,
        timeout_s=5,
        deadline_s=6,
        on_failure=(),
    )
    own = flow_spec(a_job(request=a_request(source_name="source-faker", flow=asked)), DEPLOYMENT)
    assert own.flow_url is None, "nobody is told"
    assert options(own) == {name: getattr(asked, name) for name in OF_FLOWS}


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"retries": 5},
            {"retry_delay_s": 5},
            {"max_retry_delay_s": 5},
            {"task_timeout_s": 5},
            {"pool": "p"},
        ),
        *({"source_pools": {"source-faker": "p"}}, {"queue": "q"}, {"source_queues": {"source-faker": "q"}}),
        *(
            {"priority": 5},
            {"deadline_s": 5},
            {"deadline_by": "triggerer"},
            {"on_failure": [{"type": "webhook", "connection": "c"}]},
        ),
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_flows_are_made_of_is_in_the_version_of_settings(change: dict[str, Any]) -> None:
    """Airflow's bundle gets an answer with content after the service was started with other settings."""
    before, after = Settings(), Settings(airflow=AirflowSettings.model_validate(change))
    job = a_job(request=a_request(source_name="source-faker"))
    assert flow_spec(job, before) != flow_spec(job, after)
    assert settings_version(before) != settings_version(after)


@pytest.mark.parametrize("text", [None, "", "airberg-spec: xyz", "airberg-spec: " + "a" * 40])
def test_no_hash_where_there_is_none(text: str | None) -> None:
    """Documentation without a well-formed hash has none."""
    assert hash_in(text) is None
