"""What the steps of a run left, read from their files for the judge, gate by gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from catalog.errors import BadInput
from planner.plan import Gate, Verification
from planner.proving import answers, judge, scorer
from planner.proving.answers import Both, Side
from planner.proving.checks import Check
from planner.proving.judge import Runs
from planner.proving.judge_answers import Pairs
from planner.proving.receipt import Result
from planner.proving.steps import Program, Step, gate_key

ANSWERS, FAULTS, SCORES = "answers.json", "faults.json", "scores.json"
BASELINE, CANDIDATE = "-baseline", "-candidate"
SMOKE, SCORER = "smoke", "scorer"


@dataclass
class Gathered:
    """Everything that was read so far."""

    program: Program
    folder: Path
    well: frozenset[str]
    greedy: dict[str, Pairs] = field(default_factory=dict)
    sampled: dict[str, Pairs] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    checks: dict[str, tuple[Check, ...]] = field(default_factory=dict)
    failed: tuple[str, ...] | None = None
    prompts: int | None = None

    def ended(self, run: str) -> list[Step]:
        """Steps of a run that ended well."""
        return [step for step in self.program.steps_of(run) if step.id in self.well]

    def both(self, step: Step) -> tuple[Side, tuple[Both, ...]]:
        """A candidate's answers beside the baseline's. Raises BadInput where they are not pairs."""
        before = f"{step.id.removesuffix(CANDIDATE)}{BASELINE}"
        paths = (f"{before}/{ANSWERS}", step.makes[0])
        sides = [answers.read((self.folder / path).read_bytes(), path) for path in paths]
        return sides[1], answers.paired(sides[0], sides[1])

    @cached_property
    def structure(self) -> tuple[str, ...] | None:
        """Faults of the candidate's files; None where nobody looked."""
        paths = [path for step in self.program.steps if step.id in self.well for path in step.makes]
        found = [path for path in paths if path.endswith(f"/{FAULTS}")]
        if not found:
            return None
        return tuple(said for path in found for said in answers.structure((self.folder / path).read_bytes(), path))


def runs(program: Program, verification: Verification, results: Iterable[Result], folder: Path) -> Runs:
    """What steps that ended well measured. Raises BadInput for a file of statistics that the scorer did not write.

    Answers that are no pairs leave their gate open, with the reason.
    """
    well = frozenset(result.id for result in results if result.well)
    seen = Gathered(program=program, folder=folder, well=well)
    tokens = _tokens(seen)
    for gate in verification.gates:
        if gate.samples_of != "tokens":
            _gate(seen, gate)
    return Runs(
        tokens=tokens,
        answers=seen.greedy,
        sampled=seen.sampled,
        failures=None if seen.failed is None else len(seen.failed),
        failed=seen.failed or (),
        prompts=seen.prompts,
        checks=seen.checks,
        refused=seen.refused,
    )


def _tokens(seen: Gathered) -> dict[str, dict[str, judge.Windows]]:
    """Statistics of tokens, by run and text."""
    made: dict[str, dict[str, judge.Windows]] = {}
    for step in seen.program.steps:
        if step.gate and step.id in seen.well and step.makes[0].endswith(".npz"):
            _, found = judge.read((seen.folder / step.makes[0]).read_bytes(), step.makes[0])
            made.setdefault(step.gate, {})[step.text] = judge.joined(tuple(found.values()))
    return made


def _gate(seen: Gathered, gate: Gate) -> None:
    """One gate on answers; what is not whole, or no pairs, is written down with the reason."""
    key = gate_key(gate)
    run = seen.program.measures.get(key)
    if run is None:
        return
    try:
        _measured(seen, gate, run)
    except BadInput as fault:
        seen.refused[key] = fault.message if fault.path == "$" else f"{fault.path}: {fault.message}"
        return
    missing = [step.id for step in seen.program.steps_of(run) if step.id not in seen.well]
    if missing:
        seen.refused[key] = f"not run: {', '.join(missing)}"


def _measured(seen: Gathered, gate: Gate, run: str) -> None:
    if gate.id == SMOKE:
        _smoke(seen, run)
    elif gate.id == SCORER:
        _scores(seen, gate, run)
    else:
        _answers(seen, gate_key(gate), run)


def _scores(seen: Gathered, gate: Gate, run: str) -> None:
    """Both sides' numbers of the user's scorer."""
    for step in (each for each in seen.ended(run) if each.makes[0].endswith(f"/{SCORES}")):
        paths = (f"{step.id.removesuffix(CANDIDATE)}{BASELINE}/{SCORES}", step.makes[0])
        sides = [scorer.read((seen.folder / path).read_bytes(), path) for path in paths]
        seen.checks[gate_key(gate)] = tuple(scorer.judged(sides[0], sides[1], each) for each in gate.thresholds)


def _smoke(seen: Gathered, run: str) -> None:
    """Failures of answers and of files together."""
    pairs = [both for step in seen.ended(run) if _of_answers(step) for both in seen.both(step)[1]]
    if pairs or seen.structure:
        seen.failed = answers.smoke(pairs, seen.structure or ())
        seen.prompts = len(pairs) or None


def _answers(seen: Gathered, key: str, run: str) -> None:
    """Scores, or whether answers are valid, under the gate's own name; nothing for what is read off other gates'."""
    if run.endswith("*"):
        return
    for step in filter(_of_answers, seen.ended(run)):
        side, both = seen.both(step)
        families = seen.program.items.get(key)
        own = both if families is None else answers.of_families(both, families)
        on = ", ".join(filter(None, (step.text, side.sampling.words)))
        pairs = (answers.validity if key == "structured_output" else answers.scores)(own, on)
        kept = seen.sampled if side.sampling.temperature > 0 else seen.greedy
        kept[key] = _joined([kept[key], pairs]) if key in kept else pairs


def _of_answers(step: Step) -> bool:
    return step.makes[0].endswith(f"/{ANSWERS}")


def _joined(parts: Sequence[Pairs]) -> Pairs:
    """Several files' answers as one gate's."""
    names = ("baseline", "candidate", "items", "tasks")
    joined = {name: tuple(value for part in parts for value in getattr(part, name)) for name in names}
    return Pairs(on="; ".join(dict.fromkeys(part.on for part in parts)), **joined)
