"""Jobs at rest: asked for, listed, cancelled, and what happened to them; receipts of those that ended.

Every write locks one row first, so that jobs change one after the other on SQLite and on PostgreSQL alike. Whoever
reads puts right what a dead worker left: a job is running only while its lease holds.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, select, text

from catalog.errors import LanewiseError, NotFound
from planner.jobqueue.ask import VerifyAsk
from planner.jobqueue.job import (
    Job,
    JobEvent,
    JobPage,
    JobStep,
    Kind,
    Progress,
    ReceiptPage,
    State,
    StepState,
    StoredReceipt,
)
from planner.jobqueue.tables import EVENTS, JOBS, LOGS, RECEIPTS
from planner.store import CHANGES, Store

ATTEMPTS = 3
"""After which a job whose workers die is lost: it may be what kills them (assumed)."""
MOST_QUEUED = 100
"""Jobs that may wait (assumed)."""
ID = re.compile(r"[0-9a-f]{16}")
STEP = re.compile(r"[^\0\ud800-\udfff]{1,128}")
SILENT = "its worker stopped before it ended"
SHOWN = [each for each in JOBS.c if each.name not in ("ask", "token", "place", "content", "lease_until")]


class Full(LanewiseError):
    """Too many jobs wait."""


@dataclass(frozen=True)
class Turn:
    """One writer's turn: its transaction, and the time in seconds since 1970 by the database's clock."""

    connection: Connection
    now: float

    @property
    def at(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).isoformat(timespec="seconds")

    def event(self, job: str, kind: Kind, data: dict[str, Any]) -> None:
        """Write down what happened."""
        last = select(func.max(EVENTS.c.number)).where(EVENTS.c.job == job)
        number = (self.connection.scalar(last) or 0) + 1
        row = {"job": job, "number": number, "at": self.at, "kind": kind, "document": msgspec.json.encode(data)}
        self.connection.execute(EVENTS.insert().values(row))

    def change(self, job: str, **values: Any) -> None:
        """Change a job's row."""
        self.connection.execute(JOBS.update().where(JOBS.c.id == job).values(**values))

    def put(self, job: str, state: State, because: str = "", **values: Any) -> None:
        """A job into a state that no worker holds; `values` = other columns."""
        free: dict[str, Any] = {
            "token": None,
            "lease_until": None,
            "place": None,
            "progress": None,
            "cancelling": False,
        }
        ended_at = None if state == "queued" else self.at
        self.change(job, state=state, because=because, ended_at=ended_at, **(free | values))
        told: dict[str, Any] = {name: values[name] for name in ("verdict", "receipt_id") if name in values}
        self.event(job, "job", {"state": state, "because": because, **told})


