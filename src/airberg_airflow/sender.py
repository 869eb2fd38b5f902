"""What the bundle says of itself when it asks for flows, for `airberg airflow doctor`. No Airflow in here."""

from __future__ import annotations

import email.utils
import platform
import re
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from airberg_airflow import __version__

AIRFLOW_PACKAGES = ("apache-airflow-core", "apache-airflow")
_NOT_IN_A_TOKEN = re.compile(r"[^A-Za-z0-9.+_~-]")


def sender_headers() -> Mapping[str, str]:
    """`User-Agent` with versions and the host's name as products, `Date` with the host's clock (RFC 9110)."""
    products = {
        "airberg-airflow": __version__,
        "airflow": _airflow_version(),
        "python": platform.python_version(),
        "host": socket.gethostname(),
    }
    return {
        "User-Agent": " ".join(f"{name}/{_token(value)}" for name, value in products.items()),
        "Date": email.utils.formatdate(usegmt=True),
    }


def _token(text: str) -> str:
    return _NOT_IN_A_TOKEN.sub("_", text)[:64] or "unknown"


def _airflow_version() -> str:
    for name in AIRFLOW_PACKAGES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
