"""What a proof is asked for: a plan's candidate, where the original is, which text there is, on how many GPUs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from msgspec import structs

from catalog import tensors
from catalog.errors import BadInput, NotFound
from catalog.model import Model
from catalog.units import GIB
from planner import lanes, making
from planner.lanes import BY_ID, Method
from planner.lanes.lane import grouped
from planner.pairing import is_original
from planner.plan import Candidate, Plan
from planner.proving.questions import Questions
from planner.proving.steps import word
from planner.settle import DISK, GBIT, NETWORK

HUB_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Steps after the first fetch nothing."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that a program depends on. Paths are absolute."""

    plan: Plan
    candidate: Candidate
    model: Model
    original: str
    """The 16-bit model: a folder, a `.gguf` file, or a hub id."""
    revision: str | None = None
    planned: str = ""
    """What the plan serves, where that is somebody's quantized copy: as `original` …"""
    planned_revision: str | None = None
    stated: bool = False
    """… which the user then had to name."""
    texts: tuple[str, ...] = ()
    neutral: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    gpus: int = 0
    """For tools; 0 is a CPU."""
    seed: int = 0
    questions: Questions = field(default_factory=Questions)
    """Beside the smoke test."""

    @property
    def gguf(self) -> bool:
        return self.candidate.engine == "llama.cpp"

    @cached_property
    def copy(self) -> bool:
        """Whether the planned model is itself a quantized copy of a model that the plan does not name."""
        return self.model.quantization is not None and not is_original(self.model, BY_ID[self.candidate.lane])

    @property
    def has_baseline(self) -> bool:
        return self.stated or not self.copy

    @property
    def is_file(self) -> bool:
        return self.original.endswith(".gguf")

    @cached_property
    def params(self) -> float:
        return float(tensors.params(tensors.inventory(self.model)))

    @cached_property
    def original_bytes(self) -> float:
        """Of the 16-bit original's files."""
        return 2.0 * self.params

    @cached_property
    def candidate_bytes(self) -> float:
        """Of the candidate's files, by the formulas of its lane."""
        if self.method is None:
            return self.original_bytes
        return float(sum(lanes.part_bytes(self.model, grouped(self.method, self.model)).values()))

    @cached_property
    def method(self) -> Method | None:
        """How the lane is made; None where the catalogue's lane no longer knows the recipe."""
        lane = BY_ID.get(self.candidate.lane)
        return None if lane is None else lane.method(self.candidate.recipe.name) or lane.methods[0]

    @property
    def network(self) -> float:
        """Bytes a second, as the request states or the planner assumes."""
        return float(self._hardware.get("network_gbit_per_s") or NETWORK) * GBIT

    @property
    def disk(self) -> float:
        """Bytes a second, likewise."""
        return float(self._hardware.get("disk_gib_per_s") or DISK) * GIB

    @property
    def _hardware(self) -> dict[str, float]:
        return self.plan.request.get("hardware") or {}

    @property
    def env(self) -> dict[str, str]:
        """Of every step after the original is there."""
        return HUB_OFFLINE if self.gpus else {**HUB_OFFLINE, "CUDA_VISIBLE_DEVICES": ""}


def candidate_of(plan: Plan, lane: str | None) -> Candidate:
    """The plan's choice, or the first shown candidate of a lane. Raises NotFound and BadInput."""
    if plan.choice is None:
        raise NotFound(f"plan {plan.id!r} is infeasible: there is nothing to verify")
    shown = (plan.choice, *plan.alternatives)
    if lane is None:
        return plan.choice
    found = next((each for each in shown if each.lane == lane), None)
    if found is None:
        known = ", ".join(dict.fromkeys(each.lane for each in shown))
        raise BadInput(f"the plan shows no candidate of {lane!r}; it shows {known}", "--lane")
    return found


def with_recipe(candidate: Candidate, name: str, model: Model, workload: dict[str, Any]) -> Candidate:
    """The candidate made here by another method of its lane, whatever is published. Raises BadInput."""
    lane = BY_ID[candidate.lane]
    method = next((each for each in lane.methods if each.recipe.name == name and each.tool in MADE_BY), None)
    if method is None:
        known = ", ".join(each.recipe.name for each in lane.methods if each.tool in MADE_BY) or "none"
        raise BadInput(f"{candidate.lane} is made here by {known}, not by {name!r}", "--recipe")
    method = grouped(method, model)
    made = making.another(method, model, workload.get("mix") or {}, workload.get("languages") or {"en": 1.0})
    return structs.replace(candidate, recipe=method.recipe, artifact=None, make=made)


MADE_BY = ("llm-compressor", "llama-quantize")
"""Tools whose methods are steps of a program."""


def named(files: tuple[str, ...], stand_in: str) -> tuple[str, ...]:
    """The user's files as words; the placeholder where none was named."""
    return tuple(map(word, files)) or (stand_in,)
