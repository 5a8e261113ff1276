"""Small real programs for the runner: steps are `python -c …`, tools are this interpreter."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.errors import NotFound
from planner.proving.receipt import Result
from planner.proving.steps import LeftOut, Program, Step
from planner.running.runner import Machine, Ran, run

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
COPY = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text() + sys.argv[3])"


@dataclass
class Here:
    """One tool, `py`, which is this Python; programs lie in `folder`."""

    folder: Path
    version: str = "1"

    def python(self, tool: str) -> Path:
        if tool != "py":
            raise NotFound(f"{tool} is not installed: `lanewise tools install {tool}`")
        return Path(sys.executable)

    def program(self, tool: str, name: str) -> Path:
        self.python(tool)
        return self.folder / name

    def versions(self, tool: str) -> Mapping[str, str]:
        self.python(tool)
        return {"py": self.version}


@dataclass
class Seen:
    """Everything that a runner told."""

    notes: list[str] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, step: Step, place: int, steps: int) -> None:
        self.began.append(step.id)

    def running(self, step: Step, seconds: float, tail: str) -> None:
        pass

    def ended(self, step: Step, result: Result) -> None:
        self.results.append(result)


def step(name: str, code: str, *words: str, needs: tuple[str, ...] = (), **more: Any) -> Step:
    """A step that runs `code` with these words and makes NAME/made."""
    return Step(
        id=name, does=name, tool="py", command=("{python:py}", "-c", code, *words), needs=needs,
        **{"makes": (f"{name}/made",)} | more,
    )  # fmt: skip


def chain(last: str = "c") -> Program:
    """a -> b -> c, where each adds a letter and c measures a gate."""
    return program(
        step("a", WRITE, "{out}/made", "a"),
        step("b", COPY, "{run}/a/made", "{out}/made", "b", needs=("a",)),
        step("c", COPY, "{run}/b/made", "{out}/made", last, needs=("b",), gate="kld_mean@512"),
    )


def program(*steps: Step, **more: Any) -> Program:
    return Program(
        plan_id="0" * 16, lane="fp8", engine="vllm 0", baseline="x in bf16", steps=steps,
        measures={each.gate: each.gate for each in steps if each.gate},
        left_out=(LeftOut(gate="smoke", because="it asks the served engine"),), **more,
    )  # fmt: skip


ROOMY = Machine(disk_free=lambda _: 1e15, ram_free=lambda: 1e15)


def ran(steps: Program, folder: Path, **more: Any) -> tuple[Ran, Seen]:
    """One run here, and what was told of it."""
    seen = Seen()
    given = {"machine": ROOMY, "environments": Here(folder.parent)} | more
    return run(steps, folder, watch=seen, **given), seen


def states(found: Ran) -> dict[str, str]:
    return {each.id: each.state for each in found.results}
