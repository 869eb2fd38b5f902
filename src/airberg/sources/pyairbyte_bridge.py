"""Runs inside PyAirbyte's own environment: how PyAirbyte starts a connector.

Not imported by Airberg, but started by path with that environment's interpreter by
`airberg.sources.installer`.
The only argument is a JSON object: name, executable, answer (file to write: argv, or error).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(request: dict[str, str]) -> int:
    """Ask PyAirbyte about an executable. Returns the exit code."""
    try:
        answer = _ask(request)
    except Exception as error:  # noqa: BLE001 - whatever PyAirbyte raises becomes the reason that is shown
        answer = {"error": _reason(error)}
    Path(request["answer"]).write_text(json.dumps(answer))
    return int("error" in answer)


def _ask(request: dict[str, str]) -> dict[str, Any]:
    import airbyte

    source = airbyte.get_source(request["name"], local_executable=Path(request["executable"]))
    # PyAirbyte has no public name for the command line of an executor.
    return {"argv": source.executor.map_cli_args(list(source.executor._cli))}


def _reason(error: BaseException) -> str:
    reason = ""
    cause: BaseException | None = error
    while cause is not None and not reason:
        reason = str(getattr(cause, "log_text", None) or "")
        cause = cause.__cause__
    return str(reason or getattr(error, "message", None) or str(error) or type(error).__name__)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
