"""What the doctor looks at, and what it finds."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

Status: TypeAlias = Literal["ok", "warning", "problem", "skipped"]
"""`skipped`: it was not looked at, because it needs something that is a problem, or nobody asked for it."""

CHECKS: Final = {
    "settings": "The settings and secrets that talking to Airflow needs are there.",
    "store": "The job store answers, and has the tables of this version.",
    "service": "Airberg's API answers, takes this deployment's machine token, and is of this version.",
    "airflow": "Airflow's API answers at `AIRBERG_AIRFLOW__URL`.",
    "version": "Airflow's version is one that Airberg is tested with.",
    "health": "Airflow's database, scheduler and dag-processor are healthy; its triggerer, if it is needed.",
    "clock": "The clocks of Airflow's API server and of this machine agree.",
    "pages": "`AIRBERG_AIRFLOW__PUBLIC_URL`, the base of `flow_url`, leads to the same Airflow.",
    "login": "Airflow lets Airberg in, with user and password or with the token.",
    "rights": "That user may see, change, start and delete flows, and see import errors.",
    "bundle": "Airflow has the flow `airberg_sentinel`: the bundle is configured, the package installed.",
    "pull": "Asked to, Airflow parses the bundle, and for that asks Airberg's API for the flows.",
    "hosts": "Hosts of Airflow that ask for flows have this version's package, and a clock that is right.",
    "import-errors": "Airflow has no import errors of Airberg's flow files.",
    "flows": "Every job has its flow in Airflow, as it should be, and no other flow is left.",
    "schedules": "Every flow with a schedule that is not paused has a next run.",
    "pools": "The pools that tasks go to exist.",
    "worker": "With `--run-task`: a task is run, and its worker has what a load needs.",
    "worker-command": "`AIRBERG_BIN` on the worker starts, and is of this version.",
    "worker-settings": "Settings and secrets of the worker can be read.",
    "worker-home": "`AIRBERG_HOME` of the worker can be written.",
    "worker-store": "The worker reaches the job store.",
    "worker-job": "It is the same job store, and the worker can decrypt the configuration of a job in it.",
    "worker-keys": "The worker can use the key-encryption key, and has the default key.",
    "worker-catalog": "The worker reaches the Iceberg catalog.",
    "worker-connectors": "The worker has PyAirbyte's environment.",
}
"""The checks in their order, and what each means when it is `ok`."""
WORKER_PREFIX: Final = "worker-"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        check: One of `CHECKS`.
        found: What was seen; no secrets.
        advice: What to do; empty when nothing is.
    """

    check: str
    status: Status
    found: str
    advice: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of an examination.

    Attributes:
        version: Of Airberg.
        at: When it was made.
    """

    version: str
    at: datetime
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of all."""
        found = {f.status for f in self.findings}
        return "problem" if "problem" in found else "warning" if "warning" in found else "ok"


class NotFit(Exception):
    """A check that found something: raised where it is seen.

    Attributes:
        status: `warning` or `problem`.
    """

    def __init__(self, found: str, advice: str = "", status: Status = "problem") -> None:
        self.found, self.advice, self.status = found, advice, status
        super().__init__(found)


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number with its noun: `1 flow`, `2 flows`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def some(names: list[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
