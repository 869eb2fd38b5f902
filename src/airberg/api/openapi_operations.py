"""What every operation of the API has in the document: which problems, which headers, where ids go on to."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

from airberg.api.openapi_parameters import PARAMETERS
from airberg.api.problems import MEDIA_TYPE, PROBLEM_RESPONSES, TITLES, problem_response

TAGS: Final = [
    {"name": "ingest", "description": "Make a job of one call."},
    {"name": "sources", "description": "Connectors: which there are, what they need, what they can read."},
    {"name": "jobs", "description": "The life of a job. A job that is not yours is not found."},
    {"name": "runs", "description": "What the runs of a job do and did."},
    {"name": "state", "description": "Where a job stands, as its tables hold it, and going back."},
    {"name": "tables", "description": "Tables that jobs of yours fill."},
    {"name": "audit", "description": "Who did what, when, and from where."},
    {"name": "keys", "description": "Encryption keys. What is in them is shown nowhere."},
    {"name": "service keys", "description": "What programs send in place of an access token."},
    {"name": "health", "description": "For load balancers and for those who watch; without a token."},
    {"name": "authorization", "description": "Where clients get access tokens."},
]

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "WWW-Authenticate": {
        "description": "What is wrong with the credentials, and where to get others (RFC 6750, RFC 9728).",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer "},
        "example": 'Bearer realm="airberg", error="insufficient_scope", scope="ingest:write"',
    },
    "WWW-Authenticate.optional": {
        "description": "As with 401, if credentials are what is wrong.",
        "schema": {"type": "string", "pattern": "^Bearer "},
        "example": 'Bearer realm="airberg", error="invalid_request"',
    },
    "Retry-After": {
        "description": "Seconds after which it may work.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 5,
    },
    "Location": {
        "description": "Address of what was made, relative to this API.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/jobs/8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d",
    },
    "Location.optional": {
        "description": "Address of what was made before, unless this was a dry run.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/jobs/8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d",
    },
    "Link": {
        "description": "Where the next page is, if there is one (RFC 8288).",
        "schema": {"type": "string"},
        "example": '</api/audit?limit=100&before=4711>; rel="next"',
    },
    "X-Request-Id": {
        "description": "Id of the request in logs: that of the client or of its trace, if it gave one.",
        "required": True,
        "schema": {"type": "string"},
        "example": "0af7651916cd43dd8448eb211c80319c",
    },
    "RateLimit": {
        "description": "What is left of the caller's allowance, and in how many seconds it is whole again.",
        "schema": {"type": "string"},
        "example": '"reads";r=119999;t=1',
    },
    "RateLimit-Policy": {
        "description": "The allowance: so many requests in so many seconds.",
        "schema": {"type": "string"},
        "example": '"reads";q=120000;w=60',
    },
    "ETag": {
        "description": "Version of the job, for `If-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
        "example": '"3"',
    },
    "Cache-Control": {
        "description": "Problems are not kept by caches.",
        "schema": {"type": "string"},
        "example": "no-store",
    },
}
"""Headers of answers, by the name of their component: the header's; `.optional` where it may be absent."""

