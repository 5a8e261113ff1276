"""The nouns of a proof that is run: a step, what was left out and why, and the program of both. Pure data.

A command is words, never a line for a shell. Words may begin with a placeholder, which whoever runs it replaces:
`{run}` the folder of the run, `{out}` the folder that this step writes, `{workers}` our scripts, `{python:ID}` a tool
environment's interpreter, `{tool:ID}/NAME` one of its programs, `{python:}` this interpreter. Words that a user chose
never begin with one (`word`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType, structs

from planner.plan import NOTHING, Basis, Estimate, Gate
from planner.spread import between

RUN, OUT, WORKERS = "{run}", "{out}", "{workers}"
OWN_PYTHON = "{python:}"
PLACEHOLDER = re.compile(r"\{(run|out|workers|python:[a-z0-9.-]*|tool:[a-z0-9.-]+|text|neutral|calibration)\}")
ALL_TASKS = "task:*"
"""The run of what is read off the answers to all paired tasks."""
MISSING = ("{text}", "{neutral}", "{calibration}")
"""Stand for files that the user has not named yet; a program with one is shown and not run."""


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process: what it does, what it takes, what it leaves, what it proves."""

    id: str
    """Also the name of its folder below the run's, which appears when the step ended well."""
    does: str
    proves: str = ""
    tool: str = ""
    """A tool environment's id; empty for this Python."""
    command: tuple[str, ...]
    env: dict[str, str] = {}
    needs: tuple[str, ...] = ()
    """Ids of steps."""
    reads: tuple[str, ...] = ()
    """Files and folders of the user's, absolute."""
    makes: tuple[str, ...] = ()
    """Paths below the run's folder."""
    ram_bytes: float = 0.0
    disk_bytes: float = 0.0
    gpus: int = 0
    expected_s: Estimate = NOTHING
    gate: str = ""
    """Of which it gives the numbers, and of every gate that shares its run."""
    text: str = ""
    """The plan's name of the text that they are taken on."""
    files: dict[str, str] | UnsetType = UNSET
    """Path below the step's own folder -> text: what the runner writes there before it starts."""


class LeftOut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate that is not measured, or not on every text, and the reason."""

    gate: str
    because: str


class Program(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps in an order in which each comes after what it needs."""

    plan_id: str
    lane: str
    engine: str
    baseline: str
    steps: tuple[Step, ...]
    measures: dict[str, str] = {}
    """Gate -> the gate under whose id steps give its numbers."""
    items: dict[str, tuple[str, ...]] = {}
    """Gate -> families of the user's items that count for it, "" = those of no family."""
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[str, ...] = ()
    """What the user has to give before this can be run, in sentences."""
    notes: tuple[str, ...] = ()
    """What cannot be done here and what the numbers do not contain."""
    expected_s: Estimate = NOTHING

    def steps_of(self, run: str) -> tuple[Step, ...]:
        """Steps that give a run's numbers; `task:*` = those of all paired tasks."""
        return tuple(step for step in self.steps if gives(step, run))

    def closure(self, wanted: Iterable[str]) -> set[str]:
        """Ids of steps with all that they need."""
        by_id, found, open_ = {step.id: step for step in self.steps}, set[str](), list(wanted)
        while open_:
            step = by_id[open_.pop()]
            if step.id not in found:
                found.add(step.id)
                open_ += step.needs
        return found


def gives(step: Step, run: str) -> bool:
    """Whether a step gives a run's numbers."""
    return step.gate == run if run != ALL_TASKS else step.gate.startswith("task:") or step.gate == "long_context"


def gate_key(gate: Gate) -> str:
    """`kld_mean@512` for statistics of tokens, which come at several contexts; the id of others."""
    return f"{gate.id}@{gate.context_tokens}" if gate.samples_of == "tokens" else gate.id


def word(text: str) -> str:
    """A user's name as a word that is neither a flag nor a placeholder: it becomes a path."""
    return f"./{text}" if text.startswith(("-", "{")) else text


def together(steps: Iterable[Step]) -> Estimate:
    """One after the other; errors of the same rates are one error."""
    parts = [step.expected_s for step in steps]
    known: Basis = "published" if all(each.basis == "published" for each in parts) else "fitted"
    basis: Basis = "assumed" if any(each.basis == "assumed" for each in parts) else known
    low, value, high = (sum(getattr(each, end) for each in parts) for end in ("low", "value", "high"))
    return between(low, value, high, basis, "s")


def within(program: Program, budget_s: float) -> Program:
    """The gates, in their order, whose steps fit into so many seconds; the others are left out with what they need."""
    wanted: set[str] = set()
    dropped: dict[str, float] = {}
    by_gate: dict[str, list[str]] = {}
    for step in program.steps:
        if step.gate:
            by_gate.setdefault(step.gate, []).append(step.id)
    for gate, ids in by_gate.items():
        more = program.closure([*wanted, *ids])
        more |= _beside(program, more)
        seconds = together(step for step in program.steps if step.id in more).value
        if seconds <= budget_s and not dropped:
            wanted = more
        else:
            dropped[gate] = seconds
    return _without(program, wanted, dropped, budget_s) if dropped else program


def _without(program: Program, wanted: set[str], dropped: dict[str, float], budget_s: float) -> Program:
    steps = tuple(step for step in program.steps if step.id in wanted)
    over = f"outside the budget of {budget_s / 60:g} minutes"
    kept = {gate: run for gate, run in program.measures.items() if any(gives(step, run) for step in steps)}
    out = tuple(
        LeftOut(
            gate=gate, because=f"{over}: the steps up to it take about {_least(program, run, dropped) / 60:.3g} minutes"
        )
        for gate, run in program.measures.items()
        if gate not in kept
    )
    return structs.replace(
        program, steps=steps, measures=kept, left_out=(*program.left_out, *out), expected_s=together(steps)
    )


def _least(program: Program, run: str, dropped: dict[str, float]) -> float:
    """Seconds up to the first gate of a run that was dropped."""
    return min(seconds for gate, seconds in dropped.items() if any(step.gate == gate for step in program.steps_of(run)))


def _beside(program: Program, wanted: set[str]) -> set[str]:
    """Steps that no gate needs and that look at what is there anyway."""
    needed = {need for step in program.steps for need in step.needs}
    idle = [step for step in program.steps if not step.gate and step.needs and step.id not in needed]
    return {step.id for step in idle if wanted.issuperset(step.needs)}
