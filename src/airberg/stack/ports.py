"""The ports that the stack needs: free, or taken by whom."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import psutil

from airberg.errors import ConfigurationFailed
from airberg.settings import Settings


def check_ports(settings: Settings) -> None:
    """See whether every port can be listened on.

    Raises:
        ConfigurationFailed: One is taken (code `port-taken`), or the address is not one of this machine.
    """
    wanted = [("The API's", settings.api.host, settings.api.port, "API")]
    if settings.airflow.embedded:
        wanted.append(("Airflow's", settings.airflow.host, settings.airflow.port, "AIRFLOW"))
    if len({(host, port) for _, host, port, _ in wanted}) < len(wanted):
        raise ConfigurationFailed(
            f"The API and Airflow cannot both have port {settings.api.port}.",
            guidance="Set AIRBERG_AIRFLOW__PORT to another one.",
            code="port-taken",
        )
    for whose, host, port, group in wanted:
        problem = _listen_problem(host, port)
        if problem == errno.EADDRINUSE:
            raise ConfigurationFailed(
                f"{whose} port {port} is taken{holder_of(port)}.",
                guidance=f"End that program, or set AIRBERG_{group}__PORT to a free port.",
                code="port-taken",
            )
        if problem is not None:
            raise ConfigurationFailed(
                f"{whose} address {host}:{port} cannot be listened on ({os.strerror(problem)}).",
                guidance=f"Set AIRBERG_{group}__HOST to an address of this machine.",
                code="address-not-usable",
            )


def holder_of(port: int) -> str:
    """` by NAME (process N)` for the process that listens on a port, or nothing when we may not see it."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or tuple(connection.laddr)[1:2] != (port,):
                continue
            if connection.pid is not None:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def _listen_problem(host: str, port: int) -> int | None:
    """The error number of listening there, or None."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do it: connections of an earlier server that are still winding down do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as e:
        return e.errno
    return None
