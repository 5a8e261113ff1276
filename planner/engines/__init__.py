"""One module per engine that can be launched: candidate -> argv, environment, ports. Facts about versions are data."""

from __future__ import annotations

from catalog.engine import Engine
from catalog.errors import Unsupported
from planner.engines import llamacpp, vllm
from planner.launch import Launch, LaunchOptions
from planner.plan import Candidate

ENGINES = (("vllm", vllm.launch), ("llama.cpp", llamacpp.launch))
"""Engine id and the function that launches a candidate on it."""


def launch(candidate: Candidate, engine: Engine, options: LaunchOptions) -> Launch:
    """How to start `candidate` on its engine. Raises Unsupported for engines and settings without launch files."""
    if (candidate.engine, candidate.engine_version) != (engine.id, engine.version):
        raise ValueError(f"facts of {engine.id} {engine.version} for {candidate.engine} {candidate.engine_version}")
    for name, start in ENGINES:
        if name == candidate.engine:
            return start(candidate, engine, options)
    raise Unsupported(f"{candidate.engine} is estimated only: it has no launch files", "$.choice.engine")
