"""Jobs for people, in the terminal. Layout only."""

from __future__ import annotations

import sys
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from planner.jobqueue.job import Job, JobEvent, JobPage
from planner.report import console

COLOURS = {
    "done": "green", "kept": "cyan", "running": "bold", "queued": "yellow", "waiting": "dim", "not run": "dim",
    "cancelled": "yellow",
}  # fmt: skip
TAIL = 100
"""Characters of a log's last line that are shown."""


def show_jobs(page: JobPage) -> None:
    """One line per job."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "state", "plan", "lane", "steps", "asked for"):
        table.add_column(name, no_wrap=True)
    table.add_column("verdict or reason", overflow="fold")
    for job in page.jobs:
        ended = sum(each.state not in ("waiting", "running") for each in job.steps)
        steps = f"{ended} of {len(job.steps)}" if job.steps else ""
        row = (job.plan_id, job.lane, steps, job.created_at[:16], job.verdict or job.because)
        table.add_row(job.id, _coloured(job.state), *map(escape, row))
    out = console()
    out.print(table)
    if page.total > len(page.jobs):
        out.print(f"{page.total} in all")


def show_job(job: Job) -> None:
    """State, steps, receipt."""
    console().print(_picture(job))


def _picture(job: Job) -> RenderableType:
    head = f"job [bold]{job.id}[/]: {_coloured(job.state)}{' (being cancelled)' if job.cancelling else ''}"
    about = (
        f"plan {escape(job.plan_id)}, lane {escape(job.lane)}{f', recipe {escape(job.recipe)}' if job.recipe else ''}"
    )
    lines: list[RenderableType] = [head, about]
    if job.because:
        lines.append(escape(job.because))
    if job.steps:
        lines.append(_steps(job))
    if job.progress is not None and job.progress.tail:
        lines.append(escape(job.progress.tail.splitlines()[-1][-TAIL:]))
    if job.receipt_id is not None:
        lines.append(f"verdict [bold]{job.verdict}[/], receipt {job.receipt_id}")
    return Group(*lines)


def _steps(job: Job) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "state", "because"):
        table.add_column(name, overflow="fold")
    for name in ("seconds", "expected"):
        table.add_column(name, justify="right")
    for step in job.steps:
        running = job.progress is not None and job.progress.step == step.id
        seconds = job.progress.seconds if running and job.progress is not None else step.seconds
        spent = f"{seconds:.1f}" if seconds else ""
        table.add_row(step.id, _coloured(step.state), escape(step.because), spent, f"{step.expected_s:.0f}")
    return table


def _coloured(state: str) -> str:
    return f"[{COLOURS.get(state, 'red')}]{state}[/]"


class Follower:
    """A job as it goes on: a picture that moves in a terminal, a line per event elsewhere; on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._out = Console(file=sys.stderr, highlight=False, quiet=quiet)
        self._live = Live(console=self._out, auto_refresh=False) if self._out.is_terminal else None
        self.last = 0
        """Number of the last event that was seen."""

    def __enter__(self) -> Follower:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, job: Job, events: tuple[JobEvent, ...]) -> None:
        """What is new."""
        if events:
            self.last = events[-1].number
        if self._live is not None:
            self._live.update(_picture(job), refresh=True)
            return
        for event in events:
            words = (str(value) for name, value in event.data.items() if name != "seconds" and value != "")
            self._out.print(escape(f"{event.at} {event.kind}: {' '.join(words)}"), soft_wrap=True)
