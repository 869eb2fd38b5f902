"""A contract double of the part of GitHub's REST API that `source-github` reads, from GitHub's API reference.

Lists are pages with a `Link` header, issues can be asked for `since`, and a call needs the token.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN = "ghp_a-token-of-the-tests"
REPOSITORY = "acme/demo"
RESET = int(dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp())
_BUDGET = {"limit": 5000, "remaining": 4999, "reset": RESET, "used": 1}


@dataclass
class GitHub:
    """One repository.

    Attributes:
        issues: By number.
        asked: Path and parameters of each call that was answered with a list.
        refused: Calls without the token.
    """

    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    tags: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    refused: int = 0
    url: str = ""

    def put_issue(self, number: int, updated_at: str, title: str, state: str = "open") -> None:
        """Make an issue, or change it."""
        self.issues[number] = {
            "id": 10_000_000_000 + number,
            "number": number,
            "title": title,
            "state": state,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": updated_at,
            "user": {"login": "ann", "id": 7, "type": "User", "site_admin": False},
            "labels": [{"id": 1, "name": "bug", "default": True}],
            "comments": number % 3,
            "reactions": {"total_count": 1, "+1": 1, "-1": 0},
        }

    def put_tag(self, name: str) -> None:
        """Make a tag."""
        self.tags.append({"name": name, "commit": {"sha": name * 4, "url": f"{self.url}/c/{name}"}})

    def answer(self, path: str, query: dict[str, str]) -> Any | None:
        """The body for a path; None when there is no such thing."""
        match path.removeprefix(f"/repos/{REPOSITORY}"):
            case "":
                owner = {"login": "acme", "id": 1, "type": "Organization"}
                names = {"full_name": REPOSITORY, "name": "demo", "default_branch": "main"}
                return names | {"id": 99, "owner": owner, "organization": owner}
            case "/issues":
                since = query.get("since", "")
                changed = [i for i in self.issues.values() if i["updated_at"] >= since]
                return sorted(changed, key=lambda issue: (issue["updated_at"], issue["number"]))
            case "/tags":
                return self.tags
            case "/rate_limit":
                return {"resources": {"core": _BUDGET, "graphql": _BUDGET}, "rate": _BUDGET}
        return None


class _Handler(BaseHTTPRequestHandler):
    github: GitHub

    def do_GET(self) -> None:  # the name that the library wants
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if self.headers.get("authorization") != f"token {TOKEN}":
            self.github.refused += 1
            self._send(401, {"message": "Bad credentials"})
            return
        body = self.github.answer(parts.path, query)
        if not isinstance(body, list):
            self._send(404 if body is None else 200, {"message": "Not Found"} if body is None else body)
            return
        self.github.asked.append((parts.path, query))
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        links = {}
        if len(body) > size * page:
            following = urlencode(query | {"page": page + 1})
            links["link"] = f'<{self.github.url}{parts.path}?{following}>; rel="next"'
        self._send(200, body[size * (page - 1) : size * page], links)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        budget = {f"x-ratelimit-{name}": str(value) for name, value in _BUDGET.items()}
        for name, value in (budget | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def running_github() -> Iterator[GitHub]:
    """An API while the block lasts."""
    github = GitHub()
    kind = type("Handler", (_Handler,), {"github": github})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        github.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield github
        finally:
            server.shutdown()
            thread.join()