class Book:
    """Jobs and receipts of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """A transaction in which no other writer of jobs is."""
        with self._store.writing() as connection:
            connection.execute(select(CHANGES.c.number).where(CHANGES.c.name == JOBS.name).with_for_update())
            yield Turn(connection, clock(connection))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection, after every lease that ran out has been put right."""
        with self._store.reading() as connection:
            gone = _silent(clock(connection))
            found = connection.scalar(select(func.count()).select_from(JOBS).where(gone))
        if found:
            with self.turn() as turn:
                settle(turn, _silent(turn.now))
        with self._store.reading() as connection:
            yield connection

    def add(self, plan_id: str, lane: str, ask: VerifyAsk) -> Job:
        """A new job at the end of the queue; the one that waits or runs already, where the same was asked.

        Raises Full.
        """
        document = msgspec.json.encode(ask, order="deterministic")
        content = hashlib.sha256(plan_id.encode() + b"\0" + document).hexdigest()
        with self.turn() as turn:
            live = JOBS.c.state.in_(("queued", "running"))
            same = select(JOBS.c.id).where(live, JOBS.c.content == content, JOBS.c.cancelling.is_(False))
            key: str | None = turn.connection.scalar(same)
            if key is None:
                waiting = turn.connection.scalar(select(func.count()).select_from(JOBS).where(live)) or 0
                if waiting >= MOST_QUEUED:
                    raise Full(f"{waiting} jobs wait already: cancel some, or start a worker")
                key = secrets.token_hex(8)
                row = {"id": key, "plan_id": plan_id, "lane": lane, "recipe": ask.recipe, "content": content}
                fresh = {"state": "queued", "because": "", "attempts": 0, "cancelling": False, "created_at": turn.at}
                turn.connection.execute(JOBS.insert().values(row | fresh | {"ask": document, "steps": b"[]"}))
                turn.event(key, "job", {"state": "queued", "because": ""})
        return self.get(key)

    def get(self, job: str) -> Job:
        """One job as it is now. Raises NotFound."""
        with self.reading() as connection:
            return _job(_row(connection, job))

    def page(self, limit: int = 20, offset: int = 0, plan_id: str | None = None) -> JobPage:
        """One page of jobs, newest first, optionally of one plan."""
        matches = JOBS.c.plan_id == plan_id if plan_id is not None else JOBS.c.number > 0
        rows = select(*SHOWN).where(matches).order_by(JOBS.c.number.desc()).limit(limit).offset(offset)
        with self.reading() as connection:
            total = connection.scalar(select(func.count()).select_from(JOBS).where(matches)) or 0
            jobs = tuple(_job(row) for row in connection.execute(rows))
        return JobPage(jobs=jobs, total=total, limit=limit, offset=offset)

    def cancel(self, job: str) -> Job:
        """End a job: at once where it waits, within seconds where it runs; one that ended stays. Raises NotFound."""
        with self.turn() as turn:
            settle(turn, _silent(turn.now))
            found = _row(turn.connection, job)
            if found.state == "queued":
                turn.put(job, "cancelled", "before it began")
            elif found.state == "running" and not found.cancelling:
                turn.change(job, cancelling=True)
                turn.event(job, "job", {"state": "running", "because": "it is being cancelled"})
        return self.get(job)

    def news(self, job: str, after: int = 0) -> tuple[Job, tuple[JobEvent, ...]]:
        """A job as it is now, and what happened to it after the event of that number. Raises NotFound."""
        with self.reading() as connection:
            found = _job(_row(connection, job))  # before the events: a job that ended has its last one
            later = select(EVENTS).where(EVENTS.c.job == job, EVENTS.c.number > after).order_by(EVENTS.c.number)
            events = tuple(_event(row) for row in connection.execute(later))
        return found, events

    def log(self, job: str, step: str, stream: str = "stderr") -> bytes:
        """The end of what a step printed. Raises NotFound."""
        with self.reading() as connection:
            _row(connection, job)
            wanted = select(LOGS.c[stream]).where(LOGS.c.job == job, LOGS.c.step == step)
            content: bytes | None = connection.scalar(wanted) if STEP.fullmatch(step) else None
        if content is None:
            raise NotFound(f"job {job!r} has no log of a step {step!r}")
        return bytes(content)

    def receipt(self, key: str) -> bytes:
        """One receipt, byte for byte as the run wrote it. Raises NotFound."""
        with self._store.reading() as connection:
            wanted = select(RECEIPTS.c.document).where(RECEIPTS.c.id == key)
            document: bytes | None = connection.scalar(wanted) if ID.fullmatch(key) else None
        if document is None:
            raise NotFound(f"no receipt {key!r} is stored")
        return bytes(document)

    def receipts(self, limit: int = 20, offset: int = 0, plan_id: str | None = None) -> ReceiptPage:
        """One page of receipts, newest first, optionally of one plan."""
        matches = RECEIPTS.c.plan_id == plan_id if plan_id is not None else RECEIPTS.c.number > 0
        rows = select(RECEIPTS).where(matches).order_by(RECEIPTS.c.number.desc()).limit(limit).offset(offset)
        with self._store.reading() as connection:
            total = connection.scalar(select(func.count()).select_from(RECEIPTS).where(matches)) or 0
            found = tuple(_stored(row) for row in connection.execute(rows))
        return ReceiptPage(receipts=found, total=total, limit=limit, offset=offset)


def clock(connection: Connection) -> float:
    """Seconds since 1970 by the database: machines that share it need not agree on the time."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def _silent(now: float) -> ColumnElement[bool]:
    """Jobs whose worker has let its lease run out."""
    return (JOBS.c.state == "running") & (JOBS.c.lease_until < now)


def settle(turn: Turn, matches: ColumnElement[bool]) -> None:
    """Running jobs that nobody runs: cancelled where that was asked, back into the queue, lost after some attempts."""
    for row in turn.connection.execute(select(*SHOWN).where(matches)).all():
        if row.cancelling:
            turn.put(row.id, "cancelled", SILENT, steps=_stopped(row.steps, "cancelled"))
        elif row.attempts >= ATTEMPTS:
            turn.put(row.id, "lost", f"{SILENT}, {row.attempts} times", steps=_stopped(row.steps, "cancelled"))
        else:
            because = f"{SILENT}; the next one goes on where it was"
            turn.put(row.id, "queued", because, steps=_stopped(row.steps, "waiting"))


def _stopped(steps: bytes, state: StepState) -> bytes:
    """Steps of which none runs any more; unless they wait again, none of an ended job waits."""
    become: dict[str, StepState] = {"running": state, "waiting": "waiting" if state == "waiting" else "not run"}
    found = msgspec.json.decode(steps, type=tuple[JobStep, ...])
    return msgspec.json.encode(
        [msgspec.structs.replace(each, state=become.get(each.state, each.state)) for each in found]
    )


def _row(connection: Connection, job: str) -> Row[Any]:
    wanted = select(*SHOWN).where(JOBS.c.id == job)
    row = connection.execute(wanted).one_or_none() if ID.fullmatch(job) else None
    if row is None:
        raise NotFound(f"no job {job!r} is stored")
    return row


def _job(row: Row[Any]) -> Job:
    values = {name: getattr(row, name) for name in Job.__struct_fields__}
    values["steps"] = msgspec.json.decode(row.steps, type=tuple[JobStep, ...])
    values["progress"] = None if row.progress is None else msgspec.json.decode(row.progress, type=Progress)
    return Job(**values)


def _event(row: Row[Any]) -> JobEvent:
    return JobEvent(number=row.number, at=row.at, kind=row.kind, data=msgspec.json.decode(row.document))


def _stored(row: Row[Any]) -> StoredReceipt:
    return StoredReceipt(**{name: getattr(row, name) for name in StoredReceipt.__struct_fields__})
