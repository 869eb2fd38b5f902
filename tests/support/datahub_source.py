"""DataHub's own Iceberg source, run for real in an environment of its own (`make test-datahub`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".build" / "datahub" / "bin" / "python"

_GENERATED = re.compile(r"(__(?:struct|map_entry|fixed)_)[0-9a-f]{32}")


def ingest(folder: Path, *, instance: str | None, env: str) -> list[dict[str, Any]]:
    """What `datahub ingest` makes of the SQLite catalog in `folder`, as its file sink writes it.

    Args:
        folder: Where `support.governed_tables.memory_catalog` keeps the catalog.
        instance: The recipe's platform instance.
        env: The recipe's environment.

    Raises:
        AssertionError: The source failed or warned; a table that it skips is not compared.
    """
    work = folder / f"ingest-{instance}-{env}"
    work.mkdir()
    catalog = {
        "type": "sql",
        "uri": f"sqlite:///{folder}/catalog.db",
        "warehouse": f"file://{folder}/warehouse",
    }
    config: dict[str, Any] = {"catalog": {"lake": catalog}, "env": env}
    if instance:
        config["platform_instance"] = instance
    recipe = {
        "source": {"type": "iceberg", "config": config},
        "sink": {"type": "file", "config": {"filename": str(work / "proposals.json")}},
    }
    (work / "recipe.json").write_text(json.dumps(recipe))
    environment = {"HOME": str(work), "PATH": os.environ["PATH"], "DATAHUB_TELEMETRY_ENABLED": "false"}
    command = [PYTHON, "-m", "datahub", "ingest", "run", "--no-default-report", "--strict-warnings"]
    done = subprocess.run(
        [*command, "-c", "recipe.json"],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    proposals: list[dict[str, Any]] = json.loads((work / "proposals.json").read_text())
    return proposals


def without_chance(value: Any) -> Any:
    """An aspect without the names that DataHub's source makes up for Avro types."""
    return json.loads(_GENERATED.sub(r"\1X", json.dumps(value)))


def without_place(aspect: str, value: dict[str, Any]) -> dict[str, Any]:
    """An aspect without what depends on where and when its table was made."""
    if aspect == "datasetProperties":
        words = {"location": "<location>", "snapshot-id": "<snapshot>", "manifest-list": "<manifests>"}
        return value | {"customProperties": value["customProperties"] | words, "lastModified": {"time": 0}}
    return value
