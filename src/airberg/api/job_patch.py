"""The body of `PATCH /api/jobs/{id}`, and the request that a job has with it.

The request of a job with a change is checked as a whole, by the rules of the ingest call: what does not fit
together is found, whichever half of it is new.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from airberg.api.body_problems import body_problems
from airberg.api.flow_body import FlowBody
from airberg.api.ingest_body import ColumnTransformation, Group, IngestBody, Reader, TableBody, Text
from airberg.api.views import request_as_sent
from airberg.errors import InvalidRequest, NotAllowed, Problem
from airberg.identity.principal import Principal
from airberg.jobs.model import Job
from airberg.plan.model import DeletedRows, DeleteFormat, IngestRequest, Mode

NEW_JOB: Final = "Make a new job, with another schema_name, or delete this one first."
FIXED: Final = {
    "source_name": f"Its state is of that connector. {NEW_JOB}",
    "source_version": "Who runs this service moves jobs to another version: `airberg sources upgrade`.",
    "schema_name": f"Its tables and their state are there. {NEW_JOB}",
    "mode": f"The rows that are there were written in that mode. {NEW_JOB}",
    "run_now": "It is about the making of a job. Start a run with POST /api/jobs/{id}/trigger.",
    "add_ingestion_metadata": f"The tables were made so. {NEW_JOB}",
}
"""What a job keeps, and what to do instead."""


class JobPatch(BaseModel):
    """What is changed of a job. Members that are left out stay as they are; null is what a new job has.

    The members that a job keeps can be sent as they are, so that `properties_json` of a job can be sent back.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: Text | None = Field(None, description="Name of the job, unique per owner.")
    schedule: Text | None = Field(None, description="Five-field cron or a preset; null: no schedule.")
    timezone: Text | None = Field(None, description="IANA time zone of the schedule; null: UTC.")
    paused: StrictBool | None = Field(None, description="Whether the schedule rests.")
    streams: list[Text] | None = Field(None, description="Streams to sync; null or empty: all.")
    source_config: dict[str, Any] | None = Field(
        None,
        description="All of the connector's configuration. `**********` keeps the stored secret, if nothing "
        "that could decide where it goes has changed.",
    )
    column_transformations: list[ColumnTransformation] | None = Field(None, description="All of them.")
    merge: Text | None = Field(None, description="Merge key columns, while their tables are not there yet.")
    tables: dict[Text, TableBody] | None = Field(None, description="Partitions and order of new tables.")
    delete_format: DeleteFormat | None = Field(None, description="In merge mode, how rows go.")
    readers: Annotated[list[Reader], Field(max_length=30)] | None = Field(
        None, description="In merge mode, the engines that read the tables."
    )
    deletes: DeletedRows | None = Field(None, description="What becomes of rows that the source deleted.")
    skip_unchanged: StrictBool | None = Field(None, description="Rows without a change are not written.")
    archive_staging: StrictBool | None = Field(None, description="Keep the raw records of each run.")
    domain: Text | None = Field(
        None,
        description="DataHub domain: urn, id or name.",
    )
    tags: list[Text] | None = Field(None, description="DataHub tags; made, or refused, when missing.")
    share_with: Annotated[list[Group], Field(max_length=50)] | None = Field(
        None, description="Groups whose members see the job and may change it."
    )
    flow: FlowBody | None = Field(
        None, description="All options of the flow; null: as the deployment has them."
    )
    owner_id: Text | None = Field(None, description="Owner; only the role ingest-admin may change it.")
    source_name: Text | None = Field(None, description="As it is.")
    source_version: Text | None = Field(None, description="As it is.")
    schema_name: Text | None = Field(None, description="As it is.")
    mode: Mode | None = Field(None, description="As it is.")
    run_now: StrictBool | None = Field(None, description="As it is.")
    add_ingestion_metadata: StrictBool | None = Field(None, description="As it is.")


def changed_request(job: Job, patch: JobPatch, caller: Principal) -> IngestRequest:
    """The request of a job with a change.

    Raises:
        InvalidRequest: With everything that is wrong with the form, or cannot be changed.
        NotAllowed: The owner is changed by who is no administrator.
    """
    sent = patch.model_dump(exclude_unset=True)
    if "paused" in sent and sent.pop("paused") is None:
        raise InvalidRequest.one("/paused", "wrong-type", "`paused` must be true or false.")
    owner = sent.get("owner_id") or job.owner_id
    if owner != job.owner_id and not caller.is_admin:
        raise NotAllowed(
            "Only the role ingest-admin may change the owner of a job.", guidance="Leave owner_id out."
        )
    before = request_as_sent(job.request)
    known = {name: value for name, value in before.items() if name in IngestBody.model_fields}
    fixed = {name: sent[name] for name in FIXED if sent.get(name) is not None}
    whole = known | {"source_config": {}} | {n: v for n, v in sent.items() if n not in FIXED} | fixed
    try:
        # through JSON: the stored request has tuples, where a body has lists
        body = IngestBody.model_validate(msgspec.json.decode(msgspec.json.encode(whole)))
    except ValidationError as e:
        raise InvalidRequest(body_problems(e, IngestBody)) from None
    request = body.as_request(owner)
    problems = [
        Problem(f"/{name}", "cannot-change", f"`{name}` of a job cannot be changed.", FIXED[name])
        for name in fixed
        if getattr(request, name) != getattr(job.request, name)
    ]
    if problems:
        raise InvalidRequest(problems)
    kept = {name: getattr(job.request, name) for name in (*FIXED, "connector", "governance")}
    return msgspec.structs.replace(request, **kept)
