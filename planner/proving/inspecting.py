"""The step that looks into the candidate's files before anything runs them (`planner/workers/examine.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from planner.engines.llamacpp import file_type
from planner.proving import toolrates
from planner.proving.asked import Asked
from planner.proving.preparing import (
    ALIVE,
    BASELINE,
    CANDIDATE,
    LEAST_DISK,
    ORIGINAL,
    baseline_path,
    cache_scales,
    calibrated_on,
    candidate_is_original,
    candidate_path,
    made_here,
)
from planner.proving.steps import OUT, OWN_PYTHON, WORKERS, Step

OUTPUT = "lm_head"
INSPECT, SMOKE = "inspect", "smoke"
"""The step, and the gate that its faults fail: a candidate whose files nobody could look into has not passed it."""


def inspecting(asked: Asked) -> Iterator[Step]:
    """One step, none where the candidate's files are the original's."""
    if candidate_is_original(asked):
        return
    beside = BASELINE if asked.gguf and not asked.is_file else ORIGINAL
    against = ("--original", baseline_path(asked)) if asked.has_baseline else ()
    yield Step(
        id=INSPECT,
        does="look into the candidate's files: tensors, scales, ignored layers, tokenizer",
        proves="a whole checkpoint, as planned, whose weights are the original's as far as its format allows",
        command=(
            OWN_PYTHON, f"{WORKERS}/examine.py", "--candidate", candidate_path(asked), *against, *_planned(asked),
            "--out", f"{OUT}/faults.json",
        ),
        needs=(CANDIDATE, beside) if asked.has_baseline else (CANDIDATE,),
        makes=(f"{INSPECT}/faults.json",),
        ram_bytes=ALIVE,
        disk_bytes=LEAST_DISK,
        expected_s=toolrates.examined(asked.candidate_bytes),
        gate=SMOKE,
    )  # fmt: skip


def _planned(asked: Asked) -> Iterator[str]:
    """What the plan says of files that are made here; a published checkpoint is held against its own words, but for the
    output matrix: lanes keep it in 16 bits, and what is known of their losses was measured so."""
    if asked.gguf:
        yield from ("--type", file_type(asked.candidate))
        return
    make = asked.candidate.make
    if make is None or not made_here(asked):
        yield from ("--ignore", OUTPUT)
        return
    yield from ("--scheme", make.scheme)
    if make.group_size is not None:
        yield from ("--group-size", str(make.group_size))
    for layer in make.ignore or (OUTPUT,):
        yield from ("--ignore", layer)
    if cache_scales(asked) and calibrated_on(asked, make) is not None:
        yield from ("--cache", "fp8")
