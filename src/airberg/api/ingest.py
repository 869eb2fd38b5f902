"""`POST /api/airbyte/ingest`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from airberg.api.acting import acting
from airberg.api.auth import principal
from airberg.api.ingest_body import IngestBody
from airberg.api.permissions import owner_of
from airberg.api.plan_views import PlanAnswer, plan_view
from airberg.api.problems import PROBLEM_RESPONSES, body_problems, read_json_object
from airberg.api.submission import Submission, Submitter
from airberg.api.views import IngestAnswer
from airberg.errors import InvalidRequest
from airberg.identity.principal import Principal

router = APIRouter(tags=["ingest"])

OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": IngestBody.model_json_schema()}},
    }
}


async def raw_body(request: Request) -> bytes:
    """The body as bytes: the endpoint runs in a thread, where it cannot be awaited."""
    return await request.body()


def parse(raw: bytes) -> IngestBody:
    """The checked body.

    Raises:
        InvalidRequest: With everything that is wrong with the form.
    """
    try:
        return IngestBody.model_validate(read_json_object(raw))
    except ValidationError as e:
        raise InvalidRequest(body_problems(e, IngestBody)) from None


@router.post(
    "/api/airbyte/ingest",
    status_code=201,
    summary="Create PyAirbyte ingestion job",
    response_model=IngestAnswer,
    responses=PROBLEM_RESPONSES
    | {200: {"model": PlanAnswer | IngestAnswer, "description": "A dry run, or an answer given before."}},
    openapi_extra=OPENAPI_BODY,
)
def create_ingestion(
    request: Request,
    response: Response,
    caller: Annotated[Principal, Security(principal, scopes=["ingest:write"])],
    raw: Annotated[bytes, Depends(raw_body)],
    dry_run: Annotated[bool, Query(description="Answer the plan and create nothing.")] = False,
    preflight: Annotated[
        Literal["run", "skip"], Query(description="skip: accept without asking the source.")
    ] = "run",
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Any:  # noqa: ANN401 - response_model says what it is
    """Create an ingestion job: checked against the source, stored, its flow registered and started."""
    submitter: Submitter = request.app.state.submitter
    body = parse(raw)
    submission = Submission(
        request=body.as_request(owner_of(body.owner_id, caller)),
        source_config=body.source_config,
        principal=caller,
        preflight=preflight == "run",
        idempotency_key=idempotency_key,
        body=raw,
        act=acting(request, caller, "job.create", "job", ""),
    )
    if dry_run:
        request_to_be, prepared = submitter.plan(submission)
        plan = plan_view(prepared, request_to_be, request.app.state.settings, datetime.now(UTC))
        return JSONResponse({"flow_url": "", "job_id": None, "error": None, "plan": plan})
    created = submitter.create(submission)
    response.status_code = 200 if created.again else 201
    response.headers["Location"] = f"/api/jobs/{created.job_id}"
    if not created.again:
        response.headers["ETag"] = '"1"'
    return IngestAnswer(flow_url=created.flow_url, job_id=created.job_id, error=created.error)
