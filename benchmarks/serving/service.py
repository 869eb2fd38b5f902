"""The service of the benchmark: everything as `airberg serve` has it, but for Airflow.

    python -m benchmarks.serving.service

Flows are registered with the twin in memory: what is measured is our side of a POST. The settings come from
the environment, as ever.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from airberg.cli.serve import real_parts, serve_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.settings import load_settings


def main() -> int:
    """Serve until told to stop."""
    settings = load_settings()
    serve_app(replace(real_parts(settings), orchestrator=MemoryOrchestrator()), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
