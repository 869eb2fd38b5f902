"""A POST of JSON to the address that a connection of Airflow holds. No Airflow in here."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from airberg_airflow.opener import opener_for

TIMEOUT_S = 10.0
"""Airflow's dag-processor waits meanwhile."""
TRIES = 2
CONNECTION_TYPE = "http"
_OF_THE_HOOK = frozenset(
    {
        *("timeout", "allow_redirects", "proxies", "proxy", "verify", "stream", "cert", "max_redirects"),
        *("trust_env", "check_response", "auth_type", "auth_kwargs"),
    }
)
"""What the extra of such a connection may hold beside headers (Airflow's `HttpHook`)."""


class HttpConnection(Protocol):
    """What is read of a connection; `airflow.sdk.Connection` has it."""

    conn_type: str
    host: str | None
    schema: str | None
    port: int | None
    login: str | None
    password: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """Its extra, as JSON."""
        ...


class WebhookError(Exception):
    """The webhook was not told. The text names no address, as there may be a secret in it."""


class Target(NamedTuple):
    """Where to post to, and with which headers."""

    url: str
    headers: dict[str, str]


def target(connection: HttpConnection) -> Target:
    """The address of a connection of type HTTP, put together as Airflow's `HttpHook` does.

    Raises:
        WebhookError: It is of another type (its password is for something else), or has no address.
    """
    if connection.conn_type != CONNECTION_TYPE:
        raise WebhookError(f"the connection is of type {connection.conn_type}, and has to be of type HTTP")
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    try:
        parts = urllib.parse.urlsplit(host)
        port = parts.port or connection.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise WebhookError("the connection has no address that begins with http:// or https://")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = f"{name}:{port}" if port else name
    headers = {
        key: value
        for key, value in connection.extra_dejson.items()
        if key not in _OF_THE_HOOK and isinstance(value, str)
    }
    if connection.login:
        pair = f"{connection.login}:{connection.password or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Target(parts._replace(netloc=netloc, path=parts.path or "/", fragment="").geturl(), headers)


def post(to: Target, body: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> None:
    """Post a body, a second time when there was no answer or one of 5xx.

    Raises:
        WebhookError: It was not taken.
    """
    headers = to.headers | {"Content-Type": "application/json", "User-Agent": "airberg"}
    why = ""
    for _ in range(TRIES):
        try:
            request = urllib.request.Request(  # noqa: S310 - `target` has looked at the scheme
                to.url, data=json.dumps(body).encode(), headers=headers, method="POST"
            )
            with opener_for(to.url).open(request, timeout=timeout_s):
                return
        except urllib.error.HTTPError as e:
            why = f"it answered {e.code}"
            e.close()
            if e.code < 500:
                break
        except (OSError, http.client.HTTPException) as e:
            reason = e.reason if isinstance(e, urllib.error.URLError) else e
            why = f"it does not answer ({type(reason).__name__})"
        except ValueError:
            raise WebhookError("the connection has headers that cannot be sent") from None
    raise WebhookError(why)
