"""Errors as answers: problem documents (RFC 9457) that also carry the members of the ingest answer.

A client of the plain contract reads `flow_url`, `job_id` and `error`; a client of the standard reads
`type`, `title`, `status`, `detail` and `errors`. No answer repeats what was sent, and an error that nobody
expected shows a number only, under which the log has where it happened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airberg.api.allowed import allowed_methods
from airberg.api.auth import challenge
from airberg.api.body_limit import BodyLimit, BodyLimits
from airberg.api.body_problems import (
    MAX_PROBLEMS,
    WHOLE_BODY,
    body_problems,
    field_problem,
    read_json_object,
)
from airberg.api.limit_settings import LimitSettings
from airberg.api.time_limit import TimeLimit
from airberg.errors import (
    AirbergError,
    InvalidRequest,
    Problem,
    RequestError,
    SlowRequest,
    TooManyRequests,
    Unavailable,
)
from airberg.traces import lines_of_code

__all__ = ["PROBLEM_RESPONSES", "body_problems", "install", "problem_response", "read_json_object"]

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "The request is not well formed",
    401: "An access token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "The method is not allowed here",
    408: "The request is too slow",
    409: "It contradicts what is stored",
    412: "It was changed meanwhile",
    413: "The body is too large",
    415: "The media type is not supported",
    422: "The request has fields that are wrong",
    429: "Too many requests",
    431: "There are too many headers",
    500: "Something went wrong here",
    503: "A part that is needed does not answer",
}

_TEXT = {"type": "string"}
PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What is wrong (RFC 9457), with the members of the ingest answer.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors", "flow_url", "job_id", "error"],
    "properties": {
        "type": _TEXT
        | {"format": "uri-reference"}
        | {"description": "Kind of problem, relative to this API: /problems/<code>."},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT | {"description": "What was found and what to do."},
        "instance": _TEXT
        | {"format": "uri", "description": "Number of the incident in the log; for status 500."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "message", "guidance"],
                "properties": {
                    "pointer": _TEXT | {"description": "JSON pointer into the body; empty: all of it."},
                    "code": _TEXT,
                    "message": _TEXT,
                    "guidance": _TEXT,
                },
            },
        },
        "flow_url": {"const": ""},
        "job_id": {"type": "null"},
        "error": _TEXT | {"description": "One sentence."},
    },
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}}
    for status, title in TITLES.items()
    if status not in (405, 415)
}
"""For `responses=` of routes and routers."""


def problem_response(
    status: int,
    code: str,
    message: str,
    *,
    guidance: str = "",
    errors: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
) -> Response:
    """A problem document.

    Args:
        code: Names the kind of problem: `type` is `/problems/<code>`.
        message: One sentence: what was found.
        errors: One entry a field; without any, one entry says it of the request as a whole.
    """
    entries = errors or [Problem(WHOLE_BODY, code, message, guidance)]
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{message} {guidance}".strip(),
        "errors": [e.as_dict() for e in entries],
        "flow_url": "",
        "job_id": None,
        "error": message,
    }
    if instance is not None:
        body["instance"] = instance
    # ASCII: a field's name may be half of a surrogate pair, which UTF-8 cannot carry.
    content = json.dumps(body, ensure_ascii=True).encode()
    return Response(content, status, {"Cache-Control": "no-store"} | dict(headers or {}), MEDIA_TYPE)


def install(app: FastAPI, *, max_body_bytes: int, limits: LimitSettings | None = None) -> None:
    """Render all errors of an application as problems; limit its bodies and the time that it takes."""
    limits = limits or LimitSettings()
    app.add_exception_handler(AirbergError, _airberg_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(TimeLimit, seconds=limits.request_timeout_s, refuse=_too_late)
    body_limits = BodyLimits(
        max_bytes=max_body_bytes,
        max_members=limits.max_body_members,
        max_headers=limits.max_headers,
        max_head_bytes=limits.max_head_bytes,
        timeout_s=limits.body_timeout_s,
    )
    app.add_middleware(BodyLimit, limits=body_limits, refuse=_refused)
    app.add_middleware(_LastResort)


# ---- our own errors --------------------------------------------------------------------------------------


async def _airberg_error(request: Request, error: Exception) -> Response:
    match error:
        case InvalidRequest():
            return _invalid(error)
        case RequestError():
            headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooManyRequests) else {}
            wanted = challenge(error, getattr(request.app.state, "resource_metadata_url", ""))
            if wanted is not None:
                headers["WWW-Authenticate"] = wanted
            return problem_response(
                error.status, error.code, error.message, guidance=error.guidance, headers=headers
            )
        case Unavailable():
            log.warning("%s %s: %s", request.method, request.url.path, error.message)
            return problem_response(
                error.status,
                error.code,
                error.message,
                guidance=error.guidance,
                headers={"Retry-After": str(error.retry_after)},
            )
    return _incident(request.method, request.url.path, error)


def _refused(error: RequestError) -> Response:
    """The answer to a request that is not read to its end: the connection cannot be used again."""
    headers = {"Connection": "close"} if isinstance(error, SlowRequest) else {}
    if isinstance(error, InvalidRequest):
        return _invalid(error)
    return problem_response(error.status, error.code, error.message, guidance=error.guidance, headers=headers)


def _invalid(error: InvalidRequest) -> Response:
    return problem_response(
        error.status,
        InvalidRequest.default_code,
        error.message,
        guidance=error.guidance,
        errors=error.problems,
    )


def _too_late() -> Response:
    return problem_response(
        503,
        "request-timeout",
        "The request took too long.",
        guidance="What it asked for may still happen: look before you send it again.",
        headers={"Retry-After": "30", "Connection": "close"},
    )


# ---- the framework's errors ------------------------------------------------------------------------------


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    model = _body_model(request)
    found = [_request_problem(e, model) for e in error.errors()[:MAX_PROBLEMS]]
    return await _airberg_error(request, InvalidRequest(found))


def _body_model(request: Request) -> type[BaseModel] | None:
    """The model of the body of the route that was asked for."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _request_problem(error: Mapping[str, Any], model: type[BaseModel] | None) -> Problem:
    """One of FastAPI's errors; its location starts with the part of the request that it is about."""
    where, *location = error["loc"] or ("body",)
    if error["type"] == "json_invalid":
        return Problem(WHOLE_BODY, "bad-json", "The body is not JSON.", "Send JSON in UTF-8 (RFC 8259).")
    if where == "body":
        if not location and error["type"] in ("model_attributes_type", "model_type", "dict_type"):
            return Problem(
                WHOLE_BODY,
                "not-an-object",
                "The body is not a JSON object.",
                "Send one, with Content-Type: application/json.",
            )
        return field_problem(error, location, model)
    found = field_problem(error, location, None)
    return Problem(WHOLE_BODY, found.code, f"In the {where}: {found.message}", found.guidance)


