"""The step that makes a published checkpoint one that the scorer opens (`planner/workers/dense.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from planner.proving import toolrates
from planner.proving.asked import Asked
from planner.proving.preparing import (
    ALIVE,
    CANDIDATE,
    CANDIDATE_MODEL,
    candidate_is_original,
    candidate_path,
    made_here,
)
from planner.proving.steps import OUT, OWN_PYTHON, RUN, WORKERS, Step

DENSE = "dense"
UNREADABLE = ("GPTQ-INT8", "AutoRound", "Quark", "MXFP4", "MXFP8")
"""Formats of published checkpoints that neither transformers beside llm-compressor nor our own reader opens."""
COMPRESSED = "(CT"
"""Of a format's name: compressed-tensors, which the scorer opens as it is."""
OPENED = "compressed-tensors, AWQ, GPTQ of 4 bits, FP8 in blocks and ModelOpt's FP8 and NVFP4"


def unreadable(asked: Asked) -> str:
    """The format that cannot be scored; "" where it can."""
    artifact = asked.candidate.artifact
    if artifact is None or asked.gguf or not any(name in artifact.format for name in UNREADABLE):
        return ""
    return artifact.format


def published(asked: Asked) -> bool:
    """Whether the candidate is a folder that somebody else quantized, in a layout that its name does not settle."""
    artifact = asked.candidate.artifact
    if artifact is not None and COMPRESSED in artifact.format:
        return False
    return not (asked.gguf or made_here(asked) or candidate_is_original(asked) or unreadable(asked))


def opening(asked: Asked) -> Iterator[Step]:
    """One step, where the layout is known to the files alone."""
    if not published(asked):
        return
    yield Step(
        id=DENSE,
        does="open the published layout: as it is where transformers runs it, else as plain 16-bit weights",
        proves="weights as served; dense.json says whether quantized activations are missing from them",
        command=(OWN_PYTHON, f"{WORKERS}/dense.py", "--model", CANDIDATE_MODEL, "--out", OUT),
        needs=(CANDIDATE,),
        makes=(f"{DENSE}/model", f"{DENSE}/dense.json"),
        ram_bytes=ALIVE + 8.0 * asked.model.hidden * asked.model.vocab,
        disk_bytes=asked.original_bytes,
        expected_s=toolrates.converted(asked.original_bytes),
    )


def scored_path(asked: Asked) -> tuple[str, str]:
    """(what the scorer opens as the candidate, the step that makes it)."""
    return (f"{RUN}/{DENSE}/model", DENSE) if published(asked) else (candidate_path(asked), CANDIDATE)


def note(asked: Asked) -> str:
    """What the numbers of a published layout do not contain; "" for others."""
    if not published(asked):
        return ""
    return (
        "a published checkpoint that is not compressed-tensors is scored as its weights in plain 16 bits: activations "
        "that its engine quantizes are not in the numbers (dense.json says whether it does)"
    )
