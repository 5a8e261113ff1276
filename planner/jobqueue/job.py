"""A job as callers see it: its state, its steps, what happened to it. Pure data."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
"""`lost`: its workers died as often as a job is begun; nobody begins it again."""
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "lost")
StepState = Literal["waiting", "running", "done", "kept", "failed", "refused", "cancelled", "not run"]
Kind = Literal["job", "step", "note"]


class JobStep(Struct, frozen=True, kw_only=True):
    """One step of the job's program."""

    id: str
    does: str
    state: StepState = "waiting"
    because: str = ""
    expected_s: float
    seconds: float = 0.0


class Progress(Struct, frozen=True, kw_only=True):
    """The step that runs: seconds so far, the end of its log."""

    step: str
    seconds: float
    tail: str = ""


class Job(Struct, frozen=True, kw_only=True):
    """One verification that was asked for."""

    id: str
    plan_id: str
    lane: str
    recipe: str | None
    state: State
    because: str
    """Of the state, where it needs a reason."""
    cancelling: bool
    """Somebody asked to end it, and its worker has not done so yet."""
    created_at: str
    started_at: str | None
    ended_at: str | None
    attempts: int
    """How often a worker began it."""
    worker: str | None
    """The machine that runs it, or ran it last."""
    steps: tuple[JobStep, ...]
    """Empty until a worker has made the program."""
    progress: Progress | None
    verdict: str | None
    receipt_id: str | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class JobPage(Struct, frozen=True, kw_only=True):
    """Newest first; `total` counts all that match, not those on this page."""

    jobs: tuple[Job, ...]
    total: int
    limit: int
    offset: int


class JobEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to a job; numbers of a job's events have no gaps."""

    number: int
    at: str
    kind: Kind
    data: dict[str, Any]


class StoredReceipt(Struct, frozen=True, kw_only=True):
    """One line of the list of receipts."""

    id: str
    job: str
    plan_id: str
    stored_at: str
    lane: str
    engine: str
    ended: str
    verdict: str


class ReceiptPage(Struct, frozen=True, kw_only=True):
    """Newest first; `total` counts all that match, not those on this page."""

    receipts: tuple[StoredReceipt, ...]
    total: int
    limit: int
    offset: int
