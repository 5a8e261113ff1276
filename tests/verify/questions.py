"""Plans of a catalogue model of which nobody published checkpoints, and the question that each lane asks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from planner import decode, service
from planner.plan import Plan
from planner.proving import recipe
from planner.proving.asked import with_recipe
from planner.settings import Settings

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
OWN = Settings(catalog_dir=Path("/nonexistent"), database_url="sqlite://", measurements=False)
MADE = (
    ("fp8", "fp8-dynamic"), ("fp8", "fp8-static"), ("fp8", "fp8-block"), ("int8-w8a8", None), ("int8-w8a16", None),
    ("awq-int4", None), ("gptq-int4", None), ("w4a16", None), ("w4a16", "autoround"), ("nvfp4", None), ("mxfp4", None),
    ("gguf:Q8_0", None), ("gguf:Q5_K_M", None), ("gguf:Q4_K_M", None), ("gguf:IQ4_XS", None), ("gguf:Q3_K_M", None),
)  # fmt: skip
"""(lane, recipe where it is not the plan's own)."""


@cache
def plan_of(lane: str, model: str = MODEL, **more: Any) -> Plan:
    """A feasible plan whose choice is of this lane."""
    request = {
        "model": model,
        "workload": {"qps": 0.1, "context_tokens_max": 2048},
        "hardware": {"accelerators": [{"id": "rtx5090" if lane in ("nvfp4", "mxfp4") else "h100-sxm5-80", "count": 2}]},
        "quality": {"max_loss_pct": 60},
        "lanes": [lane],
        "engines": ["llama.cpp" if lane.startswith("gguf") else "vllm"],
        "overrides": {"waive": ["Q301", "Q305", *(("Q101", "Q201") if lane == "mxfp4" else ())]},
        **more,
    }
    return service.make_plan(decode.decode(msgspec.json.encode(request), "json"), OWN)


def question(lane: str, by: str | None = None, model: str = MODEL, **more: Any) -> recipe.Asked:
    """What a program of that lane is asked for, with text and calibration text."""
    plan = plan_of(lane, model)
    found = service.with_requested_model(model, OWN).model(model)
    candidate = recipe.candidate_of(plan, lane)
    if by is not None:
        candidate = with_recipe(candidate, by, found, plan.request["workload"])
    given = {"texts": ("/data/own.jsonl",), "calibration": ("/data/chats.jsonl",), "original": model} | more
    return recipe.Asked(plan=plan, candidate=candidate, model=found, planned=model, **given)
