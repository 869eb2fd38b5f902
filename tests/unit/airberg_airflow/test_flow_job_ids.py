"""Ids of jobs: told from everything else that a command prints, and shared out among tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg_airflow.job_ids import MAX_TASKS, is_job_id, shared_out


@given(st.uuids())
def test_ids_are_known(job_id: object) -> None:
    """Every id as our command prints it."""
    assert is_job_id(str(job_id))


ID = "7ee5d4fa-1015-4cc0-848d-eaad6c6013e3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--help",
        "error: no",
        f"{ID}\n",
        f" {ID}",
        f"{ID} x",
        ID.upper(),
        "-" * 36,
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    """A line of a log, an option, an id with something around it."""
    assert not is_job_id(text)


@given(st.lists(st.text(max_size=3)), st.integers(1, 9))
def test_every_id_is_in_one_task(ids: list[str], tasks: int) -> None:
    """In order, none twice, in no more tasks than may be; one each where there is room."""
    found = shared_out(ids, tasks)
    assert [i for task in found for i in task] == ids
    assert len(found) == len(ids) if len(ids) <= tasks else len(found) <= tasks
    assert all(found)


def test_airflow_takes_so_many_tasks() -> None:
    """Whatever the number of jobs, Airflow's default limit of mapped tasks is kept."""
    assert len(shared_out([str(n) for n in range(10_000)])) <= MAX_TASKS < 1024
