"""A worker process that gives no answer."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.pause()
