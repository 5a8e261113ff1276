"""The cache in a proof: which lanes have a gate for it, which side is read with it, and how it is rounded."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from msgspec import structs

from catalog.model import Model
from planner import service
from planner.plan import Plan
from planner.proving import cache_gate, recipe
from planner.proving.asked import Asked
from planner.proving.steps import Program, Step
from tests.verify.questions import OWN, plan_of, question
from tests.verify.test_score import WORKERS

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
FAR = 131072


@cache
def tight(lane: str) -> Plan:
    """A context that one device has room for with a cache in eight bits alone."""
    work = {"qps": 0.01, "context_tokens_max": FAR}
    device = "rtx5090" if lane == "bf16" else "rtx4090"
    return plan_of.__wrapped__(lane, MODEL, workload=work, hardware={"accelerators": [{"id": device, "count": 1}]})


def asked(lane: str) -> Asked:
    plan = tight(lane)
    assert plan.choice is not None
    return replace(question(lane, model=MODEL), plan=plan, candidate=plan.choice)


def steps(program: Program) -> dict[str, Step]:
    return {step.id: step for step in program.steps}


def cache_of(step: Step) -> str | None:
    return step.command[step.command.index("--cache") + 1] if "--cache" in step.command else None


def test_the_cache_by_itself_is_the_candidate_against_its_own_weights() -> None:
    program = recipe.program(asked("fp8"))
    made = steps(program)
    assert program.measures["cache_kld_mean@131072"] == "cache_kld_mean@131072"
    record, compare = made["baseline-cache-own-131072"], made["compare-cache-own-131072"]
    weights = "{run}/candidate/model"
    assert all(weights in step.command for step in (record, compare, made["tokens-cache-own-131072"]))
    assert (cache_of(record), cache_of(compare), compare.gate) == ("16", "fp8", "cache_kld_mean@131072")
    assert "16-bit cache" in record.does


def test_other_gates_read_the_candidate_as_it_is_served() -> None:
    program = recipe.program(asked("fp8"))
    made = steps(program)
    for context in (512, 131072):
        assert cache_of(made[f"baseline-own-{context}"]) is None
        assert cache_of(made[f"compare-own-{context}"]) == "fp8"
    assert any("weights and the fp8 cache together" in note for note in program.notes)
    plain = recipe.program(question("fp8", "fp8-dynamic", MODEL))
    assert all("--cache" not in step.command for step in plain.steps)


def test_a_lane_that_loses_by_its_cache_alone_is_measured_on_the_original() -> None:
    program = recipe.program(asked("bf16"))
    made = steps(program)
    assert "candidate" not in made
    assert "cache_kld_mean@131072" not in program.measures
    assert {"kld_mean@512", "kld_mean@131072"} <= program.measures.keys()
    compare = made["compare-own-131072"]
    assert "{run}/original/model" in compare.command
    assert (cache_of(compare), compare.needs) == ("fp8", ("original", "tokens-own-131072", "baseline-own-131072"))


def test_llama_cpp_keeps_its_own_types() -> None:
    made = steps(recipe.program(asked("gguf:Q8_0")))
    assert cache_of(made["baseline-cache-own-131072"]) == "f16"
    assert cache_of(made["compare-cache-own-131072"]) == "q8_0"
    assert cache_of(made["compare-own-512"]) == "q8_0"
    assert made["tokens-cache-own-131072"].needs == ("candidate",)


@pytest.mark.parametrize(("dtype", "because"), [("fp8_e5m2", "fp8_e5m2 cache is not simulated"), ("fp8", "MLA")])
def test_a_cache_that_is_not_simulated_is_left_out_by_name(dtype: str, because: str) -> None:
    given = asked("fp8")
    if because == "MLA":
        given = replace(given, model=model_of("deepseek-ai/DeepSeek-V3"))
    given = replace(given, candidate=structs.replace(given.candidate, kv_cache_dtype=dtype))
    assert because in cache_gate.unread(given)
    assert cache_gate.served(given) == ()
    assert because in cache_gate.note(given)


def model_of(name: str) -> Model:
    return service.with_requested_model(name, OWN).model(name)


def test_weights_that_the_engine_quantizes_have_no_cache_gate_either() -> None:
    given = asked("fp8")
    online = structs.replace(given.candidate, artifact=None, recipe=question("fp8").candidate.recipe)
    assert online.recipe.online
    program = recipe.program(replace(given, candidate=online))
    assert any(each.gate == "cache_kld_mean@131072" for each in program.left_out)
    assert not program.measures


@pytest.fixture(scope="module")
def score_cache() -> Iterator[ModuleType]:
    sys.path.insert(0, str(WORKERS))
    yield importlib.import_module("score_cache")
    sys.path.remove(str(WORKERS))


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("model.layers.3.self_attn.k_scale", "k"), ("model.layers.3.self_attn.v_scale", "v"),
        ("model.layers.3.self_attn.k_proj.k_scale", "k"), ("model.layers.3.self_attn.v_proj.output_scale", "v"),
        ("model.layers.3.self_attn.qkv_proj.v_scale", "v"), ("model.layers.3.self_attn.kv_scale", "kv"),
        ("model.layers.3.self_attn.k_proj.weight_scale", None), ("model.layers.3.mlp.rank_scale", None),
        ("model.layers.3.self_attn.k_proj.input_scale", None), ("model.layers.3.self_attn.q_scale", None),
    ],
)  # fmt: skip
def test_scales_are_found_under_the_names_that_vllm_reads(score_cache: ModuleType, name: str, side: str | None) -> None:
    match = score_cache.SCALE.search(name)
    assert (match and (match["side"] or match["own"] or "kv")) == side
    assert match is None or match["layer"] == "3"


def test_one_scale_serves_both_halves(score_cache: ModuleType) -> None:
    assert score_cache.both({"k": 0.1, "v": 0.2}) == (0.1, 0.2)
    assert score_cache.both({"kv": 0.3}) == (0.3, 0.3)
    assert score_cache.both({"v": 0.4}) == (0.4, 0.4)


def test_schemes_other_than_static_e4m3_are_told_apart(score_cache: ModuleType) -> None:
    plain = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    assert score_cache.is_e4m3(plain)
    assert score_cache.is_e4m3("FP8")
    for other in ({"type": "int"}, {"dynamic": True}, {"strategy": "attn_head"}, {"num_bits": 4}):
        assert not score_cache.is_e4m3(plain | other)
    assert not score_cache.is_e4m3("NVFP4")


def test_llama_cpps_types_are_ggmls_numbers(score_cache: ModuleType) -> None:
    gguf = pytest.importorskip("gguf")
    for name, number in score_cache.GGML.items():
        if name != "16":
            assert gguf.GGMLQuantizationType[name.upper()] == number
    assert score_cache.ggml_type("auto") is None
    with pytest.raises(score_cache.Refusal, match=r"--cache fp8: llama\.cpp keeps"):
        score_cache.ggml_type("fp8")


def test_the_scorer_keeps_the_checkpoints_own_cache_unless_it_is_told(score_cache: ModuleType) -> None:
    score = importlib.import_module("score")
    words = ["record", "--backend", "transformers", "--model", "m", "--tokens", "t", "--out", "o"]
    args: argparse.Namespace = score.parser().parse_args(words)
    assert args.cache == "auto"
    assert Path(score_cache.__file__).parent == WORKERS
