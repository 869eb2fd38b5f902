"""Events that OpenLineage's file transport has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def events_in(file: Path) -> list[dict[str, Any]]:
    """One a line."""
    return [json.loads(line) for line in file.read_text().splitlines()]
