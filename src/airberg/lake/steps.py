"""The named steps of a checkpoint, told to whoever watches the process (`sys.audit`).

Without a hook they cost nothing. `make chaos` kills runs at each of them; an operator can trace them.
"""

from __future__ import annotations

import sys
from enum import StrEnum

EVENT = "airberg.checkpoint"
"""The audit event; its arguments are a step and the table's dotted name."""


class Step(StrEnum):
    """What has just been done, in the order of a checkpoint."""

    ROWS_STAGED = "rows-staged"
    FILES_CLOSING = "files-closing"
    FILES_CLOSED = "files-closed"
    PROMISED = "promised"
    PLANNED = "planned"
    MANIFESTS_WRITTEN = "manifests-written"
    SENDING = "sending"
    LANDED = "landed"
    SETTLED = "settled"
    BETWEEN_TABLES = "between-tables"
    COMPLETING = "completing"
    COMPLETED = "completed"


def reached(step: Step, table: tuple[str, ...]) -> None:
    """Tell that a step was reached."""
    sys.audit(EVENT, step.value, ".".join(table))
