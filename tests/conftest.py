"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.airflow_stack import AirflowStack, running_airflow
from support.postgresql import NoServer, Server, running_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A real PostgreSQL, started when the first test asks for it; without one, those tests are skipped."""
    try:
        with running_server() as server:
            yield server
    except NoServer as e:
        pytest.skip(f"PostgreSQL: {e}")


@pytest.fixture(scope="session")
def airflow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """The embedded Airflow, one for the whole session.

    Tests that use it are marked `airflow` and `xdist_group("airflow")`: then one worker has it.
    """
    with running_airflow(tmp_path_factory.mktemp("airflow-stack") / "home") as stack:
        yield stack
