"""Which kernel each kind of layer gets, and the batch from which on a lane is slower than 16 bits."""

from __future__ import annotations

from typing import Any

import pytest

from planner.plan import Candidate, Finding
from planner.rules.rule import listed
from tests.plan.asking import ask, catalog, device, planned

QWEN = "Qwen/Qwen3-8B"


def chosen(model: str, lane: str, name: str, count: int = 1, **workload: Any) -> Candidate:
    plan = planned(
        ask(model, device(name, count), lanes=[lane], workload=workload or {"qps": 0.1}, quality={"max_loss_pct": 50})
    )
    assert plan.choice is not None, plan.refused
    return plan.choice


def found(candidate: Candidate, code: str) -> Finding | None:
    return next((each for each in candidate.findings if each.rule == code), None)


@pytest.mark.parametrize(
    ("model", "lane", "name", "count", "kernels"),
    [
        (QWEN, "w4a16", "h100-sxm5-80", 1, {"attention": "machete", "mlp": "machete", "head": "cublas-bf16"}),
        (QWEN, "fp8", "l40s", 1, {"attention": "cutlass-fp8", "mlp": "cutlass-fp8", "head": "cublas-bf16"}),
        (QWEN, "bf16", "l40s", 1, dict.fromkeys(("attention", "mlp", "head"), "cublas-bf16")),
        ("openai/gpt-oss-20b", "mxfp4", "h100-sxm5-80", 1, {"attention": "cublas-bf16", "head": "cublas-bf16"}),
        ("Qwen/Qwen3-30B-A3B", "w4a16", "h100-sxm5-80", 1, {"attention": "machete", "experts": "humming or marlin"}),
        (QWEN, "gguf:Q4_K_M", "apple-m3-max-40c", 1, {"head": "ggml-metal"}),
    ],
)
def test_a_layer_gets_the_kernel_of_what_its_weights_are(
    model: str, lane: str, name: str, count: int, kernels: dict[str, str]
) -> None:
    memory = {"memory_gib": 64} if name.startswith("apple") else {}
    plan = planned(
        ask(model, device(name, count, **memory), lanes=[lane], workload={"users": 1}, quality={"max_loss_pct": 50})
    )
    assert plan.choice is not None, plan.refused
    for layer, kernel in kernels.items():
        assert plan.choice.kernels[layer].removesuffix(" weight-only") == kernel, layer
    assert ("experts" in plan.choice.kernels) == (catalog().model(model).moe is not None)


def test_int4_on_an_a100_names_the_batch_from_which_on_it_loses() -> None:
    """GPUStack measured AWQ 7 % behind BF16 with all requests queued on an A100-80, and ahead on a 4090."""
    few = chosen(QWEN, "awq-int4", "a100-sxm4-80", users=1)
    many = chosen(QWEN, "awq-int4", "a100-sxm4-80", users=256)
    gains, loses = found(few, "L202"), found(many, "L201")
    assert gains is not None
    assert loses is not None
    assert found(few, "L201") is None
    assert found(many, "L202") is None
    assert 1 < loses.facts["slower_from"] <= many.estimates["running_sequences"].value
    assert f"from {loses.facts['slower_from']} on" in loses.because
    assert "marlin weight-only" in loses.because
    assert loses.facts["kernels"] == many.kernels


def test_the_batch_that_is_named_is_where_the_lanes_meet() -> None:
    """Planned on both sides of it, the lane gains on one and loses on the other."""
    since = found(chosen(QWEN, "awq-int4", "a100-sxm4-80", users=256), "L201")
    assert since is not None
    at = since.facts["slower_from"]
    assert found(chosen(QWEN, "awq-int4", "a100-sxm4-80", users=round(at * 0.9)), "L202") is not None
    assert found(chosen(QWEN, "awq-int4", "a100-sxm4-80", users=round(at * 1.1) + 1), "L201") is not None


def test_kernels_are_listed_by_what_they_share() -> None:
    assert listed({"attention": "a", "mlp": "a", "head": "b"}) == "attention, mlp: a; head: b"
    assert listed({}) == ""
