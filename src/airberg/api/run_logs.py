"""Logs of runs over HTTP: pages, text, and live as server-sent events.

Who follows a log holds no thread: the store is asked now and then, for what is new. A connection that its
client has closed is noticed by the server at once, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import anyio
from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from airberg.api.accepted import preferred
from airberg.api.paging import link_next
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms
from airberg.api.slots import Slots
from airberg.errors import NotFound, Unavailable
from airberg.identity.principal import Principal
from airberg.jobs.model import Run
from airberg.jobs.run_logs import StoredLine, text_of

router = APIRouter(tags=["runs"], responses=PROBLEM_RESPONSES)
log = logging.getLogger(__name__)

JSON, TEXT, EVENTS = "application/json", "text/plain", "text/event-stream"
ASK_EVERY_S = 1.0
HEARTBEAT_S = 15.0
"""Proxies close connections on which nothing is said. Then it is also looked at whether the caller may still
see the run."""
FOLLOW_S = 3600.0
"""A connection is ended after so long: the client comes back with a token that still holds."""
COME_BACK_MS = 3000
LINES_AT_ONCE = 1000
_ANY_NUMBER = 2**62
_EXAMPLE_OF_TEXT = "2026-03-29T12:00:21.482Z INFO    airberg.sync.run: completed: 3 rows written, 0 deleted\n"
_EXAMPLE_OF_EVENTS = """\
data: {"seq":12,"at":"2026-03-29T12:00:21.482Z","level":"INFO","logger":"airberg.sync.run",\
"message":"completed: 3 rows written, 0 deleted","attempt":1}
id: 12

event: end
data: {"status":"completed","error_code":null}

