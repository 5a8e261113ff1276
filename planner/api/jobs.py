"""Verifications as jobs: asked for, looked on, cancelled. A worker runs them (`planner/jobqueue/worker.py`)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from litestar import MediaType, Response, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, HeaderParameter, QueryParameter, RawBody
from litestar.response import ServerSentEvent, ServerSentEventMessage

from catalog.errors import BadInput, NotFound
from planner import service
from planner.api import job_schema
from planner.jobqueue import ask
from planner.jobqueue.book import Book, Full
from planner.jobqueue.job import JobEvent, Progress
from planner.plan import Plan
from planner.store import Store

LOOK_S = 0.5
"""Between two looks for news of one stream (assumed)."""
QUIET_S = 15.0
"""After which a stream without news says that it is alive (assumed)."""
PLAN_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
NUMBER = re.compile(r"[0-9]{1,9}")

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="jobs per page")]
Offset = Annotated[int, QueryParameter(ge=0, le=2**31, description="jobs to skip")]
OfPlan = Annotated[str | None, QueryParameter(name="plan_id", description="those of this plan")]
Stream = Annotated[Literal["stderr", "stdout"], QueryParameter(description="which of the two the step printed to")]
LastEvent = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="the number of the last event that was seen"),
]


@post(
    "/plans/{plan_id:str}/verify",
    status_code=202,
    sync_to_thread=True,
    operation_class=job_schema.VerifyOperation,
    tags=["jobs"],
)
def verify(plan_id: FromPath[str], body: RawBody, state: State) -> Response[bytes]:
    """Ask for a plan's proof; the same question while it waits or runs is the same job."""
    asked = ask.decode(body)
    store: Store = state.store
    if not PLAN_ID.fullmatch(plan_id):
        raise NotFound(f"no plan {plan_id!r} is stored")
    plan = msgspec.json.decode(store.get(plan_id), type=Plan)
    candidate = ask.checked(plan, asked, state.settings)
    job = Book(store).add(plan_id, candidate.lane, asked)
    return Response(service.encode(job), media_type=MediaType.JSON, status_code=202)


@get(sync_to_thread=True, operation_class=job_schema.JobsOperation, tags=["jobs"])
def listed(state: State, limit: Limit = 20, offset: Offset = 0, plan_id: OfPlan = None) -> Response[bytes]:
    """Jobs, newest first."""
    return _document(Book(state.store).page(limit, offset, known(plan_id)))


@get("/{job_id:str}", sync_to_thread=True, operation_class=job_schema.JobOperation, tags=["jobs"])
def shown(job_id: FromPath[str], state: State) -> Response[bytes]:
    """One job with its steps, as it is now."""
    return _document(Book(state.store).get(job_id))


@delete(
    "/{job_id:str}", status_code=202, sync_to_thread=True, operation_class=job_schema.CancelOperation, tags=["jobs"]
)
def cancel(job_id: FromPath[str], state: State) -> Response[bytes]:
    """End a job: at once where it waits, within seconds where it runs; one that has ended stays as it is."""
    return _document(Book(state.store).cancel(job_id), 202)


@get(
    "/{job_id:str}/logs/{step:str}",
    sync_to_thread=True,
    media_type="text/plain",
    operation_class=job_schema.LogOperation,
    tags=["jobs"],
)
def log(job_id: FromPath[str], step: FromPath[str], state: State, stream: Stream = "stderr") -> Response[bytes]:
    """The end of what one step printed, at most 64 KiB."""
    headers = {"X-Content-Type-Options": "nosniff"}
    content = Book(state.store).log(job_id, step, stream)
    return Response(content, media_type="text/plain", headers=headers)


@get(
    "/{job_id:str}/events",
    media_type="text/event-stream",
    operation_class=job_schema.EventsOperation,
    tags=["jobs"],
)
async def events(job_id: FromPath[str], state: State, last_event: LastEvent = None) -> ServerSentEvent:
    """What happens to a job, as server-sent events; ends when the job does. With Last-Event-ID it goes on after it."""
    if last_event and not NUMBER.fullmatch(last_event):
        raise BadInput("expected the number of an event", "Last-Event-ID")
    book = Book(state.store)
    await asyncio.to_thread(book.get, job_id)
    return ServerSentEvent(_stream(book, job_id, int(last_event or 0)))


async def _stream(book: Book, job_id: str, after: int) -> AsyncIterator[ServerSentEventMessage]:
    """Events with their numbers, and without one, so that it is not gone on from, how far the running step is."""
    said: Progress | None = None
    last = time.monotonic()
    while True:
        job, new = await asyncio.to_thread(book.news, job_id, after)
        for event in new:
            after, last = event.number, time.monotonic()
            yield _message(event)
        if job.ended:
            return
        if job.progress is not None and job.progress != said:
            said, last = job.progress, time.monotonic()
            yield ServerSentEventMessage(event="progress", data=msgspec.json.encode(said).decode())
        elif time.monotonic() - last > QUIET_S:
            last = time.monotonic()
            yield ServerSentEventMessage(comment="alive", data=None)
        await asyncio.sleep(LOOK_S)


def _message(event: JobEvent) -> ServerSentEventMessage:
    data = msgspec.json.encode({"at": event.at, **event.data}).decode()
    return ServerSentEventMessage(event=event.kind, id=event.number, data=data)


def known(plan_id: str | None) -> str | None:
    """A plan's id as a filter; one that no plan has matches nothing."""
    return plan_id if plan_id is None or PLAN_ID.fullmatch(plan_id) else "-"


def full(_request: Any, error: Full) -> Response[dict[str, str]]:
    """Too many jobs wait: the caller may try again later."""
    return Response({"detail": str(error)}, status_code=429, headers={"Retry-After": "60"})


def _document(value: object, status: int = 200) -> Response[bytes]:
    return Response(service.encode(value), media_type=MediaType.JSON, status_code=status)


ROUTES: tuple[Any, ...] = (verify, Router("/jobs", route_handlers=[listed, shown, cancel, log, events]))
