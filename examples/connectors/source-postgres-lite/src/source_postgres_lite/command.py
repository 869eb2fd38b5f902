"""The command line that the Airbyte protocol asks for."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from source_postgres_lite.configuration import SPEC, Configuration
from source_postgres_lite.connecting import connected
from source_postgres_lite.messages import Messages, SourceFailed
from source_postgres_lite.reading import read
from source_postgres_lite.tables import Table, readable_tables


def main(argv: list[str] | None = None, out: BinaryIO | None = None) -> int:
    """Run one verb.

    Args:
        argv: The verb and its options; those of the process unless given.
        out: Where to; standard output unless given.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    messages = Messages(out or sys.stdout.buffer)
    try:
        _run(arguments, messages)
    except SourceFailed as error:
        messages.failed(error)
        return 1
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - a fault of ours is told like any other
        name = type(error).__name__
        # Where it happened, without its message: that could have values of the configuration in it.
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)) + name + "\n")
        messages.failed(SourceFailed(f"The connector is at fault: {name}.", "system_error"))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="source-postgres-lite", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("spec")
    for name in ("check", "discover", "read"):
        verb = verbs.add_parser(name)
        verb.add_argument("--config", type=Path, required=True)
        if name == "read":
            verb.add_argument("--catalog", type=Path, required=True)
            verb.add_argument("--state", type=Path)
    return parser


def _run(arguments: argparse.Namespace, messages: Messages) -> None:
    if arguments.verb == "spec":
        messages.say("SPEC", spec={"connectionSpecification": SPEC, "supportsIncremental": True})
        return
    config_text = _json(arguments.config)
    if arguments.verb == "check":
        messages.say("CONNECTION_STATUS", connectionStatus=_checked(config_text))
        return
    config = Configuration.of(config_text)
    if arguments.verb == "discover":
        streams = [table.stream(config.cursor_columns) for table in _tables(config)]
        messages.say("CATALOG", catalog={"streams": streams})
        return
    states = _json(arguments.state) if arguments.state else []
    if not isinstance(states, list):
        raise SourceFailed("The state is not a list of the states of streams.", "config_error")
    read(config, _json(arguments.catalog), states, messages)


def _checked(values: object) -> dict[str, str]:
    try:
        config = Configuration.of(values)
        if _tables(config):
            return {"status": "SUCCEEDED"}
    except SourceFailed as error:
        return {"status": "FAILED", "message": str(error)}
    where = ", ".join(config.schemas)
    return {
        "status": "FAILED",
        "message": f"{config.username} may read no table in {where}: grant USAGE and SELECT.",
    }


def _tables(config: Configuration) -> list[Table]:
    with connected(config) as connection:
        return readable_tables(connection, config.schemas)


def _json(file: Path) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise SourceFailed(f"{file.name} cannot be read: {reason}.", "config_error") from None