HTTP_ERRORS = {
    400: ("bad-request", "The request could not be read.", "Send well-formed HTTP and JSON."),
    404: ("not-found", "There is nothing at this address.", "The API is described at /docs."),
    405: (
        "method-not-allowed",
        "This address does not know that method.",
        "The header Allow has those it does.",
    ),
}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    status = error.status_code
    if status in (204, 304):
        return Response(status_code=status, headers=error.headers)
    if status == 500:
        return _incident(request.method, request.url.path, error)
    phrase = HTTPStatus(status).phrase
    code, message, guidance = HTTP_ERRORS.get(status, (phrase.lower().replace(" ", "-"), f"{phrase}.", ""))
    headers = {"Allow": allowed_methods(request)} if status == 405 else error.headers
    return problem_response(status, code, message, guidance=guidance, headers=headers)


# ---- what nobody expected --------------------------------------------------------------------------------


def _incident(method: str, path: str, error: Exception) -> Response:
    """Log where it happened, answer with a number.

    The messages of exceptions are left out of the log.
    """
    instance = f"urn:uuid:{uuid4()}"
    log.error("incident %s: %s %s\n%s", instance, method, path, lines_of_code(error))
    return problem_response(
        500,
        "internal-error",
        "Something went wrong in Airberg.",
        guidance=f"Its log has the reason under {instance}.",
        instance=instance,
    )


class _LastResort:
    """Answers for exceptions that no handler knows.

    Starlette's own place for this raises them again after the answer, for the server to log with message
    and all; see `_incident` for why we do not want that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as e:  # noqa: BLE001 - the last place that can still answer
            response = _incident(scope["method"], scope["path"], e)
            if begun:  # too late for an answer: break the connection off, so that the client notices
                raise RuntimeError("the answer broke off; the log has the incident") from None
            await response(scope, receive, send)
