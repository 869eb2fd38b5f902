"""The settings that keep the HTTP service from abuse; part of `airberg.settings.Settings`."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[0-9]{1,5})?")


class LimitSettings(BaseModel):
    """What one client may take of the HTTP service. What a body may weigh is `api.max_body_bytes`.

    Rates are kept in the memory of the process; [running in production](../how-to/production.md) tells how
    the limits play together with a proxy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_body_members: Positive = Field(
        50_000, description="Members of objects and items of arrays in a body, all levels together."
    )
    max_headers: Positive = Field(100, description="Header lines of a request.")
    max_head_bytes: Annotated[int, Field(ge=4_096)] = Field(
        32_768, description="Address and headers of a request together; more is answered 431, or 400."
    )
    head_timeout_s: Seconds = Field(10.0, description="A connection that has not sent its headers is closed.")
    body_timeout_s: Seconds = Field(30.0, description="A body that takes longer to arrive is answered 408.")
    write_timeout_s: Seconds = Field(
        30.0, description="A connection whose client takes none of the answer for so long is closed."
    )
    request_timeout_s: Seconds = Field(
        60.0, description="A request that has no answer by then is answered 503; streams go on."
    )
    max_connections: Positive = Field(1_000, description="Connections at once; more are answered 503.")
    reads_per_minute: NotNegative = Field(
        120_000,
        description="GET requests of one caller, all at once or spread; more are answered 429; 0: no limit.",
    )
    writes_per_minute: NotNegative = Field(
        12_000, description="His other requests, but for those that ask a source; 0: no limit."
    )
    source_questions_per_minute: NotNegative = Field(
        600, description="His checks, discovers and submissions that ask the source; 0: no limit."
    )
    failed_logins_per_minute: NotNegative = Field(
        600,
        description="Credentials of one address that do not hold; then all of its requests with credentials "
        "are answered 429; 0: no limit.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        'believed: `["10.0.0.0/8"]`. Default: nobody\'s.',
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description='Origins whose pages may call the API from a browser: `["https://portal.example.com"]`. '
        "Default: none.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is scheme, host and port: https://portal.example.com")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value
