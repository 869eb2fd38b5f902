"""What connectors read from: their platform, and names in their public configuration. No DataHub in here."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLATFORMS = {
    "azure-blob-storage": "abs",
    "google-cloud-storage": "gcs",
    "mongo": "mongodb",
    "postgresql": "postgres",
    "sap-hana": "hana",
    "sql-server": "mssql",
    "sqlserver": "mssql",
    "synapse": "mssql",
}
"""Connectors that DataHub's own Airbyte source calls otherwise; all others keep their names."""


def source_platform(source_name: str) -> str:
    """DataHub's platform of a connector: `source-mongodb-v2` is `mongodb`, an unknown one itself."""
    name = re.sub(r"-v\d+$", "", source_name.removeprefix("source-").lower())
    return _PLATFORMS.get(name, re.sub(r"[^a-z0-9.-]", "-", name))


def first_text(config: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    """The first of these settings that is a plain name; a masked value is not one."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, str) and re.fullmatch(r"[\w.$ -]+", value.strip()):
            return value.strip()
    return None
