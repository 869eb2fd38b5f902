"""Makes scenarios for `scripted_source.py` and descriptions that start it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airberg.sources.launch import LaunchDescription

SCRIPT = Path(__file__).with_name("scripted_source.py")
PASSWORD = "correct-horse/battery&staple"
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["scenario"],
    "properties": {
        "scenario": {"type": "string"},
        "password": {"type": "string", "airbyte_secret": True},
    },
}


def scripted_launch() -> LaunchDescription:
    """A launch description of the scripted source, without PyAirbyte."""
    return LaunchDescription(
        source_name="source-scripted",
        version="local",
        argv=(sys.executable, "-I", str(SCRIPT)),
        spec=SPEC,
    )


def scenario_config(folder: Path, scenario: dict[str, Any]) -> dict[str, Any]:
    """Write the scenario and return the configuration that plays it."""
    file = folder / "scenario.json"
    file.write_text(json.dumps(scenario))
    return {"scenario": str(file), "password": PASSWORD}


def configured(*names: str, sync_mode: str = "full_refresh") -> dict[str, Any]:
    """A configured catalog of streams with these names."""
    return {
        "streams": [
            {
                "stream": {"name": name, "json_schema": {}, "supported_sync_modes": [sync_mode]},
                "sync_mode": sync_mode,
                "destination_sync_mode": "append",
            }
            for name in names
        ]
    }
