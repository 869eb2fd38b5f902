"""Which parts a run has, for the orchestrator: it starts a task for each.

`airberg_airflow.parts` names the file in the environment and reads it when the command has succeeded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from airberg.jobs.model import RunPart

VARIABLE = "AIRBERG_PARTS_FILE"
"""Environment variable with the path of the file (`airberg_airflow.parts` sets it)."""
MAX_NAME = 60
MAX_NAMES_BYTES = 3_000
"""Names are for people, and are left out where there are too many for the smallest place that a result may
have (4,096 bytes: the message that a container of Kubernetes leaves behind)."""


def write_parts(parts: Sequence[RunPart], environment: Mapping[str, str] = os.environ) -> None:
    """Write down how many parts there are, and their names. Does nothing where nobody asks.

    Raises:
        OSError: It cannot be written.
    """
    path = environment.get(VARIABLE)
    if not path:
        return
    names = [_name(part.tables) for part in parts]
    if len(msgspec.json.encode(names)) > MAX_NAMES_BYTES:
        names = []
    Path(path).write_bytes(msgspec.json.encode({"parts": len(parts), "names": names}))


def _name(tables: Sequence[str]) -> str:
    name = tables[0] if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
