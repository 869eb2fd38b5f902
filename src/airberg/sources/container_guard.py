"""Removes a container when the one that started this process is done, or gone.

`python -I -S container_guard.py ENGINE NAME`, started by path, with a pipe as standard input. A container is
no child of the engine's command: it goes on when that is killed. This process is no child of the connector's
shim, and outlives whoever started it: it waits for the pipe to be closed. A word on it means that the
engine's command has ended; without one, that may not have made the container yet, and is waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

_REMOVE_WITHIN_S = 60.0
_AGAIN_AFTER_S = (0.0, 1.0, 5.0)


def main(engine: str, name: str) -> None:
    """Wait, then remove."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = os.read(0, 16)
    for pause in _AGAIN_AFTER_S[:1] if told else _AGAIN_AFTER_S:
        time.sleep(pause)
        _remove(engine, name)


def _remove(engine: str, name: str) -> None:
    try:
        subprocess.run(
            [engine, "rm", "--force", "--volumes", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_REMOVE_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # nobody is left to be told


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
