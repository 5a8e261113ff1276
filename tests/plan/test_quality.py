"""What evidence may and may not do."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from catalog.artifact import Artifact
from catalog.load import Catalog
from planner import quality
from planner.accuracy.quality_fit import refit
from planner.lanes import BY_ID
from planner.plan import Plan, Recipe
from planner.request import Request
from planner.search import search
from tests.plan.asking import ask, catalog, device, planned

KNOWN = quality.known(catalog())
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"


def loss(lane: str, params: float, family: str = "chat", training: str = "", context: float = 0.0) -> quality.Loss:
    recipe = BY_ID[lane].methods[0].recipe
    recipe = msgspec.structs.replace(recipe, training=training or recipe.training)
    return quality.weight_loss(KNOWN, BY_ID[lane], recipe, quality.Asked(params=params, context=context), family)


def cache(dtype: str, params: float, context: float) -> quality.Loss:
    return quality.cache_loss(KNOWN, dtype, quality.Asked(params=params, context=context), "long_context")


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


@pytest.mark.parametrize("lane", ["fp8", "int8-w8a8", "w4a16", "nvfp4", "mxfp4", "gguf:Q4_K_M"])
@pytest.mark.parametrize("family", ["chat", "code", "math", "knowledge"])
def test_a_larger_model_never_loses_more(lane: str, family: str) -> None:
    losses = [loss(lane, params, family).value for params in (0.5e9, 3e9, 14e9, 70e9, 405e9)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("lane", ["w4a16", "nvfp4"])
@pytest.mark.parametrize("training", ["qat", "qad"])
def test_training_with_quantization_wins_part_of_the_loss_back(lane: str, training: str) -> None:
    for params in (3e9, 8e9, 70e9):
        assert 0 < loss(lane, params, training=training).value < loss(lane, params, training="ptq").value


def test_losses_of_the_cache_grow_with_what_is_attended_to_and_with_fewer_bits() -> None:
    for params in (8e9, 70e9):
        lengths = [cache("fp8", params, context).value for context in (4096, 32768, 131072)]
        assert lengths == sorted(lengths)
        assert cache("q8_0", params, 32768).value < cache("q4_0", params, 32768).value


def test_four_bits_on_long_documents_lose_more_than_on_short_ones() -> None:
    assert loss("w4a16", 70e9, "long_context", context=65536).value > loss("w4a16", 70e9, "long_context").value


def test_grade_c_counts_for_nothing() -> None:
    worse = [msgspec.structs.replace(row, quantized=row.quantized * 0.5, recovery=50.0) for row in catalog().evidence if row.grade == "C"]  # fmt: skip  # noqa: E501
    assert worse
    spoiled = replace(catalog(), evidence=(*(row for row in catalog().evidence if row.counts), *worse))
    assert quality.known(spoiled).speak == KNOWN.speak
    assert refit(spoiled).evidence == catalog().severity.evidence


def test_a_family_without_rows_names_its_proxy() -> None:
    assert loss("fp8", 8e9, "tool_use").proxy == "instruction"
    assert loss("fp8", 8e9, "tool_use").unverified


def test_losses_of_weights_and_cache_add() -> None:
    weight, held = loss("fp8", 8e9, "long_context", context=65536), cache("fp8", 8e9, 65536)
    both = quality.together(weight, held)
    assert held.value > 0
    assert both.value == pytest.approx(weight.value + held.value, abs=1e-3)
    assert max(weight.high, held.high) < both.high <= weight.high + held.high
    assert both.value < both.likely < both.high


def test_a_quantized_copy_is_no_baseline_of_its_own() -> None:
    original = catalog().model(LLAMA_8B)
    copy = msgspec.structs.replace(
        original, id="someone/Llama-8B-AWQ", native="awq-int4", native_recipe="awq", quantization="awq-int4"
    )
    request = ask("someone/Llama-8B-AWQ", device("l4"), workload={"qps": 0.1}, quality={"max_loss_pct": 10.0})
    plan = planned(request, catalog().with_model(copy))
    assert plan.choice is not None
    assert plan.choice.lane == "awq-int4"
    assert plan.choice.estimates["loss_pct"].value > 1


@pytest.mark.parametrize("training", ["qat", "qad"])
def test_a_checkpoint_that_was_trained_in_its_lane_is_its_own_baseline(training: str) -> None:
    original = catalog().model(LLAMA_8B)
    trained = msgspec.structs.replace(
        original, id="meta-llama/own", native="w4a16", native_recipe="gptq", quantization="w4a16"
    )
    request = ask("meta-llama/own", device("l4"), workload={"qps": 0.1}, quality={"max_loss_pct": 1.0})
    row = w4a16_checkpoint(recipe="rtn", training=training)
    assert not planned(request, catalog().with_model(trained)).feasible
    plan = planned(request, only(row).with_model(trained))
    assert plan.choice is not None
    assert plan.choice.lane == "w4a16"
    assert plan.choice.estimates["loss_pct"].value == 0


def test_a_native_format_is_its_own_baseline() -> None:
    plan = planned(ask("openai/gpt-oss-20b", device("h100-sxm5-80"), workload={"qps": 0.1}))
    assert plan.choice is not None
    assert plan.choice.lane == "mxfp4"
    assert plan.choice.estimates["loss_pct"].value == 0


def four_bits(max_loss: float, **fields: object) -> Request:
    """Llama 8B in W4A16, published as made by GPTQ: 2.7 % of chat is lost, below 3.8 % three times of four."""
    return ask(LLAMA_8B, device("a100-sxm4-80"), lanes=["w4a16"], quality={"max_loss_pct": max_loss}, **fields)


def said(plan: Plan) -> dict[str, str]:
    assert plan.choice is not None
    return {finding.rule: finding.because for finding in plan.choice.findings}


def test_a_published_checkpoint_that_is_tolerated_is_taken_and_the_finding_prices_a_better_recipe() -> None:
    plan = planned(four_bits(5.0))
    assert plan.choice is not None
    assert plan.choice.artifact is not None
    assert plan.choice.make is None
    spoken = said(plan)["Q104"]
    assert "AutoRound would win back 0.4 points (512 samples of 2,048 tokens, 200 steps a layer)" in spoken
    assert "QAT would win back" in spoken
    assert "a training run" in spoken


def test_a_better_recipe_is_made_where_only_that_is_tolerated() -> None:
    plan = planned(four_bits(3.5))
    assert plan.choice is not None
    assert plan.choice.make is not None
    assert plan.choice.make.algorithm == "AutoRound"
    assert "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16" in said(plan)["Q106"]
    assert "Q104" not in said(plan)


def test_where_no_recipe_is_tolerated_the_published_checkpoint_is_what_is_refused() -> None:
    found = search(four_bits(3.0), catalog())
    assert {finding.rule for _, finding in found.options.refused} == {"Q101"}
    assert all(pairing.artifact is not None for pairing, _ in found.options.refused)


def test_a_waived_tolerance_takes_what_is_published() -> None:
    plan = planned(four_bits(3.5, overrides={"waive": ["Q101"]}))
    assert plan.choice is not None
    assert plan.choice.artifact is not None


def test_confidence_moves_the_bar_to_the_bad_end() -> None:
    plain, sure = (planned(four_bits(4.0, **more)) for more in ({}, {"confidence": "high"}))
    assert plain.feasible
    assert not sure.feasible
    assert planned(four_bits(5.0, confidence="high")).feasible


def test_the_worst_weighted_family_decides_and_tolerances_are_per_family() -> None:
    workload = {"qps": 1.0, "mix": {"chat": 0.9, "math": 0.1}}
    fields = {"workload": workload, "lanes": ["w4a16"]}
    strict = planned(ask(LLAMA_8B, device("a100-sxm4-80"), quality={"max_loss_pct": 5.0}, **fields))
    loose = planned(
        ask(LLAMA_8B, device("a100-sxm4-80"), quality={"max_loss_pct": 5.0, "per_family": {"math": 9.0}}, **fields)
    )
    assert not strict.feasible
    assert {entry.finding.facts["family"] for entry in strict.refused} == {"math"}
    assert loose.feasible


def w4a16_checkpoint(**fields: object) -> Artifact:
    known = {"publisher": "meta-llama", "lane": "w4a16", "format": "W4A16", "confidence": "A", "source": "a test"}
    return msgspec.convert({"repo": "meta-llama/own", "base": LLAMA_8B, **known, **fields}, Artifact)


def only(artifact: Artifact) -> Catalog:
    others = tuple(each for each in catalog().artifacts if each.base != artifact.base)
    return replace(catalog(), artifacts=(*others, artifact))


def test_groups_that_no_kernel_takes_are_refused_by_name() -> None:
    request = four_bits(20.0)
    found = search(request, only(w4a16_checkpoint(recipe="gptq", group_size=256)))
    [finding] = [finding for pairing, finding in found.options.refused if pairing.engine.id == "vllm"]
    assert finding.rule == "H101"
    assert finding.because == (
        "meta-llama/own is quantized in groups of 256: the four-bit kernels of vLLM take 32, 64, 128"
    )
    assert planned(request, only(w4a16_checkpoint(recipe="gptq", group_size=64))).feasible


def test_a_checkpoint_that_was_read_is_refused_for_its_groups_too() -> None:
    own = {"id": "someone/own", "native": "w4a16", "native_recipe": "gptq", "quantization": "w4a16"}
    request = ask("someone/own", device("l4"), workload={"qps": 0.1}, quality={"max_loss_pct": 20.0})
    for size, fits in ((256, False), (128, True)):
        read = msgspec.structs.replace(catalog().model(LLAMA_8B), **own, group_size=size)
        plan = planned(request, catalog().with_model(read))
        assert plan.feasible is fits
        assert fits or "H101" in {entry.finding.rule for entry in plan.refused if entry.lane == "w4a16"}


def test_groups_of_a_published_checkpoint_must_divide_with_tensor_parallelism() -> None:
    model = "Qwen/Qwen2.5-72B-Instruct"
    devices = device("l40s", 4)
    request = ask(model, devices, lanes=["gptq-int4"], workload={"qps": 0.05}, quality={"max_loss_pct": 20.0})

    def rules(size: int) -> set[str]:
        own = w4a16_checkpoint(base=model, lane="gptq-int4", format="GPTQ-INT4", recipe="gptq", group_size=size)
        return {finding.rule for _, finding in search(request, only(own)).unplaced}

    assert "H302" in rules(128)
    assert "H302" not in rules(32)


@pytest.mark.parametrize("training", ["qat", "qad"])
def test_a_checkpoint_whose_quantization_was_trained_is_judged_as_such(training: str) -> None:
    plan = planned(four_bits(20.0), only(w4a16_checkpoint(recipe="rtn", training=training)))
    plain = planned(four_bits(20.0), only(w4a16_checkpoint(recipe="rtn")))
    assert plan.choice is not None
    assert plain.choice is not None
    assert plan.choice.recipe.training == training
    assert plan.choice.estimates["loss_pct"].value < plain.choice.estimates["loss_pct"].value


def cached(request: Request, dtype: str, facts: Catalog | None = None) -> set[str]:
    """Rules that refuse this cache format; empty where it stays."""
    found = search(request, facts or catalog())
    options = found.options
    if any(option.cached.dtype == dtype for option in options.kept):
        return set()
    return {finding.rule for _, finding in options.refused}


def version_without_the_fix() -> Catalog:
    """The catalogue with a vLLM from before FlashAttention's second level of sums."""
    old = msgspec.structs.replace(catalog().engine("vllm", "0.19.1"), version="0.11.0")
    return replace(catalog(), engines=(old, *(each for each in catalog().engines if each.id != "vllm")))


