"""What is installed in Airflow's environment uses Airflow's public names and the standard library only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import airberg_airflow

PUBLIC = ("airflow.sdk", "airflow.dag_processing.bundles.base")
"""Airflow's SDK, and the class that its documentation tells to make bundles from."""
ELSEWHERE = {
    "airflow_versions": {"airflow.exceptions", "airflow.timetables.trigger"},
    "lineage": {"airflow.providers.openlineage.plugins.macros"},
    "notices": {
        "airflow.providers.slack.notifications.slack",
        "airflow.providers.slack.notifications.slack_webhook",
        "airflow.providers.smtp.notifications.smtp",
    },
    "pod_command": {
        "airflow.providers.cncf.kubernetes.callbacks",
        "airflow.providers.cncf.kubernetes.operators.pod",
        "airflow.providers.cncf.kubernetes.pod_generator",
        "kubernetes.client",
    },
    "pod_deferral": {"kubernetes.client", "urllib3.exceptions"},
    "pod_trigger": {"airflow.providers.cncf.kubernetes.triggers.pod", "airflow.triggers.base"},
    "pods": {"airflow.providers.cncf.kubernetes.pod_generator"},
}
"""By module: where older versions have those names, and providers that are asked for when they are needed."""


def imported(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            found.add(node.module)
    return found


def test_imports_are_public() -> None:
    """Each name of Airflow's comes from where it is promised to stay."""
    assert airberg_airflow.__file__ is not None
    files = sorted(Path(airberg_airflow.__file__).parent.glob("*.py"))
    assert len(files) > 10
    used: dict[str, set[str]] = {}
    for path in files:
        for name in imported(path):
            root = name.split(".")[0]
            if root in sys.stdlib_module_names or root == "airberg_airflow":
                continue
            if not any(name == public or name.startswith(public + ".") for public in PUBLIC):
                used.setdefault(path.stem, set()).add(name)
    assert used == ELSEWHERE
