"""The example connector `source-postgres-lite`: as an executable, and spoken to over the protocol alone."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from source_postgres_lite.command import main

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "connectors" / "source-postgres-lite"
PASSWORD = "p%ss w'rd\\ of the reader"  # as hard to pass on as one may be


def executable(folder: Path) -> Path:
    """A program that runs it from this repository in our interpreter, which has psycopg."""
    program = folder / "source-postgres-lite"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(EXAMPLE / 'src')!r})\n"
        "from source_postgres_lite.command import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return program


@dataclass
class Said:
    """What it wrote in one run."""

    exit_code: int
    messages: list[dict[str, Any]]
    text: str

    def of(self, kind: str) -> list[Any]:
        """Bodies of the messages of one type."""
        names = {"CONNECTION_STATUS": "connectionStatus"}
        return [m[names.get(kind, kind.lower())] for m in self.messages if m["type"] == kind]

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """Data of the records of a stream."""
        return [r["data"] for r in self.of("RECORD") if r["stream"] == stream]

    def errors(self) -> list[dict[str, Any]]:
        """What it said went wrong."""
        return [t["error"] for t in self.of("TRACE") if t["type"] == "ERROR"]

    def statuses(self) -> list[tuple[str, str]]:
        """Stream and status, in order."""
        told = [t["stream_status"] for t in self.of("TRACE") if t["type"] == "STREAM_STATUS"]
        return [(s["stream_descriptor"]["name"], s["status"]) for s in told]


@dataclass
class Connector:
    """Runs verbs, in this process: a process for each would take most of the tests' time."""

    folder: Path
    config: dict[str, Any] = field(repr=False)

    def __call__(self, verb: str, **files: object) -> Said:
        """Run a verb with its files, as JSON; `config` is ours unless given."""
        files = ({} if verb == "spec" else {"config": self.config}) | files
        argv = [verb]
        for name, content in files.items():
            (self.folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
            argv += [f"--{name}", str(self.folder / name)]
        out = io.BytesIO()
        code = main(argv, out)
        return Said(code, [json.loads(line) for line in out.getvalue().splitlines()], out.getvalue().decode())

    def streams(self) -> dict[str, dict[str, Any]]:
        """What it discovers, by name."""
        [catalog] = self("discover").of("CATALOG")
        return {s["name"]: s for s in catalog["streams"]}

    def read(self, *names: str, mode: str = "incremental", state: list[Any] | None = None) -> Said:
        """Read some streams with their default cursors."""
        known = self.streams()
        chosen = [
            {
                "stream": known[name],
                "sync_mode": mode,
                "cursor_field": known[name]["default_cursor_field"],
                "destination_sync_mode": "append",
            }
            for name in names
        ]
        return self("read", catalog={"streams": chosen}, **({} if state is None else {"state": state}))


def reader_of(connect: str, database: str) -> dict[str, Any]:
    """A configuration of a role that may log in, and read what it is granted."""
    parts = dict(part.split("=", 1) for part in connect.split())
    with psycopg.connect(connect, dbname=database, autocommit=True) as c:
        c.execute("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        c.execute(sql.SQL("ALTER ROLE reader PASSWORD {}").format(PASSWORD))
    return {
        "host": parts["host"],
        "port": int(parts["port"]),
        "database": database,
        "username": "reader",
        "password": PASSWORD,
        "schemas": ["shop"],
        "ssl_mode": "disable",
    }
