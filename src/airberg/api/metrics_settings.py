"""The settings of what the service tells those who watch it; part of `airberg.settings.Settings`."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class MetricsSettings(BaseModel):
    """`/metrics`, for Prometheus. Who may read it: [observe the service](../how-to/observe.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr | None = Field(
        None, description="Bearer token of the scraper; administrators with `ingest:read` may read it too."
    )
    allow_from: tuple[str, ...] = Field(
        (),
        description='Networks that need no token: `["10.1.0.0/16"]`. With a proxy on this machine, everybody '
        "comes from loopback unless `limits.trusted_proxies` names it.",
    )
    max_series: Annotated[int, Field(ge=0)] = Field(
        1_000, description="Jobs, and tables, that get metrics of their own; 0: none does."
    )
    holds_s: Annotated[float, Field(ge=0)] = Field(
        15.0, description="Seconds for which what was read from the job store is shown again."
    )

    @field_validator("allow_from")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    def allows(self, address: str) -> bool:
        """Whether this address needs no token."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in ip_network(network) for network in self.allow_from)
