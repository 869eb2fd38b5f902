"""Started between us and a connector, to tie the connector's life to ours; then replaced by it (exec).

Runs by path as `python -I -S shim.py PARENT_PID COMMAND…`, because the same done between fork and exec of a
process with threads (`preexec_fn`) can deadlock. Uses the standard library only and starts in about 10 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); survives execve


def main(parent: int, command: list[str]) -> None:
    """Ask to be killed when the thread that started us ends, and become the command."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
    try:
        os.execvp(command[0], command)  # noqa: S606 - the launch description's own command
    except OSError as error:
        sys.stderr.write(f"cannot start {os.path.basename(command[0])}: {error.strerror}\n")  # noqa: PTH119
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