PROBLEM_HEADERS: Final = {
    400: ("WWW-Authenticate.optional",),
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate.optional",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
ANSWER_HEADERS: Final = {
    ("create_ingestion", "200"): ("Location.optional",),
    ("create_ingestion", "201"): ("Location", "ETag"),
    ("create_key", "201"): ("Location",),
    ("list_acts", "200"): ("Link",),
    ("list_jobs", "200"): ("Link",),
    ("get_job", "200"): ("ETag",),
    ("change_job", "200"): ("ETag",),
    ("list_runs", "200"): ("Link",),
    ("read_log", "200"): ("Link",),
    ("get_source", "202"): ("Retry-After",),
}
"""Headers of answers that are no problems, by operation and status."""

LEADS_TO: Final = (
    ("create_ingestion", "201", "job_id", "$response.body#/job_id", "/api/jobs/{job_id}"),
    ("trigger_job", "202", "run_id", "$response.body#/id", "/api/runs/{run_id}"),
    ("create_service_key", "201", "key_id", "$response.body#/id", "/api/service-keys/{key_id}"),
    ("create_key", "201", "name", "$response.body#/name", "/api/keys/{name}"),
)
"""Which answer has the id that a parameter of other operations is, and where their paths begin."""

NAMES_OF_PROBLEMS: Final = {
    400: "BadRequest",
    401: "NotAuthenticated",
    403: "NotAllowed",
    404: "NotFound",
    408: "SlowRequest",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "TooLarge",
    422: "InvalidRequest",
    429: "TooManyRequests",
    431: "HeadersTooLarge",
    500: "InternalError",
    503: "Unavailable",
}
"""How their components are called: as the errors of `airberg.errors`."""

EXAMPLES_OF_PROBLEMS: Final = {
    400: ("malformed-credentials", "The Authorization header is not `Bearer` and one token."),
    401: ("not-authenticated", "An access token, or a service key, is needed."),
    403: ("not-allowed", "The access token lacks the scope ingest:write."),
    404: ("not-found", "There is no job 8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d."),
    408: ("slow-request", "The body did not arrive in 30 seconds."),
    409: ("name-taken", 'You have a job named "users" already: 8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d.'),
    412: ("job-changed", "The job 8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d was changed meanwhile."),
    413: ("too-large", "The body is larger than 1048576 bytes."),
    422: ("invalid-request", "`mode` is missing."),
    429: ("too-many-requests", "Too many sources are being checked at this moment."),
    431: ("too-many-headers", "The request has more than 100 headers."),
    500: ("internal-error", "Something went wrong in Airberg."),
    503: ("unavailable", "The job store does not answer."),
}

_ANSWERS = {
    "200": "What was asked for.",
    "201": "It was made.",
    "202": "It was taken, and goes on by itself.",
    "204": "It is done; there is nothing to show.",
}
_SECTION = re.compile(r"\n\s*(Args|Raises|Returns):\n.*", re.DOTALL)
_INSTANCE = UUID("8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d").urn

Operations = dict[str, tuple[str, str, dict[str, Any]]]
"""Path, method and operation by the operation's id."""


def complete_operation(path: str, method: str, operation: dict[str, Any], operations: Operations) -> None:
    """Add to one operation what the rules know of it."""
    name = operation["operationId"]
    if operation.get("summary") == name.replace("_", " ").title():  # FastAPI's, for want of one
        operation["summary"] = name.replace("_", " ").capitalize()
    operation["description"] = _SECTION.sub("", operation.get("description", ""))
    scopes = {scope for way in operation.setdefault("security", []) for of in way.values() for scope in of}
    if scopes:
        operation["description"] += f"\n\nScope: {', '.join(f'`{scope}`' for scope in sorted(scopes))}."
    for parameter in operation.get("parameters", []):
        _complete_parameter(parameter)
    answers = operation["responses"]
    for status, answer in answers.items():
        if answer.get("description") == "Successful Response":
            answer["description"] = _ANSWERS[status]
        always = ("X-Request-Id", *(("RateLimit", "RateLimit-Policy") if operation["security"] else ()))
        answer.setdefault("headers", {}).update(_header_references(always))
    for status, headers in ((s, h) for (of, s), h in ANSWER_HEADERS.items() if of == name):
        answers[status].setdefault("headers", {}).update(_header_references(headers))
    possible = problems_of(path, method, operation)
    for problem, declared in PROBLEM_RESPONSES.items():
        shown = answers.pop(str(problem), None)
        if problem in possible:
            own = shown is not None and shown["description"] != declared["description"]
            answers[str(problem)] = shown if own else {"$ref": _response(int(problem))}
    operation["responses"] = dict(sorted(answers.items()))
    for of, status, parameter, expression, begins in LEADS_TO:
        if path.startswith(begins) and of in operations:
            links = operations[of][2]["responses"][status].setdefault("links", {})
            links[name] = {"operationId": name, "parameters": {parameter: expression}}


def problems_of(path: str, method: str, operation: dict[str, Any]) -> set[int]:
    """With which problems an operation can answer: by what it takes, and by those that it declares."""
    takes = bool(operation.get("parameters")) or "requestBody" in operation
    possible = {431, 500, 503}
    possible |= {400, 401, 403, 429} if operation["security"] else set()
    possible |= {404} if "{" in path else set()
    possible |= {422} if takes else set()
    possible |= {408, 413} if method != "get" else set()
    if any(p["name"].lower() == "if-match" for p in operation.get("parameters", [])):
        possible |= {412}
    if method != "get" and "409" in operation["responses"]:
        possible |= {409}
    return possible


def problem_components() -> dict[str, Any]:
    """The answers that are problems, each with an example: a document as the service makes it."""
    out = {}
    for status, (code, message) in EXAMPLES_OF_PROBLEMS.items():
        instance = _INSTANCE if status == 500 else None
        document = json.loads(bytes(problem_response(status, code, message, instance=instance).body))
        schema = {"$ref": "#/components/schemas/Problem"}
        headers = ("X-Request-Id", "Cache-Control", *PROBLEM_HEADERS.get(status, ()))
        out[NAMES_OF_PROBLEMS[status]] = {
            "description": f"{TITLES[status]}.",
            "headers": _header_references(headers),
            "content": {MEDIA_TYPE: {"schema": schema, "example": document}},
        }
    return out


def _header_references(names: tuple[str, ...]) -> dict[str, Any]:
    return {name.partition(".")[0]: {"$ref": f"#/components/headers/{name}"} for name in names}


def _response(status: int) -> str:
    return f"#/components/responses/{NAMES_OF_PROBLEMS[status]}"


def _complete_parameter(parameter: dict[str, Any]) -> None:
    """Its description and example, where the route gives none, are those of its name."""
    known = PARAMETERS.get((parameter["in"], parameter["name"]))
    if known is not None:
        parameter.setdefault("description", known.description)
        if "examples" not in parameter["schema"]:
            parameter.setdefault("example", known.example)
