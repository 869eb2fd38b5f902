"""Clients of services of the deployment, as key-encryption keys and secret stores use them.

Their libraries are extras of the package and are loaded when a client is made. Time-outs and attempts are
always set, and no client logs what it sends.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any, Final

_CONNECT_TIMEOUT_S = 5.0
_RETRIED: Final = (412, 429, 500, 502, 503, 504)
"""Not yet replicated, over a quota, failed by itself, sealed or in standby (Vault's HTTP status codes)."""


def installed(module: str) -> bool:
    """Whether a library is there, without loading it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def silence(*loggers: str) -> None:
    """Keep a client library from logging below INFO: at DEBUG it logs requests, and with them data keys."""
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)


def aws_client(
    service: str,
    *,
    profile: str | None,
    region: str | None,
    endpoint: str | None,
    timeout_s: float,
    attempts: int,
) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """A client of an AWS service.

    Args:
        service: As boto3 calls it.
        profile: Of the AWS configuration; None for the default.
        region: None for that of the environment or profile.
        endpoint: None for AWS's own.
        timeout_s: Seconds for one answer.
        attempts: How often a request is sent.
    """
    import boto3
    from botocore.config import Config

    silence("boto3", "botocore", "urllib3")
    session = boto3.session.Session(profile_name=profile, region_name=region)
    config = Config(
        connect_timeout=min(_CONNECT_TIMEOUT_S, timeout_s),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    return session.client(service, endpoint_url=endpoint, config=config)


def vault_client(
    url: str, *, token: str | None, namespace: str | None, timeout_s: float, attempts: int
) -> Any:  # noqa: ANN401 - hvac has no types
    """A client of Vault or OpenBao.

    Args:
        url: Its address.
        token: None lets hvac look for one (`VAULT_TOKEN`, ~/.vault-token), an empty one does not.
        namespace: None for the root.
        timeout_s: Seconds for one answer.
        attempts: How often a request is sent; only what may be done twice may be asked.
    """
    import hvac
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    silence("hvac", "urllib3")
    client = hvac.Client(url=url, token=token, namespace=namespace, timeout=timeout_s)
    retry = Retry(
        total=attempts - 1,
        backoff_factor=0.2,
        status_forcelist=_RETRIED,
        allowed_methods=None,  # all: encrypting, decrypting and reading twice do no harm
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    for scheme in list(client.session.adapters):
        del client.session.adapters[scheme]  # so that no redirect leads away from TLS
    scheme = "http://" if url.startswith("http://") else "https://"
    client.session.mount(scheme, HTTPAdapter(max_retries=retry))
    return client
