"""What a run of a program came to: results of steps, which gates were measured, and the receipt of both. Pure data.

A gate is measured where every step that gives its numbers ended well in this folder and left what it makes; its verdict
is that of `planner/proving/judge.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from planner.plan import Candidate, Gate, Threshold
from planner.proving.checks import Check, Verdict
from planner.proving.judge import Judged, Judgement
from planner.proving.judge_speed import Serving
from planner.proving.steps import LeftOut, Program, Step, gate_key

State = Literal["done", "kept", "failed", "refused", "cancelled", "not run"]
"""`kept`: ended well in an earlier run with the same command, versions and contents. `refused`: not started."""
Ended = Literal["finished", "decided", "failed", "cancelled", "out of budget"]
"""`decided`: under a budget, a gate that decides failed, and what was left could not change that."""
ENDED_WELL: tuple[State, ...] = ("done", "kept")


class Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of one run."""

    id: str
    state: State
    because: str = ""
    command: tuple[str, ...] = ()
    """As it was started; empty where it was not."""
    seconds: float = 0.0
    exit_code: int | None = None
    versions: dict[str, str] = {}
    """Of the tool environment that ran it."""
    made: dict[str, str] = {}
    """Path below the run's folder -> SHA-256 of its contents."""
    read: dict[str, str] = {}
    """The user's files -> the same."""
    log: str = ""
    said: dict[str, Any] = {}
    """What it reported: the last JSON object it printed."""

    @property
    def well(self) -> bool:
        return self.state in ENDED_WELL


class GateResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gate of the plan, with what it would have to keep."""

    gate: str
    decides: bool
    thresholds: tuple[Threshold, ...]
    measured: bool
    by: tuple[str, ...] = ()
    """Steps that ended well and hold its raw numbers."""
    verdict: Verdict
    because: str = ""
    checks: tuple[Check, ...] = ()
    """Every threshold on every text, with its bounds."""


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done, with what, and what was not."""

    schema: int = 1
    plan_id: str
    lane: str
    engine: str
    baseline: str
    ended: Ended
    verdict: Verdict
    because: str
    """Of the verdict."""
    started_at: str
    ended_at: str
    reproduce: tuple[str, ...]
    """The command that runs it again."""
    artefacts: dict[str, str]
    """Weights by SHA-256: original, baseline, candidate, as far as they are there."""
    data: dict[str, str]
    """The user's files by SHA-256, as far as a step read them."""
    versions: dict[str, dict[str, str]]
    """Tool -> package -> version."""
    hardware: dict[str, Any]
    """The probe's inventory."""
    gates: tuple[GateResult, ...]
    steps: tuple[Result, ...]
    not_tested: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    served: Serving | None = None
    """None where serving was not asked for."""


WEIGHTS = ("original/", "baseline/", "candidate/")


def gates(
    program: Program, candidate: Candidate, results: tuple[Result, ...], judgement: Judgement
) -> tuple[GateResult, ...]:
    """Every gate of the plan, measured or not, with what the judge says of it."""
    if candidate.verification is None:
        return ()
    judged = {each.gate: each for each in judgement.gates}
    by_id = {result.id: result for result in results}
    reasons: dict[str, list[str]] = {}
    for each in program.left_out:
        reasons.setdefault(each.gate, []).append(each.because)
    return tuple(_gate(program, gate, by_id, reasons, judged[gate_key(gate)]) for gate in candidate.verification.gates)


def _gate(
    program: Program, gate: Gate, by_id: dict[str, Result], reasons: dict[str, list[str]], judged: Judged
) -> GateResult:
    key = gate_key(gate)
    run = program.measures.get(key)
    steps = [] if run is None else list(program.steps_of(run))
    ended = [step.id for step in steps if step.id in by_id and by_id[step.id].well]
    measured = bool(steps) and len(ended) == len(steps)
    because = [*reasons.get(key, []), *([judged.because] if measured else _unended(steps, by_id))]
    return GateResult(
        gate=key,
        decides=gate.decides,
        thresholds=gate.thresholds,
        measured=measured,
        by=tuple(ended),
        verdict=judged.verdict,
        because="; ".join(because),
        checks=judged.checks,
    )


def _unended(steps: list[Step], by_id: dict[str, Result]) -> list[str]:
    found = [by_id[step.id] for step in steps if step.id in by_id and not by_id[step.id].well]
    return [f"{each.id} {each.state}: {each.because}" for each in found]


def not_tested(program: Program, found: tuple[GateResult, ...]) -> tuple[LeftOut, ...]:
    """Every gate that was not measured, and every text that a measured one was not measured on."""
    own = [LeftOut(gate=each.gate, because=each.because or "no step ran") for each in found if not each.measured]
    named = {each.gate for each in own}
    return (*own, *(each for each in program.left_out if each.gate not in named))


def artefacts(results: tuple[Result, ...]) -> dict[str, str]:
    """Hashes of the weights that are there."""
    return {
        path: made
        for result in results
        if result.well
        for path, made in result.made.items()
        if path.startswith(WEIGHTS) and not path.endswith(".json")
    }


def data(results: tuple[Result, ...]) -> dict[str, str]:
    """Hashes of the user's files that a step read to its end."""
    return {path: content for result in results if result.well for path, content in result.read.items()}


def versions(results: tuple[Result, ...], program: Program) -> dict[str, dict[str, str]]:
    """Of every environment that a step ran in."""
    tools = {step.id: step.tool or "lanewise" for step in program.steps}
    return {tools[result.id]: result.versions for result in results if result.versions}