@pytest.mark.parametrize(
    ("accelerator", "context", "refused"),
    [("h100-sxm5-80", 65536, True), ("h100-sxm5-80", 8192, False), ("l40s", 65536, False), ("b200-sxm", 65536, False)],
)
def test_an_old_vllm_is_refused_an_fp8_cache_on_hopper_beyond_short_contexts(
    accelerator: str, context: int, refused: bool
) -> None:
    workload = {"qps": 0.1, "context_tokens_max": context}
    request = ask(LLAMA_8B, device(accelerator, 4), workload=workload, lanes=["bf16"], quality={"max_loss_pct": 5.0})
    assert cached(request, "fp8") == set()
    assert cached(request, "fp8", version_without_the_fix()) == ({"H120"} if refused else set())


@pytest.mark.parametrize(
    ("model", "workload", "refused"),
    [
        ("Qwen/Qwen3-8B", {}, False),
        ("meta-llama/Llama-3.2-3B-Instruct", {}, True),
        (LLAMA_8B, {"context_tokens_max": 65536}, True),
        ("Qwen/Qwen3-8B", {"mix": {"reasoning": 0.5, "chat": 0.5}}, True),
    ],
)
def test_a_four_bit_cache_is_for_short_chat_on_models_from_7b(
    model: str, workload: dict[str, object], refused: bool
) -> None:
    load = {"users": 1, "context_tokens_max": 16384, **workload}
    request = ask(model, device("rtx4090"), workload=load, engines=["llama.cpp"], quality={"max_loss_pct": 10.0})
    assert ("Q305" in cached(request, "q4_0")) is refused


