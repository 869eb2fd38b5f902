"""How this package asks over HTTP: no redirect is followed, and no proxy stands before loopback.

No Airflow in here.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request
from typing import Any


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the headers, with tokens in them, to whatever host it names."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401 - the base's signature
        return None


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """An opener for requests to this address. Loopback has no proxy, whatever the environment says."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
