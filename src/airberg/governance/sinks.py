"""Which sink a deployment uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airberg.governance.files import FileSink
from airberg.governance.rest import RestSink

if TYPE_CHECKING:
    from airberg.governance.connection import Connection
    from airberg.governance.port import MetadataSink
    from airberg.settings import Settings


def open_connection(settings: Settings) -> Connection:
    """A connection to the DataHub that the settings name, to read from.

    Raises:
        ConfigurationFailed: They name none.
        Unavailable: It does not answer.
    """
    from airberg.errors import ConfigurationFailed
    from airberg.governance.connection import Connection

    datahub = settings.datahub
    if datahub.server is None:
        raise ConfigurationFailed(
            "No DataHub is configured.",
            guidance="Set AIRBERG_DATAHUB__SERVER to its metadata service.",
            code="no-datahub",
        )
    return Connection(
        datahub.server,
        token=datahub.token.get_secret_value() if datahub.token else None,
        timeout_s=datahub.timeout_s,
        retries=datahub.retries,
        max_wait_s=datahub.max_wait_s,
        openapi=datahub.transport == "openapi",
    )


def open_sink(settings: Settings) -> MetadataSink:
    """DataHub when the settings name a server, else files below `settings.metadata_dir`."""
    datahub = settings.datahub
    if datahub.server is None:
        return FileSink(settings.metadata_dir)
    token = datahub.token.get_secret_value() if datahub.token else None
    return RestSink(
        datahub.server,
        token=token,
        timeout_s=datahub.timeout_s,
        retries=datahub.retries,
        max_wait_s=datahub.max_wait_s,
        patch_mode=datahub.patch_mode,
        transport=datahub.transport,
        batch_size=datahub.batch_size,
    )
