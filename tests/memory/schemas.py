"""llama.cpp's golden schemas: which tensor of twelve published models gets which block in every file type.

The files lie in llama.cpp's `tests/snapshots` (MIT licence). `schemas.csv` keeps a digest of every section of them, so
that a machine without llama.cpp's source checks the same thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from catalog.model import Model
from planner.lanes import mixture, named
from tests.plan.asking import catalog

DIGESTS = Path(__file__).with_name("schemas.csv")
_LETTERS = {"M": "linear", "E": "experts", "*": "full"}


@dataclass(frozen=True)
class Subject:
    """A model of the catalogue with the geometry of a snapshot."""

    id: str
    changes: dict[str, Any]
    kinds: str = ""
    """Layers in an irregular order, in the letters of config.json's hybrid_override_pattern."""

    def model(self) -> Model:
        return msgspec.structs.replace(catalog().model(self.id), **self.changes)

    @property
    def arrangement(self) -> tuple[str, ...] | None:
        return tuple(_LETTERS[letter] for letter in self.kinds) or None


SUBJECTS = {
    "deepseek-v3.1": Subject("deepseek-ai/DeepSeek-V3", {}),
    "gemma-3-4b-it": Subject("google/gemma-3-4b-it", {}),
    "glm-4.6v": Subject("zai-org/GLM-4.5-Air", {}),
    "gpt-oss-120b": Subject("openai/gpt-oss-120b", {}),
    "meta-llama-3.1-70b-instruct": Subject("meta-llama/Llama-3.1-70B-Instruct", {}),
    "nvidia-nemotron-3-nano-30b-a3b": Subject(
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {}, "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    ),
    "qwen3-0.6b": Subject("Qwen/Qwen3-0.6B", {"tied": False}),
    "qwen3-14b": Subject("Qwen/Qwen3-14B", {}),
    "qwen3-coder-next": Subject("Qwen/Qwen3-Next-80B-A3B-Instruct", {}),
    "qwen3.5-397b-a17b": Subject("Qwen/Qwen3.5-397B-A17B", {}),
    "qwen3.6-27b": Subject("Qwen/Qwen3.6-27B", {}),
    "step-3.5-flash": Subject("stepfun-ai/Step-3.7-Flash", {}),
}
"""Snapshot to model. The 0.6B file was converted with an output matrix of its own; the others differ in name alone
(same widths and layers: V3 and V3.1, GLM-4.5-Air and GLM-4.6V, Step 3.5 and 3.7, Next and Coder-Next)."""


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each file type with its lines: `[Q4_K_M] q4_K`, then every tensor that has another block."""
    kind, lines = "", [""]
    for line in text.splitlines():
        if line.startswith("["):
            if kind:
                yield kind, lines
            kind, lines = line[1 : line.index("]")], [line.split("] ")[1]]
        elif kind and line:
            lines.append(line)
    yield kind, lines


def ours(subject: Subject, kind: str) -> list[str]:
    """The same lines from our rules."""
    model, order = subject.model(), subject.arrangement
    lane = "MXFP4" if kind == "MXFP4_MOE" else kind
    base = mixture.BASE.get(lane, lane)
    assigned = mixture.formats(named.named(model, order), lane, named.facts(model, order), imatrix=False)
    return [base, *(f"{each.name} {block}" for each, block in assigned if each.quantizable and block != base)]


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).lower().encode()).hexdigest()[:24]
