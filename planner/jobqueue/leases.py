"""A worker's side of the book: it holds one job by a token, until it lets go or its lease runs out.

Every write names the token. A worker that was silent for too long finds that its token is nobody's, and writes nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import CursorResult, select

from planner.jobqueue.ask import VerifyAsk
from planner.jobqueue.book import Book, Turn, settle
from planner.jobqueue.job import JobStep, Kind, Progress, State
from planner.jobqueue.tables import JOBS, LOGS, RECEIPTS
from planner.proving.receipt import Receipt

Told = tuple[Kind, dict[str, Any]]
"""An event before it has a number."""
Word = Literal["go on", "cancel", "gone"]


class Lease(Struct, frozen=True, kw_only=True):
    """One job that is ours for a while."""

    job: str
    token: str
    plan_id: str
    ask: VerifyAsk
    attempt: int


class Holder(Struct, frozen=True, kw_only=True):
    """Who works: a machine by its name, and the folder in which one worker at a time works."""

    machine: str
    place: str
    lease_s: float


class News(Struct, kw_only=True):
    """What a worker writes down with its next sign of life."""

    steps: tuple[JobStep, ...] = ()
    progress: Progress | None = None
    events: list[Told] = []
    logs: dict[str, tuple[bytes, bytes]] = {}
    """Step -> ends of standard error and of standard output."""


def claim(book: Book, holder: Holder) -> Lease | None:
    """The oldest job that waits, now ours; None without one. Call it while nobody else works in the holder's place:
    what is still running there was left by a worker that is dead."""
    with book.turn() as turn:
        left = (JOBS.c.state == "running") & ((JOBS.c.lease_until < turn.now) | (JOBS.c.place == holder.place))
        settle(turn, left)
        wanted = select(JOBS).where(JOBS.c.state == "queued").order_by(JOBS.c.number).limit(1)
        row = turn.connection.execute(wanted).one_or_none()
        if row is None:
            return None
        token, attempt = secrets.token_hex(16), row.attempts + 1
        turn.change(
            row.id, state="running", because="", token=token, attempts=attempt, worker=holder.machine,
            place=holder.place, lease_until=turn.now + holder.lease_s, started_at=row.started_at or turn.at,
        )  # fmt: skip
        turn.event(row.id, "job", {"state": "running", "attempt": attempt, "worker": holder.machine})
        ask = msgspec.json.decode(row.ask, type=VerifyAsk)
        return Lease(job=row.id, token=token, plan_id=row.plan_id, ask=ask, attempt=attempt)


def beat(book: Book, lease: Lease, lease_s: float, news: News) -> Word:
    """A sign of life, with what happened since the last. `gone`: the job is no longer ours, and nothing was written."""
    with book.turn() as turn:
        if not _ours(turn, lease, lease_until=turn.now + lease_s):
            return "gone"
        _write(turn, lease, news)
        asked = turn.connection.scalar(select(JOBS.c.cancelling).where(JOBS.c.id == lease.job))
        return "cancel" if asked else "go on"


def _ours(turn: Turn, lease: Lease, **values: Any) -> bool:
    """Change the job if it is ours; whether it is."""
    mine = (JOBS.c.id == lease.job) & (JOBS.c.token == lease.token) & (JOBS.c.state == "running")
    changed: CursorResult[Any] = turn.connection.execute(JOBS.update().where(mine).values(**values))
    return changed.rowcount == 1


def _write(turn: Turn, lease: Lease, news: News) -> None:
    progress = None if news.progress is None else msgspec.json.encode(news.progress)
    turn.change(lease.job, steps=msgspec.json.encode(news.steps), progress=progress)
    _tell(turn, lease, news.events)
    _logs(turn, lease, news.logs)


def _tell(turn: Turn, lease: Lease, events: Iterable[Told]) -> None:
    for kind, data in events:
        turn.event(lease.job, kind, data)


def _logs(turn: Turn, lease: Lease, logs: Mapping[str, tuple[bytes, bytes]]) -> None:
    for step, (stderr, stdout) in logs.items():
        turn.connection.execute(LOGS.delete().where(LOGS.c.job == lease.job, LOGS.c.step == step))
        row = {"job": lease.job, "step": step, "stderr": stderr, "stdout": stdout}
        turn.connection.execute(LOGS.insert().values(row))


def finish(
    book: Book, lease: Lease, ending: tuple[State, str], news: News, receipt: tuple[Receipt, bytes] | None = None
) -> bool:
    """The job's end with its receipt, in one transaction; False, and nothing is written, where it is no longer ours."""
    state, because = ending
    with book.turn() as turn:
        if not _ours(turn, lease, token=lease.token):
            return False
        _write(turn, lease, news)
        found = {} if receipt is None else _keep(turn, lease, *receipt)
        turn.put(lease.job, state, because, **found)
        return True


def _keep(turn: Turn, lease: Lease, receipt: Receipt, document: bytes) -> dict[str, str]:
    key = hashlib.sha256(lease.job.encode() + document).hexdigest()[:16]
    row = {"id": key, "job": lease.job, "plan_id": lease.plan_id, "stored_at": turn.at, "document": document}
    about = {name: getattr(receipt, name) for name in ("lane", "engine", "ended", "verdict")}
    turn.connection.execute(RECEIPTS.insert().values(row | about))
    return {"verdict": receipt.verdict, "receipt_id": key}


def release(book: Book, lease: Lease, *, counts: bool) -> None:
    """Back into the queue, for the next worker; `counts`: as an attempt, after some of which a job is lost."""
    with book.turn() as turn:
        if _ours(turn, lease, attempts=lease.attempt if counts else lease.attempt - 1):
            settle(turn, JOBS.c.id == lease.job)
