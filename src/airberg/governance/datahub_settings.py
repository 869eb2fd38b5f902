"""The settings of DataHub; part of `airberg.settings.Settings`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class DataHubSettings(BaseModel):
    """Where metadata goes. Without `server`, change proposals are written to files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str | None = Field(None, description="Address of DataHub's metadata service (GMS).")
    token: SecretStr | None = Field(None, description="Access token, if DataHub wants one.")
    env: str = Field("PROD", description="Environment in the urns of datasets.")
    platform_instance: str | None = Field(
        None, description="Platform instance in the urns; that of DataHub's own Iceberg source, if used."
    )
    flow_cluster: str = Field(
        "prod",
        description="`cluster` of DataHub's Airflow plugin, if used: a part of the urns of flows and runs.",
    )
    flow_platform_instance: str | None = Field(
        None, description="`platform_instance` of DataHub's Airflow plugin, if used."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds that DataHub may take to answer."
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="How often a request is sent again when DataHub fails, within one attempt of the task."
    )
    max_wait_s: Annotated[float, Field(ge=0)] = Field(
        30.0,
        description="Longest wait in between; if DataHub asks for more (`Retry-After`), the task fails.",
    )
    patch_mode: Literal["auto", "patch", "upsert"] = Field(
        "auto",
        description="How tags and owners join those of people: DataHub's patches, or read, merged and "
        "written (`upsert`); `auto`: patches where DataHub knows them.",
    )
    transport: Literal["restli", "openapi"] = Field(
        "restli", description="DataHub's endpoints for metadata; `openapi` only from DataHub 1.0.1 on."
    )
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = Field(
        2_000,
        description="Most change proposals in one request, some thirteen a table; where DataHub does not "
        "take as many, requests become smaller by themselves.",
    )
    domain_policy: Literal["must-exist", "create"] = Field(
        "must-exist",
        description="A `domain` that DataHub does not have is refused, or made when its first table is "
        "registered.",
    )
    tag_policy: Literal["create", "must-exist"] = Field(
        "create", description="Tags that DataHub does not have are made, or refused."
    )
    owner_policy: Literal["any", "must-exist"] = Field(
        "any", description="`must-exist`: an owner that DataHub does not have is refused."
    )
    user_claim: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Claim of tokens that DataHub makes user ids of: `AUTH_OIDC_USER_NAME_CLAIM` there. "
        "Default: `owner_id` is the user id.",
    )
    user_claim_regex: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        "(.*)",
        description="What is taken of it, or of `owner_id`: `AUTH_OIDC_USER_NAME_CLAIM_REGEX` there. "
        "`([^@]+)` drops the domain of an address.",
    )

    @field_validator("user_claim_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _somebody_can_be_asked(self) -> DataHubSettings:
        policies = {"tag_policy": self.tag_policy, "owner_policy": self.owner_policy}
        if self.server is None and "must-exist" in policies.values():
            name = next(name for name, policy in policies.items() if policy == "must-exist")
            raise ValueError(f"{name} must-exist needs server: without DataHub there is nobody to ask")
        return self
