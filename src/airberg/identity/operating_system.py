"""Who runs a command on this machine."""

from __future__ import annotations

import os
import pwd


def operator() -> str:
    """The user for audit logs: by the operating system, not by the environment, which anybody can set."""
    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container may run as a number without a name
        return f"os:{os.getuid()}"