def test_attention_sinks_keep_their_cache_in_sixteen_bits_under_llama_cpp() -> None:
    request = ask("openai/gpt-oss-20b", device("rtx4090"), workload={"users": 1}, engines=["llama.cpp"])
    assert "Q303" in cached(request, "q8_0")
    assert "Q303" in cached(request, "q4_0")


SETTINGS = [(params, context) for params in (0.5e9, 8e9, 32e9, 70e9, 405e9) for context in (8192, 131072)]


@pytest.mark.parametrize("lane", BY_ID)
def test_every_loss_has_a_citation_or_says_assumed(lane: str) -> None:
    for params, context in SETTINGS:
        asked = quality.Asked(params=params, context=context, typical=2000)
        for method in BY_ID[lane].methods:
            for family in (*quality.PROXIES, "chat", "code", "math", "multilingual", "long_context"):
                found = quality.weight_loss(KNOWN, BY_ID[lane], method.recipe, asked, family)
                assert found.citations
                assert all(found.citations)
                assert found.sources or found.unverified
                assert 0 <= found.low <= found.value <= found.likely <= found.high <= 100


def test_a_format_that_nobody_measured_says_assumed() -> None:
    recipe = Recipe(name="x", algorithm="x")
    nobody = replace(KNOWN, speak={})
    found = quality.weight_loss(nobody, BY_ID["w4a16"], recipe, quality.Asked(params=8e9), "chat")
    assert found.citations[0].startswith("assumed: ")


