"""What one connector process may use, and the errors of one that used more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airberg.errors import RunError, TransientFailed
from airberg.sources.hosts import HostRules

if TYPE_CHECKING:
    from airberg.settings import SourceSettings

GIB = 1024**3
LIMIT_CODES = frozenset({"connector-memory", "connector-disk", "connector-processes", "connector-log"})
"""Codes of errors that no other configuration cures, but another limit."""
_SETTING = "AIRBERG_SOURCES__"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one connector process with all that it starts. 0 is no limit.

    Attributes:
        memory_bytes: Resident memory of all its processes together.
        disk_bytes: Its home and temporary files together, and each file that it writes.
        open_files: Open files and sockets, of each process.
        processes: How many processes it may have at once.
        log_bytes: What it may write beside its answer or its data.
        allowed_hosts: Rules of `airberg.sources.hosts`; None: it may reach all.
        network_namespace: Whether it has a network of its own, with the proxy as its only way out.
    """

    memory_bytes: int = 4 * GIB
    disk_bytes: int = 20 * GIB
    open_files: int = 4096
    processes: int = 256
    log_bytes: int = 1 * GIB
    allowed_hosts: tuple[str, ...] | None = None
    network_namespace: bool = False

    @property
    def host_rules(self) -> HostRules | None:
        """The rules about hosts, if there are any."""
        return None if self.allowed_hosts is None else HostRules(self.allowed_hosts)

    def exceeded(self, name: str) -> RunError:
        """The error of a connector that the shim has ended for `memory`, `disk` or `processes`."""
        return {"memory": self._memory, "disk": self._disk}.get(name, self._processes)()

    def _memory(self) -> RunError:
        return TransientFailed(
            f"The connector used more than {_size(self.memory_bytes)} of memory and was ended.",
            guidance=f"Read less at once, or raise {_SETTING}MAX_MEMORY_BYTES.",
            code="connector-memory",
        )

    def _disk(self) -> RunError:
        return TransientFailed(
            f"The connector's temporary files took more than {_size(self.disk_bytes)}, so it was ended.",
            guidance=f"Read less at once, or raise {_SETTING}MAX_DISK_BYTES.",
            code="connector-disk",
        )

    def _processes(self) -> RunError:
        return TransientFailed(
            f"The connector started more than {self.processes} processes and was ended.",
            guidance=f"Let it work on less at once, or raise {_SETTING}MAX_PROCESSES.",
            code="connector-processes",
        )

    def too_much_log(self) -> RunError:
        """The error of a connector that writes more than `log_bytes`."""
        return TransientFailed(
            f"The connector wrote more than {_size(self.log_bytes)} of log lines and was ended.",
            guidance=f"Set its log level higher, or raise {_SETTING}MAX_LOG_BYTES.",
            code="connector-log",
        )


def limits_of(settings: SourceSettings) -> Limits:
    """The limits of a deployment."""
    return Limits(
        memory_bytes=settings.max_memory_bytes,
        disk_bytes=settings.max_disk_bytes,
        open_files=settings.max_open_files,
        processes=settings.max_processes,
        log_bytes=settings.max_log_bytes,
        allowed_hosts=settings.allowed_hosts,
        network_namespace=settings.network_namespace,
    )


def _size(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
