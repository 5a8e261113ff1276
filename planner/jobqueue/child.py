"""The process of one job: `python -m planner.jobqueue.child JOB.json` runs the verification and tells of it in lines.

It knows no queue and no database of jobs: whoever started it reads its lines and, when it ended well, the receipt in
the run's folder. It ends with the worker, whose guard holds it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec
from msgspec import Struct

from catalog.errors import LanewiseError
from planner import service, settings
from planner.jobqueue.ask import KINDS
from planner.plan import Plan
from planner.proving.receipt import Result
from planner.proving.steps import Program, Step
from planner.running import verify
from planner.running.commands import Environments, Installed
from planner.running.verify import Choice
from planner.settings import Settings

EVERY_S = 1.0
"""Between two lines about a step that runs."""


class Work(Struct, frozen=True, kw_only=True):
    """What the process is given; paths are absolute."""

    plan: msgspec.Raw
    plan_id: str
    run: str
    lane: str | None = None
    recipe: str | None = None
    original: str | None = None
    budget_s: float | None = None
    texts: tuple[str, ...] = ()
    neutral: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    seed: int = 0

    def choice(self) -> Choice:
        """As `lanewise verify` has it."""
        files: dict[str, Any] = {name: tuple(map(Path, getattr(self, name))) for name in KINDS}
        same = {name: getattr(self, name) for name in ("lane", "recipe", "original", "budget_s", "seed")}
        return Choice(**same, **files)

    @property
    def again(self) -> tuple[str, ...]:
        """The command that does the same at this machine's terminal."""
        one = {"--lane": self.lane, "--recipe": self.recipe, "--original": self.original}
        minutes = None if self.budget_s is None else f"{self.budget_s / 60:g}"
        one |= {"--budget": minutes, "--seed": str(self.seed) if self.seed else None}
        many = {"--text": self.texts, "--neutral": self.neutral, "--calibration": self.calibration}
        words = [word for flag, value in one.items() if value is not None for word in (flag, value)]
        words += [word for flag, values in many.items() for value in values for word in (flag, value)]
        return ("lanewise", "verify", self.plan_id, *words, "--run", self.run)


def work_of(plan: Plan, document: bytes, run: Path, choice: Choice) -> Work:
    """A plan and a choice as the process is given them."""
    files: dict[str, Any] = {name: tuple(map(str, getattr(choice, name))) for name in KINDS}
    same = {name: getattr(choice, name) for name in ("lane", "recipe", "original", "budget_s", "seed")}
    return Work(plan=msgspec.Raw(document), plan_id=plan.id, run=str(run), **same, **files)


class Lines:
    """A run's watch that writes a JSON object per line."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._last = out, 0.0

    def tell(self, kind: str, **data: Any) -> None:
        """One line, at once."""
        self._out.write(msgspec.json.encode({"kind": kind, **data}).decode() + "\n")
        self._out.flush()

    def note(self, text: str) -> None:
        self.tell("note", text=text)

    def program(self, steps: Program) -> None:
        """Every step, before the first begins."""
        found = [{"id": each.id, "does": each.does, "expected_s": each.expected_s.value} for each in steps.steps]
        self.tell("program", steps=found)

    def started(self, step: Step, place: int, steps: int) -> None:
        self._last = time.monotonic()
        self.tell("started", step=step.id)

    def running(self, step: Step, seconds: float, tail: str) -> None:
        if time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            self.tell("running", step=step.id, seconds=round(seconds, 1), tail=tail)

    def ended(self, step: Step, result: Result) -> None:
        self.tell("ended", step=step.id, state=result.state, seconds=result.seconds, because=result.because)


Made = tuple[Program, verify.Run, Environments]


def made(work: Work, own: Settings) -> Made:
    """The program of a job on this machine. Raises BadInput and its children."""
    here = service.probe(own)
    plan = msgspec.json.decode(work.plan, type=Plan)
    question = verify.asked(plan, work.choice(), own, here)
    about = verify.Run(question=question, inventory=here, reproduce=work.again, budget_s=work.budget_s)
    return verify.program(question, work.choice()), about, Installed(own)


def main(argv: list[str], making: Callable[[Work, Settings], Made] = made) -> int:
    """Run it: 0 with a receipt in the run's folder, 1 with a sentence on standard error."""
    work = msgspec.json.decode(Path(argv[0]).read_bytes(), type=Work)
    lines = Lines(sys.stdout)
    try:
        steps, about, environments = making(work, settings.from_environment())
        lines.program(steps)
        verify.run(steps, about, Path(work.run), environments, lines)
    except LanewiseError as fault:
        print(" ".join(str(fault).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
