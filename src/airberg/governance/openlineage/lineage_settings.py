"""The settings of OpenLineage; part of `airberg.settings.Settings`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class OpenLineageSettings(BaseModel):
    """Where runs tell their lineage, as OpenLineage events.

    Without `url`, OpenLineage's own configuration decides (`OPENLINEAGE_URL`, `OPENLINEAGE__TRANSPORT...`,
    `openlineage.yml`). Without any, nothing is told.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(None, description="Address of a service that takes events over HTTP.")
    endpoint: str = Field("api/v1/lineage", description="Path of the service that takes them.")
    api_key: SecretStr | None = Field(None, description="Sent as bearer token, if the service wants one.")
    namespace: str | None = Field(
        None, description="Namespace of our jobs; default `OPENLINEAGE_NAMESPACE`, else `airberg`."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds that a run waits at its end for events on their way."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]", value):
            raise ValueError("it has to begin with http:// or https://")
        return value
