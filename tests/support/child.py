"""A process that answers questions of a test: pickles go in and out, an answer that is a text is an error."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast


class Child:
    """The process; it says "ready" first. Its standard error goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._answer()

    def ask(self, question: Any) -> Any:
        """The answer to a question.

        Raises:
            RuntimeError: The answer is an error.
        """
        sink = cast("IO[bytes]", self._process.stdin)
        sink.write(pickle.dumps(question))
        sink.flush()
        answer = self._answer()
        if isinstance(answer, str):
            raise RuntimeError(f"{question}\n{answer}")
        return answer

    def _answer(self) -> Any:
        try:
            return pickle.load(cast("IO[bytes]", self._process.stdout))  # noqa: S301 - from our own child
        except EOFError:
            raise RuntimeError(f"it ended: {self._log.read_text()[-4000:]}") from None


@contextmanager
def running_child(
    command: Sequence[str | Path], folder: Path, log: Path, environment: Mapping[str, str]
) -> Iterator[Child]:
    """A process in `folder`, in UTC, until the end of the block.

    Args:
        command: What to run.
        folder: Where it runs.
        log: File for its standard error.
        environment: More variables.
    """
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "TZ": "UTC", **environment},
            cwd=folder,
        )
    try:
        yield Child(process, log)
    finally:
        cast("IO[bytes]", process.stdin).close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        cast("IO[bytes]", process.stdout).close()
