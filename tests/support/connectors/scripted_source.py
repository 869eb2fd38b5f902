#!/usr/bin/env python3
"""A connector that plays a scenario: a fake source for tests, with real process behaviour.

Configuration: `{"scenario": "/path/scenario.json", "password": "…"}`. It speaks the Airbyte protocol with the
standard library alone. The scenario (all parts optional):

    spec      JSON schema of the configuration, instead of the default one
    check     {"status": "SUCCEEDED" | "FAILED", "message": "…", "steps": [step, …]}
    discover  {"steps": [step, …]}                    played before the catalog is written
    read      {"steps": [step, …], "end": [step, …], "global_state": bool, "in_turns": n, "at": […]}
              `steps` before the streams, `end` after them; with "streams": false only the steps are played;
              with `in_turns` the streams' records come in turns and a common state after each n of them
              (incremental streams only), and `at` counts the records of all streams
    streams   list of
        name, namespace, json_schema, primary_key, cursor   as in an AirbyteStream; a schema is inferred
        records      list of objects, or
        generate     {"count": n, "from": 0, "fields": {"id": "$i", "name": "user $i", …}}
        state_every  records between two states (default 100)
        status       false: no stream statuses
        counts       false: no sourceStats
        at           list of {"after": n, "once": "/flag", "steps": [step, …]}: played when n records of the
                     stream were written in this process; with `once` only if the file does not exist,
                     which it then does

Incremental streams (they have a `cursor`, one field) write the records whose cursor is above the state's.

Steps, each an object with one of
    emit        a message, written as it is           line       any text as one line (`partial`: without end)
    trace_error {"message", "failure_type", …}        status     {"stream", "namespace", "status"}
    control     a new configuration                   replay     a file whose lines are written as they are
    stderr      a text (with `times`)                 leak       "stdout" | "stderr" | "trace"
    sleep       seconds                               ignore_sigterm   true
    exit        code                                  kill       signal number, sent to itself
    kill_parent signal number, sent to the process that started this one
    fork        seconds: a child that sleeps, holding the pipes; its pid is appended to `pids`
    report      a file that gets {"pid", "env", "cwd", "files": {path: mode}, "config",
                "config_dir_mode", "state", "core_limit"}
    temporary   a text, written to a file in the connector's temporary folder
    touch       a file to create                      wait_for   a file to wait for (polls)
    once        a flag file, with `steps`: played only the first time
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EMITTED_AT = 1_700_000_000_000
DEFAULT_SPEC = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Scripted source",
    "type": "object",
    "required": ["scenario"],
    "additionalProperties": True,
    "properties": {
        "scenario": {"type": "string", "title": "Scenario", "description": "Path of the scenario file."},
        "password": {"type": "string", "title": "Password", "airbyte_secret": True},
    },
}


class Player:
    """Plays one verb of a scenario."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options
        self.config = self._load("config") or {}
        path = self.config.get("scenario")
        self.scenario: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
        self.state = self._load("state")
        self.common: dict[tuple[str | None, str], dict[str, Any]] = {}
        for message in self.state or []:
            for part in message.get("global", {}).get("stream_states", []):
                described = part["stream_descriptor"]
                self.common[described.get("namespace"), described["name"]] = part

    def _load(self, name: str) -> Any:
        return json.loads(Path(self.options[name]).read_text()) if name in self.options else None

    # ---- verbs ---------------------------------------------------------------------------------------------

    def spec(self) -> None:
        """Write the specification."""
        where = os.environ.get("SCRIPTED_SPEC")
        schema = json.loads(Path(where).read_text()) if where else self.scenario.get("spec", DEFAULT_SPEC)
        emit({"type": "SPEC", "spec": {"connectionSpecification": schema}})

    def check(self) -> None:
        """Write the verdict."""
        part = self.scenario.get("check", {})
        self.play(part.get("steps", []))
        status = {"status": part.get("status", "SUCCEEDED")}
        if "message" in part:
            status["message"] = part["message"]
        if part.get("answer", True):
            emit({"type": "CONNECTION_STATUS", "connectionStatus": status})

    def discover(self) -> None:
        """Write the catalog."""
        part = self.scenario.get("discover", {})
        self.play(part.get("steps", []))
        if part.get("answer", True):
            streams = [self.airbyte_stream(s) for s in self.scenario.get("streams", [])]
            emit({"type": "CATALOG", "catalog": {"streams": streams}})

    def read(self) -> None:
        """Write the steps and the streams of the configured catalog."""
        part = self.scenario.get("read", {})
        self.play(part.get("steps", []))
        if "in_turns" in part:
            self.read_in_turns(part)
        elif part.get("streams", True):
            known = {(s.get("namespace"), s["name"]): s for s in self.scenario.get("streams", [])}
            for configured in self._load("catalog")["streams"]:
                key = (configured["stream"].get("namespace"), configured["stream"]["name"])
                if key in known:
                    self.read_stream(known[key], configured["sync_mode"], part.get("global_state", False))
        self.play(part.get("end", []))

    # ---- streams -------------------------------------------------------------------------------------------

    def airbyte_stream(self, stream: dict[str, Any]) -> dict[str, Any]:
        """The stream as discovery shows it."""
        cursor = stream.get("cursor")
        described: dict[str, Any] = {
            "name": stream["name"],
            "json_schema": stream.get("json_schema") or infer_schema(records_of(stream)),
            "supported_sync_modes": ["full_refresh", *(["incremental"] if cursor else [])],
        }
        if stream.get("namespace"):
            described["namespace"] = stream["namespace"]
        if cursor:
            described |= {"source_defined_cursor": True, "default_cursor_field": [cursor]}
        if stream.get("primary_key"):
            described["source_defined_primary_key"] = stream["primary_key"]
        return described

    def read_stream(self, stream: dict[str, Any], sync_mode: str, global_state: bool) -> None:
        """Write the records of a stream that the state does not cover, with its states and statuses."""
        name, namespace = stream["name"], stream.get("namespace")
        cursor = stream.get("cursor")
        reached = self.cursor_of(name, namespace) if sync_mode == "incremental" and cursor else None
        self.status(stream, "STARTED")
        every = stream.get("state_every", 100)
        written = since = 0
        for record in records_of(stream):
            if cursor and reached is not None and record.get(cursor) <= reached:
                continue
            body = {"stream": name, "data": record, "emitted_at": EMITTED_AT + written}
            if namespace:
                body["namespace"] = namespace
            emit({"type": "RECORD", "record": body})
            written += 1
            since += 1
            if written == 1:
                self.status(stream, "RUNNING")
            if cursor:
                reached = record[cursor]
            if since == every:
                self.emit_state(stream, reached, since, global_state)
                since = 0
            for hook in stream.get("at", []):
                if hook["after"] == written:
                    self.once(hook.get("once"), hook["steps"])
        self.emit_state(stream, reached, since, global_state)
        self.status(stream, "COMPLETE")

    def read_in_turns(self, part: dict[str, Any]) -> None:
        """Write one record of each stream after the other, as a source does that follows one log."""
        asked = {c["stream"]["name"] for c in self._load("catalog")["streams"]}
        streams = [s for s in self.scenario.get("streams", []) if s["name"] in asked]
        left = {}
        for stream in streams:
            reached = self.cursor_of(stream["name"], None)
            left[stream["name"]] = iter(
                [r for r in records_of(stream) if reached is None or r[stream["cursor"]] > reached]
            )
            self.status(stream, "STARTED")
        written = since = 0
        while left:
            for stream in streams:
                record = next(left.get(stream["name"], iter(())), None)
                if record is None:
                    left.pop(stream["name"], None)
                    continue
                emit(
                    {
                        "type": "RECORD",
                        "record": {"stream": stream["name"], "data": record, "emitted_at": EMITTED_AT},
                    }
                )
                self.remember(stream, record[stream["cursor"]])
                written += 1
                since += 1
                if since == part["in_turns"]:
                    self.emit_common_state(since)
                    since = 0
                for hook in part.get("at", []):
                    if hook["after"] == written:
                        self.once(hook.get("once"), hook["steps"])
        self.emit_common_state(since)
        for stream in streams:
            self.status(stream, "COMPLETE")

    def remember(self, stream: dict[str, Any], cursor: object) -> None:
        """Keep a stream's cursor for the next common state."""
        self.common[None, stream["name"]] = {
            "stream_descriptor": {"name": stream["name"]},
            "stream_state": {"cursor": cursor},
        }

    def emit_common_state(self, count: int) -> None:
        """Write the state of all streams."""
        state = {
            "type": "GLOBAL",
            "global": {"shared_state": {"lsn": 1}, "stream_states": [*self.common.values()]},
            "sourceStats": {"recordCount": float(count)},
        }
        emit({"type": "STATE", "state": state})

    def status(self, stream: dict[str, Any], status: str) -> None:
        """Write a stream's status."""
        if stream.get("status", True):
            emit(status_message(stream["name"], stream.get("namespace"), status))

    def cursor_of(self, name: str, namespace: str | None) -> Any:
        """Where the state says that a stream was left."""
        for message in self.state or []:
            parts = [message["stream"]] if "stream" in message else message["global"]["stream_states"]
            for part in parts:
                described = part["stream_descriptor"]
                if (described.get("namespace"), described["name"]) == (namespace, name):
                    return (part.get("stream_state") or {}).get("cursor")
        return None

    def emit_state(self, stream: dict[str, Any], cursor: object, count: int, global_state: bool) -> None:
        """Write a state with the stream's cursor."""
        described = {"name": stream["name"]}
        if stream.get("namespace"):
            described["namespace"] = stream["namespace"]
        part = {"stream_descriptor": described, "stream_state": {"cursor": cursor} if cursor else {}}
        state: dict[str, Any] = {"type": "STREAM", "stream": part}
        if global_state:
            self.common[stream.get("namespace"), stream["name"]] = part
            state = {
                "type": "GLOBAL",
                "global": {"shared_state": {"lsn": 1}, "stream_states": [*self.common.values()]},
            }
        if stream.get("counts", True):
            state["sourceStats"] = {"recordCount": float(count)}
        emit({"type": "STATE", "state": state})

    # ---- steps ---------------------------------------------------------------------------------------------

    def once(self, flag: str | None, steps: list[dict[str, Any]]) -> None:
        """Play the steps unless the flag file says that they were played before."""
        if flag is not None:
            if Path(flag).exists():
                return
            Path(flag).touch()
        self.play(steps)

    def play(self, steps: list[dict[str, Any]]) -> None:
        """Play the steps in order."""
        for step in steps:
            self.step(step)

    def step(self, step: dict[str, Any]) -> None:
        """Play one step."""
        match step:
            case {"emit": message}:
                emit(message)
            case {"line": text}:
                write(text + ("" if step.get("partial") else "\n"))
            case {"trace_error": error}:
                emit({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": EMITTED_AT, "error": error}})
            case {"status": {"stream": name, "status": status, **rest}}:
                emit(status_message(name, rest.get("namespace"), status))
            case {"control": config}:
                body = {
                    "type": "CONNECTOR_CONFIG",
                    "emitted_at": EMITTED_AT,
                    "connectorConfig": {"config": config},
                }
                emit({"type": "CONTROL", "control": body})
            case {"replay": file}:
                sys.stdout.flush()
                with Path(file).open("rb") as source:
                    shutil.copyfileobj(source, sys.stdout.buffer, 1 << 20)
                sys.stdout.buffer.flush()
            case {"stderr": text}:
                for _ in range(step.get("times", 1)):
                    sys.stderr.write(text)
                sys.stderr.flush()
            case {"leak": where}:
                self.leak(where)
            case {"sleep": seconds}:
                sys.stdout.flush()
                time.sleep(seconds)
            case {"ignore_sigterm": True}:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            case {"exit": code}:
                sys.stdout.flush()
                os._exit(code)
            case {"kill": number}:
                sys.stdout.flush()
                os.kill(os.getpid(), number)
            case {"kill_parent": number}:
                sys.stdout.flush()
                os.kill(os.getppid(), number)
            case {"fork": seconds}:
                child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
                with Path(step["pids"]).open("a") as file:
                    file.write(f"{child.pid}\n")
            case {"report": file}:
                self.report(Path(file))
            case {"temporary": text}:
                with tempfile.NamedTemporaryFile("w", delete=False) as file:
                    file.write(text)
            case {"touch": file}:
                sys.stdout.flush()
                Path(file).touch()
            case {"wait_for": file}:
                sys.stdout.flush()
                while not Path(file).exists():
                    time.sleep(0.01)
            case {"once": flag, "steps": steps}:
                self.once(flag, steps)
            case _:
                raise SystemExit(f"unknown step {sorted(step)}")

    def leak(self, where: str) -> None:
        """Print the password where it does not belong."""
        text = f"cannot log in with password {self.config.get('password')}"
        if where == "stdout":
            write(text + "\n")
        elif where == "stderr":
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        else:
            self.step({"trace_error": {"message": text, "failure_type": "config_error"}})

    def report(self, file: Path) -> None:
        """Write what this process sees of its surroundings."""
        paths = [Path(path) for path in self.options.values()]
        content = {
            "pid": os.getpid(),
            "env": dict(os.environ),
            "cwd": str(Path.cwd()),
            "files": {str(path): oct(path.stat().st_mode & 0o777) for path in paths},
            "config": self.config,
            "config_dir_mode": oct(paths[0].parent.stat().st_mode & 0o777) if paths else None,
            "state": self.state,
            "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
        }
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(file)


# ---- output ------------------------------------------------------------------------------------------------


def write(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(text)


def emit(message: dict[str, Any]) -> None:
    """Write one message; only records may wait in the buffer."""
    write(json.dumps(message, separators=(",", ":")) + "\n")
    if message.get("type") != "RECORD":
        sys.stdout.flush()


def status_message(name: str, namespace: str | None, status: str) -> dict[str, Any]:
    """A TRACE message with a stream's status."""
    described = {"name": name} | ({"namespace": namespace} if namespace else {})
    body = {"stream_descriptor": described, "status": status}
    return {
        "type": "TRACE",
        "trace": {"type": "STREAM_STATUS", "emitted_at": EMITTED_AT, "stream_status": body},
    }


def records_of(stream: dict[str, Any]) -> Any:
    """The stream's records, as given or generated."""
    if "generate" not in stream:
        return stream.get("records", [])
    plan = stream["generate"]
    first = plan.get("from", 0)
    return (
        {name: filled(value, i) for name, value in plan["fields"].items()}
        for i in range(first, first + plan["count"])
    )


def filled(value: object, i: int) -> object:
    """A value with `$i` replaced by the record's number; a number when it is nothing else."""
    if value == "$i":
        return i
    return value.replace("$i", str(i)) if isinstance(value, str) else value


def infer_schema(records: Any) -> dict[str, Any]:
    """A JSON schema from the first hundred records."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    properties: dict[str, Any] = {}
    for _, record in zip(range(100), records, strict=False):
        for name, value in record.items():
            if value is not None:
                properties.setdefault(name, {"type": ["null", names[type(value)]]})
    return {"type": "object", "properties": properties}


def main(arguments: list[str]) -> None:
    """Play the verb that the command line names."""
    verb, options = arguments[0], {}
    for flag, value in zip(arguments[1::2], arguments[2::2], strict=True):
        options[flag.removeprefix("--")] = value
    if verb not in ("spec", "check", "discover", "read"):
        raise SystemExit(f"unknown verb {verb}")
    getattr(Player(options), verb)()


if __name__ == "__main__":
    main(sys.argv[1:])
