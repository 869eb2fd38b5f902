"""A stand-in for Airflow's REST API that has what a test says, for what a real one cannot be made to have."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PASSWORD = "pass-word-of-the-service"
SENTINEL = "airberg_sentinel"


def a_flow(flow_id: str, **members: Any) -> dict[str, Any]:
    """A flow as `GET /dags` has it."""
    return {
        "dag_id": flow_id,
        "is_paused": False,
        "is_stale": False,
        "file_token": f"token-of-{flow_id}",
        "tags": [{"name": "airberg"}],
        "bundle_name": "airberg",
        "last_parsed_time": "2026-03-29T12:00:00Z",
        "timetable_summary": None,
        "next_dagrun_run_after": None,
        "doc_md": None,
    } | members


class AirflowDouble:
    """Answers as Airflow does; healthy, and of a tested version, until a test changes it.

    Attributes:
        flows: By id.
        answers: By method and path (below `/api/v2`), the status and body that go before all else.
        ahead_s: How far its clock is ahead.
        on_parse: Called when a file is to be parsed again; what a bundle would do.
    """

    def __init__(self) -> None:
        self.version = "3.3.2"
        self.flows: dict[str, dict[str, Any]] = {SENTINEL: a_flow(SENTINEL)}
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.import_errors: list[dict[str, Any]] = []
        self.ahead_s = 0.0
        self.on_parse: Callable[[], None] = lambda: None
        healthy = {"status": "healthy"}
        self.health = dict.fromkeys(("metadatabase", "scheduler", "dag_processor", "triggerer"), healthy)
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                path = urlsplit(self.path).path
                if path == "/auth/token":
                    status, body = 201, {"access_token": "t"}
                else:
                    status, body = double.answer(self.command, path.removeprefix("/api/v2"))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

            def date_time_string(self, _timestamp: float | None = None) -> str:
                return format_datetime(datetime.now(UTC) + timedelta(seconds=double.ahead_s), usegmt=True)

            def log_message(self, *_arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        """Status and body for a request."""
        if (method, path) in self.answers:
            return self.answers[method, path]
        parts = path.strip("/").split("/")
        match method, parts:
            case "GET", ["version"]:
                return 200, {"version": self.version}
            case "GET", ["monitor", "health"]:
                return 200, self.health
            case "GET", ["importErrors"]:
                return 200, {"import_errors": self.import_errors, "total_entries": len(self.import_errors)}
            case "GET", ["dags"]:
                return 200, {"dags": list(self.flows.values()), "total_entries": len(self.flows)}
            case "GET", ["dags", flow_id, *_] if flow_id in self.flows:
                return 200, self.flows[flow_id]
            case "PUT", ["parseDagFile", _]:
                self.on_parse()
                if SENTINEL in self.flows:
                    self.flows[SENTINEL]["last_parsed_time"] = datetime.now(UTC).isoformat()
                return 201, None
        return 404, {"detail": "not found"}
