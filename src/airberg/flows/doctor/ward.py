"""What all checks of one examination share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import msgspec

from airberg.flows.airflow import TIMEOUT, is_loopback
from airberg.flows.credentials import AirflowCredentials
from airberg.flows.doctor.airflow_api import AirflowApi, Flow
from airberg.flows.doctor.model import NotFit
from airberg.flows.pulls import PullsSeen
from airberg.jobs.port import JobStore
from airberg.settings import Settings

PULLS_PATH = "/internal/airflow/pulls"


@dataclass(slots=True, kw_only=True)
class Ward:
    """The patient, and what earlier checks have learnt of him.

    Attributes:
        api_url: Where Airberg's API is.
        open_store: Opens the job store.
        wait_s: How long a check waits for what should happen.
        run_task: Whether a task may be run on a worker.
        airflow_version: As Airflow says it.
        sentinel: The flow whose file is parsed when flows have changed.
        seen: Who has asked for flows.
    """

    settings: Settings
    api_url: str
    open_store: Callable[[], JobStore]
    wait_s: float = 30.0
    run_task: bool = False
    opened_credentials: AirflowCredentials | None = None
    opened_airflow: AirflowApi | None = None
    opened_store: JobStore | None = None
    airflow_version: str = ""
    sentinel: Flow | None = None
    seen: PullsSeen | None = None

    @property
    def airflow(self) -> AirflowApi:
        """Airflow's API, once there are credentials."""
        assert self.opened_airflow is not None  # noqa: S101 - checks come after those that they need
        return self.opened_airflow

    @property
    def store(self) -> JobStore:
        """The job store, once it is open."""
        assert self.opened_store is not None  # noqa: S101 - as above
        return self.opened_store

    @property
    def credentials(self) -> AirflowCredentials:
        """Secrets, once they were found."""
        assert self.opened_credentials is not None  # noqa: S101 - as above
        return self.opened_credentials

    def pulls(self) -> PullsSeen:
        """What our API has seen.

        Raises:
            NotFit: It does not answer, or not as our API does.
        """
        try:
            answer = httpx.get(
                self.api_url + PULLS_PATH,
                headers={"Authorization": f"Bearer {self.credentials.bundle_token}"},
                timeout=TIMEOUT,
                trust_env=not is_loopback(self.api_url),
            )
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise NotFit(
                f"{self.api_url} does not answer ({type(e).__name__}).",
                "Start it with `airberg serve`, or name its address with --api-url.",
            ) from None
        if answer.status_code == 401:
            raise NotFit(
                f"{self.api_url} refuses the machine token that the doctor was given.",
                "Run the doctor with the settings of the service: AIRBERG_AIRFLOW__BUNDLE_TOKEN is another.",
            )
        if answer.status_code != 200:
            raise NotFit(
                f"{self.api_url} answers {answer.status_code} to GET {PULLS_PATH}.",
                "See whether it is the address of Airberg's API, and whether that is of this version.",
            )
        try:
            return msgspec.json.decode(answer.content, type=PullsSeen)
        except msgspec.DecodeError:
            raise NotFit(
                f"What {self.api_url} answers is not what Airberg's API answers.",
                "Name its address with --api-url.",
            ) from None

    def close(self) -> None:
        """Release what was opened."""
        if self.opened_airflow is not None:
            self.opened_airflow.close()
        if self.opened_store is not None:
            self.opened_store.close()
