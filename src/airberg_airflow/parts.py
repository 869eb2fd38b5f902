"""The parts of a run, as the command `airberg plan` wrote them down. No Airflow in here."""

from __future__ import annotations

import json
from typing import Any

from airberg_airflow.flow_texts import shown

VARIABLE = "AIRBERG_PARTS_FILE"
"""Environment variable with the path of the file that the command writes them to."""
MAX_PARTS = 1000
"""Airflow refuses to map over more than 1024 (`[core] max_map_length`)."""
MAX_NAME = 100


def read_parts(written: bytes | None) -> list[dict[str, Any]]:
    """Number and name of each part: what Airflow keeps between tasks.

    Raises:
        ValueError: That is not what the command writes.
    """
    try:
        said = json.loads(written or b"")
        count, names = said["parts"], said["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("airberg plan did not say which parts the run has") from None
    if type(count) is not int or not 0 <= count <= MAX_PARTS or not isinstance(names, list):
        raise ValueError("airberg plan said that the run has parts that Airflow cannot map over")
    known = names if len(names) == count else [None] * count
    return [
        {"part": number, "name": shown(name, MAX_NAME) if isinstance(name, str) else f"part {number}"}
        for number, name in enumerate(known)
    ]


def asked_arguments(params: Any) -> list[str]:  # noqa: ANN401 - Airflow's parameters of a run
    """What the parameters of a flow's run ask for, as arguments of the command.

    As one argument each, so that no name of a stream can be taken for an option.
    """
    streams = params.get("streams") or ()
    arguments = [f"--stream={name}" for name in streams]
    return [*arguments, "--full-refresh"] if params.get("full_refresh") else arguments
