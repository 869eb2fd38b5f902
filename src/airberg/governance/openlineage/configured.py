"""Whether events are told at all. Light: a run that tells none must not load the client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from airberg.settings import Settings

FILE_NAME = "openlineage.yml"
NAMESPACE = "airberg"


def is_configured(settings: Settings, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether our settings name a place for events, or OpenLineage's own configuration does.

    Without any the client would write events to the log. `OPENLINEAGE_DISABLED` goes before everything.
    """
    if environment.get("OPENLINEAGE_DISABLED", "").lower() == "true":
        return False
    if settings.openlineage.url or environment.get("OPENLINEAGE_URL"):
        return True
    if any(name.startswith("OPENLINEAGE__TRANSPORT") for name in environment):
        return True
    given = environment.get("OPENLINEAGE_CONFIG")
    files = [Path.cwd() / FILE_NAME, Path("~/.openlineage").expanduser() / FILE_NAME]
    return any(path.is_file() for path in ([Path(given)] if given else []) + files)


def job_namespace(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The namespace of our jobs: by our settings, else by OpenLineage's variable, else `airberg`."""
    return settings.openlineage.namespace or environment.get("OPENLINEAGE_NAMESPACE") or NAMESPACE
