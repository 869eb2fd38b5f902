"""A connector whose check tells what it can reach: by the usual library, and past every proxy."""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from typing import Any


def by_library(url: str) -> str:
    """What a library that reads the variables of proxies gets: a status, or the kind of failure."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - what the test says
            return f"{answer.status} {answer.read(100).decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code}"
    except OSError as error:
        return type(error).__name__


def directly(host: str, port: int) -> str:
    """Whether a plain connection can be made."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def main() -> None:
    """Answer a check."""
    config: dict[str, Any] = json.load(open(sys.argv[sys.argv.index("--config") + 1]))  # noqa: PTH123, SIM115
    found = {
        "library": [by_library(url) for url in config.get("addresses", [])],
        "directly": [directly(*place) for place in config.get("places", [])],
    }
    status = {"status": "SUCCEEDED", "message": json.dumps(found)}
    print(json.dumps({"type": "CONNECTION_STATUS", "connectionStatus": status}))


if __name__ == "__main__":
    main()