"""
_PRIVATE = {"Cache-Control": "no-store"}


class LogLineView(BaseModel):
    """A line of the log of a run. Its message may have several lines of text."""

    model_config = ConfigDict(extra="forbid")

    seq: int = Field(description="Number of the line in the log of its run, from 1.")
    at: datetime
    level: str = Field(examples=["INFO"])
    logger: str = Field(description="Which part of Airberg; `airberg.connector` for what the connector says.")
    message: str
    attempt: int = Field(description="Attempt of the run that wrote it.")


Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"], Query(description="Only lines of this level or above.")
]
After = Annotated[int, Query(ge=0, le=_ANY_NUMBER, description="Only lines with higher numbers.")]
Before = Annotated[int | None, Query(ge=1, le=_ANY_NUMBER, description="Only lines with lower numbers.")]
Limit = Annotated[int, Query(ge=1, le=5_000, description="So many lines at most.")]
Tail = Annotated[
    int | None, Query(ge=0, le=5_000, description="Only so many of the last lines; live: begin with them.")
]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=_ANY_NUMBER, description="Live: go on behind the line of this number."),
]


@router.get(
    "/api/runs/{run_id}/logs",
    response_model=list[LogLineView],
    responses={
        200: {
            "description": "The lines. Accept chooses the form: JSON, text, or server-sent events.",
            "content": {
                TEXT: {"schema": {"type": "string"}, "example": _EXAMPLE_OF_TEXT},
                EVENTS: {"schema": {"type": "string"}, "example": _EXAMPLE_OF_EVENTS},
            },
        },
        204: {"description": "Live, with Last-Event-ID: the run has ended, and there is nothing more."},
    },
)
def read_log(
    request: Request,
    run_id: UUID,
    caller: Reads,
    after: After = 0,
    before: Before = None,
    limit: Limit = 1_000,
    level: Level = "DEBUG",
    tail: Tail = None,
    last_event_id: LastEventId = None,
) -> Response:
    """The log of a run, over all its attempts: a page of lines, or live until the run has ended."""
    rooms = Rooms(request)
    run, _ = rooms.run(run_id, caller)
    min_level = logging.getLevelNamesMapping()[level]
    form = preferred(request.headers.get("accept", ""), (JSON, TEXT, EVENTS))
    if form == EVENTS:
        following = _Following(rooms, run_id, caller, min_level)
        start = following.start(after, tail) if last_event_id is None else last_event_id
        if last_event_id is not None and run.status.ended and not following.read(last_event_id):
            return Response(status_code=204, headers=_PRIVATE)
        return _FollowedLog(following.events(start), request.app.state.log_followers)
    count = limit if tail is None else min(limit, tail)
    found = rooms.store.run_logs.read(
        run_id, after=after, before=before, limit=count + 1, min_level=min_level, newest=tail is not None
    )
    page = found[:count] if tail is None else found[max(len(found) - count, 0) :]
    answer = _page(page, form)
    if tail is None and len(found) > count:
        link_next(request, answer, after=page[-1].seq)
    return answer


def _page(lines: Sequence[StoredLine], form: str) -> Response:
    if form == TEXT:
        return PlainTextResponse("".join(f"{text_of(line)}\n" for line in lines), headers=_PRIVATE)
    return JSONResponse([_view(line).model_dump(mode="json") for line in lines], headers=_PRIVATE)


def _view(line: StoredLine) -> LogLineView:
    return LogLineView(
        seq=line.seq,
        at=line.at,
        level=logging.getLevelName(line.level),
        logger=line.logger,
        message=line.message,
        attempt=line.attempt,
    )


# ---- live ------------------------------------------------------------------------------------------------


class _Following:
    """One client that follows the log of a run."""

    def __init__(self, rooms: Rooms, run_id: UUID, caller: Principal, min_level: int) -> None:
        self._rooms = rooms
        self._run_id = run_id
        self._caller = caller
        self._min_level = min_level

    def read(self, after: int) -> Sequence[StoredLine]:
        """What is new."""
        logs = self._rooms.store.run_logs
        return logs.read(self._run_id, after=after, limit=LINES_AT_ONCE, min_level=self._min_level)

    def start(self, after: int, tail: int | None) -> int:
        """The number of the line before the first that is wanted."""
        if tail is None:
            return after
        lines = self._rooms.store.run_logs.read(
            self._run_id, after=after, limit=max(tail, 1), min_level=self._min_level, newest=True
        )
        if not lines:
            return after
        return lines[0].seq - 1 if tail else lines[-1].seq

    async def events(self, position: int) -> AsyncGenerator[bytes]:
        """Lines as they come, a comment now and then, and the event `end` when the run has ended.

        Without an `end` the client comes back, and goes on behind the last line that it has; or is told
        then why it may not.
        """
        yield format_sse_event(retry=COME_BACK_MS)
        ends_at = time.monotonic() + FOLLOW_S
        said_at = looked_at = time.monotonic()
        while (now := time.monotonic()) < ends_at:
            run: Run | None = None
            lines: Sequence[StoredLine] = ()
            try:
                if now - looked_at >= HEARTBEAT_S:
                    await run_in_threadpool(self._rooms.run, self._run_id, self._caller)
                    looked_at = now
                # In this order: a run's last lines are stored before its end is.
                run = await run_in_threadpool(self._rooms.store.run, self._run_id)
                lines = await run_in_threadpool(self.read, position)
            except NotFound:
                return  # the caller may not see it any more
            except Unavailable as e:
                log.debug("the log of run %s is followed on later: %s", self._run_id, e.message)
            if lines:
                position, said_at = lines[-1].seq, now
                yield b"".join(map(_event, lines))
            elif run is not None and run.status.ended:
                yield _end(run)
                return
            elif now - said_at >= HEARTBEAT_S:
                said_at = now
                yield KEEPALIVE_COMMENT
            if len(lines) < LINES_AT_ONCE:
                await anyio.sleep(ASK_EVERY_S)


def _event(line: StoredLine) -> bytes:
    return format_sse_event(data_str=_view(line).model_dump_json(), id=str(line.seq))


def _end(run: Run) -> bytes:
    status = JSONResponse({"status": run.status.value, "error_code": run.error_code}).body
    return format_sse_event(event="end", data_str=bytes(status).decode())


class _FollowedLog(StreamingResponse):
    """Server-sent events, as long as there is room for one more follower.

    The place is taken when the answer begins and given back whatever ends it. The server cancels the answer
    when the client closes the connection.
    """

    media_type = EVENTS

    def __init__(self, events: AsyncGenerator[bytes], followers: Slots) -> None:
        super().__init__(events, headers=_PRIVATE | {"X-Accel-Buffering": "no"})
        self._events = events
        self._followers = followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._followers.one():
            async with contextlib.aclosing(self._events):
                await super().__call__(scope, receive, send)
