"""A recipe is data: from a plan's candidate to the steps that get it, make it and measure its gates.

What can be measured stands in `planner/proving/scoring.py`, how weights are got and made in
`planner/proving/preparing.py`; this is the order of both. Nothing here runs: `planner/running/runner.py` does.
"""

from __future__ import annotations

from msgspec import structs

from planner.making import kind_of_text
from planner.proving.answering import families
from planner.proving.asked import Asked, candidate_of
from planner.proving.inspecting import inspecting
from planner.proving.opening import opening
from planner.proving.preparing import CANDIDATE, ORIGINAL, candidate_is_original, preparing
from planner.proving.scoring import notes, scoring
from planner.proving.steps import LeftOut, Program, Step, gate_key, together, within

NOTHING_LOST = "nothing is in fewer bits than the original: there is nothing to prove"


def program(asked: Asked) -> Program:
    """The steps of one candidate, the cheapest decisive gate first. Raises Unsupported for what is not made here."""
    prepared, looks = list(preparing(asked)), list(inspecting(asked))
    measured, measures, left_out = scoring(asked)
    verification = asked.candidate.verification
    whole = Program(
        plan_id=asked.plan.id,
        lane=asked.candidate.lane,
        engine=f"{asked.candidate.engine} {asked.candidate.engine_version}",
        baseline=verification.baseline if verification is not None else asked.original,
        steps=(*prepared, *looks, *opening(asked), *measured),
        measures=measures,
        items=families(asked, measures),
        left_out=tuple(left_out),
        notes=tuple(notes(asked)) if verification is not None else (NOTHING_LOST,),
    )
    kept = whole.closure([_weights(asked), *(step.id for step in (*looks, *measured))])
    steps = tuple(step for step in whole.steps if step.id in kept)
    return structs.replace(whole, steps=steps, missing=_missing(asked, steps), expected_s=together(steps))


def _weights(asked: Asked) -> str:
    """The step after which the candidate's files are there."""
    return ORIGINAL if candidate_is_original(asked) else CANDIDATE


def _missing(asked: Asked, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """What has to be given before the steps can run."""
    words = {word for step in steps for word in step.command}
    said = []
    if "{text}" in words:
        said.append("text of your own to score both sides on: --text FILE (.txt, .md, .jsonl)")
    if "{calibration}" in words and asked.candidate.make is not None:
        said.append(f"calibration text {kind_of_text(asked.candidate.make)}: --calibration FILE")
    return tuple(said)


__all__ = ["Asked", "LeftOut", "Program", "Step", "candidate_of", "gate_key", "program", "within"]
