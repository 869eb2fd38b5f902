"""The ids that OpenLineage has of a task and of its flow's run, where Airflow's provider tells of them.

The provider (`apache-airflow-providers-openlineage`) is Airflow's own and optional. Its macros are what it
offers to those who start other programs; their names are those of its documentation.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

PARENT = "OPENLINEAGE_PARENT_ID"
ROOT_PARENT = "OPENLINEAGE_ROOT_PARENT_ID"
"""The variables that other programs (dbt's integration) look at too: `<namespace>/<name>/<run id>`."""


def lineage_variables(task_instance: Any) -> dict[str, str]:  # noqa: ANN401 - Airflow's
    """Variables that make a command's run a child of the task's; none without the provider."""
    try:
        from airflow.providers.openlineage.plugins.macros import lineage_parent_id, lineage_root_parent_id
    except ImportError:
        return {}
    try:
        return {PARENT: lineage_parent_id(task_instance), ROOT_PARENT: lineage_root_parent_id(task_instance)}
    except Exception:  # it is about lineage: the load does not depend on it
        log.warning("OpenLineage's provider cannot name this task", exc_info=True)
        return {}
