"""The page that shows the API, with a policy under which only its own scripts run."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse

_EXTERNAL = re.compile(r'<script src="([^"]+)"|<link type="text/css" rel="stylesheet" href="([^"]+)"')
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI, path: str = "/docs") -> None:
    """Serve the page; the application must be made with `docs_url=None`."""

    async def page(request: Request) -> HTMLResponse:
        prefix = request.scope.get("root_path", "").rstrip("/")
        answer = get_swagger_ui_html(
            openapi_url=prefix + str(app.openapi_url), title=app.title, swagger_favicon_url="data:,"
        )
        answer.headers["Content-Security-Policy"] = content_policy(bytes(answer.body).decode())
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    app.add_route(path, page, include_in_schema=False)


def content_policy(html: str) -> str:
    """A Content-Security-Policy for the page: its scripts by address or hash, and its own API."""
    found = _EXTERNAL.findall(html)
    scripts = [script for script, _ in found if script]
    styles = [style for _, style in found if style]
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in _INLINE.findall(html)
    ]
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(scripts + hashes)}",
            f"style-src {' '.join(styles)} 'unsafe-inline'",  # Swagger UI sets styles of elements
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
