"""Becomes the command of a container engine that runs a connector's image for one verb.

`python -I -S container_runner.py RECIPE VERB OPTIONS…`, started by path with the connector's home as working
folder; RECIPE is a JSON object with `engine`, `image` and `options`. Uses the standard library only. The
folder of the configuration is mounted read-only as `/airberg`, the connector's home as `/tmp`: what the
connector puts aside is where the deployment wants it, and goes with that folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

_FILES = "/airberg"
_HOME = "/tmp"  # noqa: S108 - in the container


def main(recipe: dict[str, object], verb: str, options: list[str]) -> None:
    """Replace this process by the engine."""
    argv = list(command(recipe, os.getcwd(), verb, options))  # noqa: PTH109 - no import that takes time
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - the engine that the deployment has set
    except OSError as error:
        sys.exit(f"cannot start the container engine: {error.strerror}")


def command(recipe: dict[str, object], home: str, verb: str, options: list[str]) -> Iterator[str]:
    """The engine's command line; the container is called like the connector's home."""
    yield from (str(recipe["engine"]), "run", "--rm", "-i", "--init", "--name", os.path.basename(home))  # noqa: PTH119
    extra = recipe["options"]
    if isinstance(extra, list):
        yield from map(str, extra)
    yield from ("--user", f"{os.getuid()}:{os.getgid()}")
    yield from ("--volume", f"{home}:{_HOME}", "--env", f"HOME={_HOME}", "--env", f"TMPDIR={_HOME}")
    files = options[1::2]
    if files:
        yield from ("--volume", f"{os.path.dirname(files[0])}:{_FILES}:ro")  # noqa: PTH120
    yield str(recipe["image"])
    yield verb
    for flag, file in zip(options[::2], files, strict=True):
        yield from (flag, f"{_FILES}/{os.path.basename(file)}")  # noqa: PTH119


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:])
