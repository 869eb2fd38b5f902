"""The DAG bundle that Airflow loads flows from.

Configured in Airflow with::

    [dag_processor]
    dag_bundle_config_list = [{"name": "airberg",
      "classpath": "airberg_airflow.bundle.AirbergDagBundle",
      "kwargs": {"url": "http://127.0.0.1:8000", "refresh_interval": 60}}]
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

from airberg_airflow.airflow_versions import AirflowException
from airberg_airflow.flow_files import FeedError, FlowFiles

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "AIRBERG_AIRFLOW__BUNDLE_TOKEN"  # noqa: S105 - a variable's name


class AirbergDagBundle(BaseDagBundle):
    """Flows of Airberg's jobs, pulled from its API; no shared file system is needed.

    Args:
        url: Address of Airberg's API.
        token_variable: Environment variable that holds the machine token.
        **kwargs: What every bundle takes (`name`, `refresh_interval`).
    """

    supports_versioning = False

    def __init__(self, *, url: str, token_variable: str = TOKEN_VARIABLE, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self._files = FlowFiles(self.path, url, os.environ.get(token_variable, ""))

    @property
    def path(self) -> Path:
        """Folder of the flow files."""
        return Path(self.base_dir) / "dags"

    def get_current_version(self) -> None:
        """Flows have no versions of their own: a run uses the newest."""
        return

    def initialize(self) -> None:
        """Called when the dag-processor starts, and on a worker before every task.

        Raises:
            AirflowException: The API is away and there is no copy from earlier. Of another kind it would end
                the dag-processor of Airflow 3.1 and 3.2, which goes on without the bundle after this one.
        """
        with self.lock():
            try:
                self._files.pull()
            except FeedError as e:
                if not self._files.present:
                    raise AirflowException(str(e)) from None
                log.warning("Airberg's API is away, the flows stay as they are: %s", e)
        super().initialize()

    def refresh(self) -> None:
        """Called every `refresh_interval`, and at once when a file of the bundle is to be parsed again."""
        with self.lock():
            try:
                if not self._files.pull():
                    self._files.touch_fresh()
            except FeedError as e:
                log.warning("Airberg's API is away, the flows stay as they are: %s", e)
