"""Takes jobs from the book, one at a time in its place, and runs each in a process of its own.

That process ends with us, however we end (`planner/running/processes.py`); we end it when the job is cancelled, when
the lease is no longer ours, and when we are told to stop: the job then waits for the next worker, which keeps
finished steps.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from catalog.errors import LanewiseError
from planner.jobqueue import ask as asks
from planner.jobqueue import leases
from planner.jobqueue.book import Book
from planner.jobqueue.child import work_of
from planner.jobqueue.job import State
from planner.jobqueue.leases import Holder, Lease
from planner.jobqueue.place import Place
from planner.jobqueue.reading import Told
from planner.plan import Plan
from planner.proving import recipe
from planner.proving.receipt import Receipt
from planner.running import processes, verify
from planner.settings import Settings, to_environment
from planner.store import Store

CHILD = (sys.executable, "-m", "planner.jobqueue.child")
LEASE_S = 30.0
"""A worker that was silent for so long is taken for dead (assumed)."""
FENCE = 0.6
"""Share of the lease after which a worker that cannot reach the database ends its job, before another one begins it."""
BEAT_S = 1.0
"""Between two signs of life, and the longest until a cancelled job is noticed."""
TICK_S = 0.1
IDLE_S = 1.0
"""Between two looks into an empty queue."""
STATES: dict[str, State] = {
    "finished": "done", "decided": "done", "out of budget": "done", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip
"""How a run ended -> the job's state."""
Ended = Literal["by itself", "cancel", "gone", "stopped"]


@dataclass(kw_only=True)
class Worker:
    """One worker: whose jobs, where, and how it starts the process of one."""

    store: Store
    place: Place
    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)
    child: tuple[str, ...] = field(default_factory=lambda: CHILD)
    machine: str = field(default_factory=platform.node)
    lease_s: float = field(default_factory=lambda: LEASE_S)
    beat_s: float = BEAT_S
    tidy: bool = False
    """Whether nothing can be left of a worker that was here before."""
    owed: Lease | None = None
    """A job that was ended because the database did not answer: no attempt of its own."""

    @property
    def book(self) -> Book:
        return Book(self.store)

    def work(self, *, once: bool = False) -> int:
        """Job after job until told to stop, or with `once` until none waits; how many were begun."""
        begun = 0
        while not self.stop.is_set():
            try:
                found = self._next()
            except SQLAlchemyError as fault:
                print(f"lanewise: the database does not answer: {fault.__class__.__name__}", file=sys.stderr)
                found = False
            begun += found
            if not found:
                if once:
                    break
                self.stop.wait(IDLE_S)
        return begun

    def _next(self) -> bool:
        """Run one job if one waits and nobody else works in this place."""
        with self.place.taken() as mark:
            if mark is None:
                self.tidy = False
                return False
            if not self.tidy:
                self.place.sweep(mark)
                self.tidy = True
            holder = Holder(machine=self.machine[:128], place=mark, lease_s=self.lease_s)
            if self.owed is not None:
                leases.release(self.book, self.owed, counts=False)
                self.owed = None
            lease = leases.claim(self.book, holder)
            if lease is None:
                return False
            _Turn(self, lease, mark).run()
            return True


