"""What evidence may and may not do."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from planner import quality
from planner.lanes import BY_ID
from tests.plan.asking import ask, catalog, device, planned

POOLS = quality.pools(catalog().evidence)


def loss(lane: str, params: float, family: str = "chat") -> quality.Loss:
    return quality.weight_loss(POOLS, BY_ID[lane], params, family)


def test_sixteen_bits_lose_nothing() -> None:
    assert loss("bf16", 8e9).high == 0


@pytest.mark.parametrize("family", ["chat", "code", "math", "reasoning", "knowledge", "long_context"])
@pytest.mark.parametrize("params", [1.5e9, 8e9, 30e9, 70e9])
def test_fp8_loses_less_than_four_bits(params: float, family: str) -> None:
    assert loss("fp8", params, family).value <= loss("awq-int4", params, family).value


def test_a_coarser_gguf_type_never_loses_less() -> None:
    order = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M"]
    for params in (1.5e9, 8e9, 70e9):
        losses = [loss(f"gguf:{kind}", params).value for kind in order]
        assert losses == sorted(losses)


def test_grade_c_counts_for_nothing() -> None:
    worse = [msgspec.structs.replace(row, quantized=row.quantized * 0.5, recovery=50.0) for row in catalog().evidence if row.grade == "C"]  # fmt: skip  # noqa: E501
    assert worse
    assert quality.pools((*(row for row in catalog().evidence if row.grade != "C"), *worse)).keys() == POOLS.keys()
    assert quality.weight_loss(quality.pools((*catalog().evidence, *worse)), BY_ID["fp8"], 8e9, "chat") == loss("fp8", 8e9)  # fmt: skip  # noqa: E501


def test_a_family_without_rows_names_its_proxy() -> None:
    assert loss("fp8", 8e9, "tool_use").proxy == "instruction"
    assert loss("fp8", 8e9, "tool_use").unverified


def test_editing_the_rows_flips_the_verdict() -> None:
    workload = {"qps": 0.05, "context_tokens_max": 4096}
    request = ask("meta-llama/Llama-3.1-70B-Instruct", device("l40s"), workload=workload)
    before = planned(request)
    assert before.choice is not None
    assert before.choice.lane in ("awq-int4", "gptq-int4", "w4a16")
    spoiled = tuple(
        msgspec.structs.replace(row, recovery=80.0)
        if row.lane in ("awq-int4", "gptq-int4", "w4a16") and row.recovery is not None
        else row
        for row in catalog().evidence
    )
    after = planned(request, replace(catalog(), evidence=spoiled))
    assert after.choice is None or after.choice.lane not in ("awq-int4", "gptq-int4", "w4a16")


def test_losses_of_weights_and_cache_add() -> None:
    weight, cache = loss("fp8", 8e9), quality.cache_loss(POOLS, "fp8", "chat")
    assert cache.value > 0
    assert quality.together(weight, cache).value == pytest.approx(weight.value + cache.value)


def test_a_quantized_copy_is_no_baseline_of_its_own() -> None:
    original = catalog().model("meta-llama/Llama-3.1-8B-Instruct")
    copy = msgspec.structs.replace(
        original, id="someone/Llama-8B-AWQ", native="awq-int4", native_recipe="awq", quantization="awq-int4"
    )
    request = ask("someone/Llama-8B-AWQ", device("l4"), workload={"qps": 0.1}, quality={"max_loss_pct": 10.0})
    plan = planned(request, catalog().with_model(copy))
    assert plan.choice is not None
    assert plan.choice.lane == "awq-int4"
    assert plan.choice.estimates["loss_pct"].value > 1


def test_a_native_format_is_its_own_baseline() -> None:
    plan = planned(ask("openai/gpt-oss-20b", device("h100-sxm5-80"), workload={"qps": 0.1}))
    assert plan.choice is not None
    assert plan.choice.lane == "mxfp4"
    assert plan.choice.estimates["loss_pct"].value == 0