MIXES: tuple[dict[str, float], ...] = (
    {"chat": 1.0},
    {"code": 0.5, "math": 0.5},
    {"rag": 0.5, "tool_use": 0.5},
    {"summarization": 0.4, "multilingual": 0.6},
)


@pytest.mark.parametrize("mix", MIXES, ids="+".join)
@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", LLAMA_70B, "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1"])
def test_every_quality_estimate_of_a_plan_rests_on_sources_or_is_called_assumed(
    model: str, mix: dict[str, float]
) -> None:
    workload = {"qps": 0.2, "mix": mix, "context_tokens_max": 32768}
    hardware = device("h200-sxm5", 8), device("b200-sxm", 8)
    plan = planned(ask(model, *hardware, workload=workload, quality={"max_loss_pct": 20.0}))
    assert plan.choice is not None
    measured = {name for names in KNOWN.speak.values() for name in names}
    for candidate in (plan.choice, *plan.alternatives):
        estimate = candidate.estimates["loss_pct"]
        named = {finding.rule for finding in candidate.findings}
        assert estimate.basis == "fitted" or estimate.value == 0 or "Q501" in named
        for family, loss_of in candidate.quality.items():
            cited = set(candidate.evidence[family].citations)
            assert cited
            assert loss_of.basis == "assumed" or cited & {
                *measured,
                "the original weights",
                catalog().model(model).source,
            }
    if plan.choice.estimates["loss_pct"].basis == "fitted" and plan.choice.estimates["loss_pct"].value > 0:
        assert set(plan.sources) & measured


@pytest.mark.parametrize(("training", "refused"), [("ptq", True), ("qat", False), ("qad", False)])
def test_fp4_of_a_small_model_needs_proof_unless_it_was_trained(training: str, refused: bool) -> None:
    row = w4a16_checkpoint(base="Qwen/Qwen3-14B", lane="nvfp4", format="NVFP4", recipe="nvfp4", training=training)
    request = ask("Qwen/Qwen3-14B", device("b200-sxm"), lanes=["nvfp4"], quality={"max_loss_pct": 4.0})
    rules = {finding.rule for _, finding in search(request, only(row)).options.refused}
    assert ("Q203" in rules) is refused


def test_what_two_sources_measured_is_the_estimates_alone() -> None:
    """The same request, once as evidence stands and once as if another laboratory had measured it too."""
    request = ask("Qwen/Qwen3-14B", device("b200-sxm"), lanes=["nvfp4"], quality={"max_loss_pct": 4.0})
    [row] = [row for row in catalog().evidence if row.id == "Q1335"]
    chat = [
        msgspec.structs.replace(row, id=f"X{number}", citation=f"laboratory {number}", task_family="chat")
        for number in (1, 2)
    ]
    measured = replace(catalog(), evidence=(*catalog().evidence, *chat))
    measured = replace(measured, severity=refit(measured))
    assert not planned(request).feasible
    assert planned(request, measured).feasible


def test_a_tolerance_of_its_own_lets_a_family_pass_where_thin_evidence_refuses() -> None:
    workload = {"qps": 0.2, "languages": {"en": 0.4, "de": 0.6}}
    fields = {"workload": workload, "lanes": ["nvfp4"]}
    strict = {"max_loss_pct": 2.3}
    loose = {"max_loss_pct": 2.3, "per_family": {"multilingual": 4.0}}

    def rules(quality_: dict[str, object]) -> set[str]:
        request = ask("Qwen/Qwen3-32B", device("a100-sxm4-80"), quality=quality_, **fields)
        return {finding.rule for _, finding in search(request, catalog()).options.refused}

    assert "Q702" in rules(strict)
    assert "Q702" not in rules(loose)
