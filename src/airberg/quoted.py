"""How names that people chose are written in sentences: as JSON writes them, not as Python does."""

from __future__ import annotations

import json


def quoted(text: object) -> str:
    """A name in double quotes. What cannot be seen, such as a line end, is escaped as in JSON."""
    name = str(text)
    return json.dumps(name, ensure_ascii=not name.isprintable())
