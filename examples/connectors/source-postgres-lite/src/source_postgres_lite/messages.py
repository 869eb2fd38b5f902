"""The messages of the Airbyte protocol that a source writes: one JSON object a line, on standard output."""

from __future__ import annotations

import json
import time
from typing import Any, BinaryIO, Literal

Status = Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]
FailureType = Literal["config_error", "transient_error", "system_error"]


class SourceFailed(Exception):
    """Reading cannot go on.

    Args:
        message: For people; without secrets.
        failure_type: `config_error` is not tried again by a platform, `transient_error` is.
        detail: For who looks for the cause.
    """

    def __init__(self, message: str, failure_type: FailureType, detail: str = "") -> None:
        super().__init__(message)
        self.failure_type: FailureType = failure_type
        self.detail = detail


class Messages:
    """Writes messages.

    Args:
        out: Where to; buffered, and flushed with each message that is not a record.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def say(self, kind: str, **body: object) -> None:
        """Any message, at once."""
        text = json.dumps({"type": kind, **body}, ensure_ascii=False, separators=(",", ":"))
        self._out.write(text.encode() + b"\n")
        self._out.flush()

    def log(self, message: str, level: str = "INFO") -> None:
        """A line for the platform's log."""
        self.say("LOG", log={"level": level, "message": message})

    def records(self, namespace: str, name: str, rows: list[str]) -> None:
        """Records of one stream, whose data is JSON already."""
        stream = {"namespace": namespace, "stream": name, "emitted_at": time.time_ns() // 1_000_000}
        start = json.dumps(stream, ensure_ascii=False, separators=(",", ":"))[:-1]
        head = f'{{"type":"RECORD","record":{start},"data":'
        self._out.write("".join([f"{head}{row}}}}}\n" for row in rows]).encode())

    def state(self, namespace: str, name: str, state: dict[str, Any], records: int) -> None:
        """How far a stream is.

        Args:
            namespace: The schema of the table.
            name: The table.
            state: What the next `read` gets back as it is.
            records: How many records the state covers that the one before did not.
        """
        descriptor = {"name": name, "namespace": namespace}
        body = {"stream_descriptor": descriptor, "stream_state": state}
        stats = {"recordCount": records}
        self.say("STATE", state={"type": "STREAM", "stream": body, "sourceStats": stats})

    def status(self, namespace: str, name: str, status: Status) -> None:
        """A stream began, goes on, is complete or was broken off."""
        descriptor = {"name": name, "namespace": namespace}
        self._trace("STREAM_STATUS", stream_status={"stream_descriptor": descriptor, "status": status})

    def failed(self, error: SourceFailed) -> None:
        """Why the read ends."""
        body = {"message": str(error), "failure_type": error.failure_type, "internal_message": error.detail}
        self._trace("ERROR", error=body)

    def _trace(self, kind: str, **body: object) -> None:
        self.say("TRACE", trace={"type": kind, "emitted_at": time.time_ns() // 1_000_000, **body})
