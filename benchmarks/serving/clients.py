"""Clients that ask without pause, over connections that stay open; times of every answer.

    python -m benchmarks.serving.clients HOST PORT CLIENTS SECONDS < requests.json

A process of its own with a loop of its own, so that the service has its core for itself. Standard input has
`{"kind": ..., "tokens": [...]}`; the result is one JSON object on standard output. Our own few lines of
HTTP/1.1: a client library costs more than the service that is measured.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

BODY: dict[str, Any] = {
    "source_name": "source-faker",
    "source_config": {"count": 10},
    "schema_name": "bench",
    "mode": "append",
    "schedule": "@daily",
}


def get_jobs(token: str) -> bytes:
    """A request for the newest hundred jobs of a caller."""
    return _request("GET", "/api/jobs", token, b"")


def post_job(token: str) -> bytes:
    """A request for a new job that is taken without asking its source."""
    body = json.dumps(BODY | {"name": f"posted {uuid.uuid4()}"}).encode()
    return _request("POST", "/api/airbyte/ingest?preflight=skip", token, body)


KINDS: dict[str, Callable[[str], bytes]] = {"get_jobs": get_jobs, "post_job": post_job}


def _request(method: str, path: str, token: str, body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: service",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Tally:
    """Times of answers in milliseconds, and how many there were of each status."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.bytes = 0


async def one_client(address: tuple[str, int], make: Callable[[], bytes], tally: Tally, until: float) -> None:
    """Ask again as soon as the answer is there."""
    reader, writer = await asyncio.open_connection(*address)
    while time.perf_counter() < until:
        request = make()
        begun = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        tally.times.append((time.perf_counter() - begun) * 1000)
        tally.statuses[int(head[9:12])] += 1
        tally.bytes += length
    writer.close()
    await writer.wait_closed()


async def ask(
    address: tuple[str, int], make: Callable[[str], bytes], tokens: list[str], clients: int, seconds: float
) -> dict[str, Any]:
    """Let all clients ask for some seconds."""
    tally = Tally()
    begun = time.perf_counter()
    until = begun + seconds
    turns = [functools.partial(make, tokens[n % len(tokens)]) for n in range(clients)]
    await asyncio.gather(*(one_client(address, turn, tally, until) for turn in turns))
    return summary(tally, time.perf_counter() - begun)


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    """Rate, median and the 99th percentile of the times."""
    times = sorted(tally.times)
    return {
        "answers": len(times),
        "per_s": round(len(times) / seconds, 1),
        "p50_ms": round(times[len(times) // 2], 2),
        "p99_ms": round(times[min(len(times) - 1, len(times) * 99 // 100)], 2),
        "worst_ms": round(times[-1], 2),
        "kb_per_answer": round(tally.bytes / len(times) / 1000, 2),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
    }


def main() -> int:
    """Run as the command line says."""
    host, port, clients, seconds = sys.argv[1:]
    given = json.load(sys.stdin)
    make = KINDS[given["kind"]]
    result = asyncio.run(ask((host, int(port)), make, given["tokens"], int(clients), float(seconds)))
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