class _Turn:
    """One job, from its claim to its end."""

    def __init__(self, worker: Worker, lease: Lease, mark: str) -> None:
        self._worker, self._lease, self._mark = worker, lease, mark
        self._told = Told()
        self._held = time.monotonic()
        """When the database last said that the job is ours."""

    def run(self) -> None:
        """Prepare, start, look on, write down how it ended."""
        try:
            process, run = self._started()
        except LanewiseError as fault:
            self._finish("failed", str(fault))
            return
        ended: Ended = "stopped"
        try:
            ended = self._looked_on(process)
        finally:
            if process.poll() is None:
                processes.end(process, self._mark)
            processes.close(process)
            self._worker.place.sweep(self._mark)
        self._told.read(self._out)
        self._settled(ended, process.returncode, run)

    @property
    def _out(self) -> Path:
        return self._worker.place.job / "out"

    def _started(self) -> tuple[subprocess.Popen[bytes], Path]:
        """The process of the job and its run's folder. Raises LanewiseError."""
        own, place, lease = self._worker.settings, self._worker.place, self._lease
        document = self._worker.store.get(lease.plan_id)
        plan = msgspec.json.decode(document, type=Plan)
        choice = asks.choice(lease.ask, place.uploads, own.texts_dir)
        candidate = recipe.candidate_of(plan, choice.lane)
        run = place.runs / verify.default_folder(plan, candidate, choice).relative_to(verify.RUNS)
        self._told.logs = run / "logs"
        place.begin(run)
        try:
            (run / verify.RECEIPT).unlink(missing_ok=True)
            given = place.job / "job.json"
            given.write_bytes(msgspec.json.encode(work_of(plan, document, run, choice)))
            env = processes.own_environment(to_environment(own), self._mark)
            logs = (self._out, place.job / "log")
            return processes.start([*self._worker.child, str(given)], env, Path.cwd(), logs), run
        except OSError as fault:
            raise LanewiseError(f"the job cannot be started: {fault}") from fault

    def _looked_on(self, process: subprocess.Popen[bytes]) -> Ended:
        """Until it ends by itself or has to."""
        due = 0.0
        while process.poll() is None:
            if self._worker.stop.wait(TICK_S):
                return "stopped"
            self._told.read(self._out)
            if time.monotonic() >= due or self._told.events:
                due = time.monotonic() + self._worker.beat_s
                word = self._beat()
                if word != "go on":
                    return word
        return "by itself"

    def _beat(self) -> leases.Word:
        """What the database says; `gone` too where it has said nothing for most of the lease."""
        news, before = self._told.news(), time.monotonic()
        try:
            word = leases.beat(self._worker.book, self._lease, self._worker.lease_s, news)
        except SQLAlchemyError:
            self._told.events[:0] = news.events
            return "gone" if self._fenced() else "go on"
        self._held = before
        return word

    def _fenced(self) -> bool:
        return time.monotonic() - self._held > FENCE * self._worker.lease_s

    def _settled(self, ended: Ended, code: int, run: Path) -> None:
        """Write down how it ended."""
        if ended == "gone":
            self._worker.owed = self._lease
        elif ended == "stopped":
            self._patiently(lambda: leases.release(self._worker.book, self._lease, counts=False))
        elif ended == "cancel":
            self._finish("cancelled", "it was asked for", _receipt(run))
        elif code == 0:
            self._received(run)
        elif code > 128 or code < 0:
            self._patiently(lambda: leases.release(self._worker.book, self._lease, counts=True))
        else:
            self._finish("failed", self._said() or f"exit code {code}")

    def _received(self, run: Path) -> None:
        found = _receipt(run)
        if found is None:
            self._finish("failed", "it ended well without a receipt")
            return
        made, _ = found
        state = STATES[made.ended]
        failed = "; ".join(f"{each.id}: {each.because}" for each in made.steps if each.state in ("failed", "refused"))
        because = {"failed": failed, "done": made.because}.get(state, "by a signal")
        self._finish(state, because, found)

    def _finish(self, state: State, because: str, receipt: tuple[Receipt, bytes] | None = None) -> None:
        news = self._told.news(last=True)
        self._patiently(lambda: leases.finish(self._worker.book, self._lease, (state, because), news, receipt))

    def _patiently(self, write: Callable[[], object]) -> None:
        """Try until the database answers, or until the job may be somebody else's."""
        while True:
            try:
                write()
            except SQLAlchemyError:
                if self._fenced():
                    return  # the next worker finds every step kept
                time.sleep(TICK_S)
            else:
                return

    def _said(self) -> str:
        """The last line of the process's own errors."""
        with contextlib.suppress(OSError):
            lines = (self._worker.place.job / "log").read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def _receipt(run: Path) -> tuple[Receipt, bytes] | None:
    """What the run left as its receipt; None without one that can be read."""
    try:
        document = (run / verify.RECEIPT).read_bytes()
        return msgspec.json.decode(document, type=Receipt), document
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
