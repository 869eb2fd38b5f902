"""A process beside a connector that ends what the connector's own processes cannot: its container."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from airberg.sources.description import LaunchDescription

_CLOSE_WITHIN_S = 30.0


class Guard:
    """Runs the `guard` of a launch description, if it has one, from before the connector until after it.

    It is no child of the connector, nor in its process group, and acts also when we are killed: its standard
    input is then closed by the kernel.

    Args:
        launch: With the command.
        home: Of the connector process; its name is the last argument.
    """

    def __init__(self, launch: LaunchDescription, home: Path) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if launch.guard:
            self._process = subprocess.Popen(
                [*launch.guard, home.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)} | launch.env,
                cwd="/",
                start_new_session=True,
            )

    def close(self) -> None:
        """Let it act, and wait for it; one that takes too long goes on by itself."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(b"ended", timeout=_CLOSE_WITHIN_S)
