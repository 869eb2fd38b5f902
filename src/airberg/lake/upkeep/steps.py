"""The named steps of upkeep, told to whoever watches the process (`sys.audit`), as those of a checkpoint."""

from __future__ import annotations

import sys
from enum import StrEnum

EVENT = "airberg.upkeep"
"""The audit event; its arguments are a step and the table's dotted name."""


class UpkeepStep(StrEnum):
    """What has just been done."""

    GROUP_WRITTEN = "group-written"
    SNAPSHOTS_EXPIRED = "snapshots-expired"
    FILES_DELETED = "files-deleted"


def reached(step: UpkeepStep, table: tuple[str, ...]) -> None:
    """Tell that a step was reached."""
    sys.audit(EVENT, step.value, ".".join(table))
