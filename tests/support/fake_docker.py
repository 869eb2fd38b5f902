#!/usr/bin/env python3
"""The command of `FakeEngine`: takes what we use of `docker`, and lets the engine's service do it."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
from typing import Any


def ask(message: dict[str, Any], *descriptors: int) -> dict[str, Any]:
    """The service's answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        connection.sendmsg([json.dumps(message).encode() + b"\n"], rights if descriptors else [])
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer


def main(arguments: list[str]) -> int:
    """Do one command; its exit code."""
    if arguments[0] == "run":
        name = arguments[arguments.index("--name") + 1]
        signal.signal(signal.SIGTERM, lambda *_: ask({"command": ["kill", name]}))
        code: int = ask({"command": arguments}, 1, 2)["code"]
        return code
    answer = ask({"command": arguments})
    sys.stderr.write(answer.get("error", ""))
    return int(answer["code"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
