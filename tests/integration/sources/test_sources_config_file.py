"""The file with a connector's configuration: private, and gone as soon as it was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airberg.sources.read import ReadProcess
from support.connectors.scenarios import configured, scenario_config, scripted_launch


def read_until(tmp_path: Path, kind: str, *steps: dict[str, Any]) -> tuple[dict[str, str], bool]:
    """The connector's files with their modes, and whether its configuration is there after a message.

    It is looked for while the connector runs: that waits for a file which is made afterwards.
    """
    report, go_on = tmp_path / "report.json", tmp_path / "go on"
    wait = {"after": 1, "steps": [{"wait_for": str(go_on)}]}
    users = {"name": "users", "generate": {"count": 3, "from": 1, "fields": {"id": "$i"}}, "at": [wait]}
    scenario = {"streams": [users], "read": {"steps": [{"report": str(report)}, *steps]}}
    with ReadProcess(scripted_launch(), scenario_config(tmp_path, scenario), configured("users")) as process:
        lines = process.lines()
        next(line for line in lines if json.loads(line)["type"] == kind)
        files = json.loads(report.read_text())["files"]
        (config,) = (path for path in files if path.endswith("config.json"))
        there = Path(config).exists()
        assert process.exit_code is None
        go_on.touch()
        assert sum(json.loads(line)["type"] == "RECORD" for line in lines) >= 2
    assert process.exit_code == 0
    return files, there


def test_configuration_is_gone_while_the_connector_reads(tmp_path: Path) -> None:
    """Only its user may read it, and with the first message about data it has been read."""
    files, there = read_until(tmp_path, "RECORD")
    assert set(files.values()) == {"0o600"}
    assert not there


def test_configuration_stays_until_data_is_told_of(tmp_path: Path) -> None:
    """Connectors log before they have read it, and read it twice; a log that quotes a message is none."""
    quote = json.dumps({"type": "LOG", "log": {"level": "INFO", "message": '{"type": "RECORD"}'}})
    stop = tmp_path / "go on"
    _, there = read_until(tmp_path, "LOG", {"line": quote}, {"wait_for": str(stop)})
    assert there
