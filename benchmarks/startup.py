"""Where the time goes before the connector of a sync is started.

    python -m benchmarks.startup

is the child: it does what `airberg sync` does up to its first look at a job, and prints the milliseconds of
each step. `AIRBERG_HOME` names the deployment.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

SLOWEST = 12
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")


def slowest_imports(python: str, cwd: Path, environment: dict[str, str]) -> dict[str, float]:
    """Milliseconds of the packages whose import takes longest, with what they import, by `-X importtime`."""
    argv = [python, "-X", "importtime", "-c", "import airberg.cli.app, airberg.cli.tasks"]
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    total: dict[str, int] = {}
    for match in _IMPORTED.finditer(done.stderr):
        name = match[4]
        if name.count(".") <= 1:
            total[name] = max(total.get(name, 0), int(match[2]))
    ranked = sorted(total.items(), key=lambda item: -item[1])[:SLOWEST]
    return {name: round(micros / 1000, 1) for name, micros in ranked}


def steps(python: str, cwd: Path, environment: dict[str, str]) -> dict[str, float]:
    """Milliseconds of each step, in a process of its own."""
    started = time.time()
    argv = [python, "-m", "benchmarks.startup", repr(started)]
    root = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(argv, cwd=cwd, env=environment | root, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Do the steps and print what each took."""
    marks = [("interpreter", time.time())]

    def mark(name: str) -> None:
        marks.append((name, time.time()))

    from airberg.settings import load_settings

    settings = load_settings()
    mark("settings")
    import airberg.cli.tasks  # noqa: F401 - all that a sync imports
    from airberg.jobs.open import open_store
    from airberg.keys.open import open_keys
    from airberg.lake.catalog import open_catalog

    mark("imports")
    store = open_store(settings)
    mark("job store and master key")
    open_keys(settings)
    mark("keys")
    open_catalog(settings)
    mark("catalog")
    store.close()
    began = float(sys.argv[1])
    found = {}
    for name, at in marks:
        found[name] = round((at - began) * 1000, 1)
        began = at
    print(json.dumps(found))


if __name__ == "__main__":
    main()
