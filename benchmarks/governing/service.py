"""The double of DataHub in a process of its own, and what it has seen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.governing.tables import NAMESPACE, table_names


@dataclass
class Served:
    """A double that runs.

    Attributes:
        variables: Settings that it is reached by.
        log: File of its lines, one a request.
    """

    variables: dict[str, str]
    log: Path

    def requests(self) -> list[tuple[str, int, int]]:
        """Path, status and bytes of the body of each request that tells of something."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [
            (parts[1], int(parts[2]), int(parts[3]))
            for parts in lines
            if len(parts) == 5 and parts[0] in ("POST", "PATCH")
        ]

    def state(self, tables: int) -> str:
        """A hash of all that it knows of the tables."""
        known = hashlib.sha256()
        headers = {"Authorization": f"Bearer {self.variables['AIRBERG_DATAHUB__TOKEN']}"}
        with httpx.Client(headers=headers, trust_env=False, timeout=30) as client:
            for name in table_names(tables):
                urn = f"urn:li:dataset:(urn:li:dataPlatform:iceberg,{NAMESPACE}.{name},PROD)"
                server = self.variables["AIRBERG_DATAHUB__SERVER"]
                answer = client.get(f"{server}/openapi/v3/entity/dataset/{urn}")
                known.update(json.dumps(answer.raise_for_status().json(), sort_keys=True).encode())
        return known.hexdigest()


@contextlib.contextmanager
def served(log: Path) -> Iterator[Served]:
    """A new double."""
    argv = [sys.executable, "-u", "-m", "airberg.testing.datahub", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, env=environment) as process:
        try:
            found = Served(_settings(process, log), log)
            yield found
        finally:
            process.terminate()


def _settings(process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    """The two lines that it prints once it listens."""
    while True:
        lines = log.read_text().splitlines()
        if len(lines) >= 2:
            return dict(line.split("=", 1) for line in lines[:2])
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise RuntimeError(f"the double ended with {process.wait(0.02)}")
