"""Q rules: what a lane may lose, for this mix, size and context.

The estimate decides (Q101). Other refusals speak where it may be too sure: what short benchmarks hide, and what fewer
than two sources measured, has to hold at the bad end of its interval.
"""

from __future__ import annotations

from planner.rules.rule import Cached, Pairing, Says, Shown, rule
from planner.settle import Objectives

FOUR_BIT = ("4-bit integer", "4-bit float")
LARGE = 27e9
"""Parameters from which nothing much larger is likely to be had (assumed)."""
FOUR_BITS = 4.25
"""Bits of a four-bit weight with its share of the scales and of what stays in 16 bits (W4A16 in groups of 128; assumed
for the rest)."""
FINE_ENOUGH = 5.0
"""Bits of a GGUF type from which averages lose no more than 1 % (Q5_K_M: perplexity +0.9 %)."""


def own_format(case: Pairing) -> bool:
    """The publisher's own format: nothing is lost against the original."""
    return case.lane.id in (case.model.native, f"gguf:{case.model.native.upper()}")


def four_bit(case: Pairing) -> bool:
    """Weights of about four bits or fewer that are not the publisher's own."""
    coarse_gguf = case.lane.family == "gguf" and case.lane.bits < FINE_ENOUGH
    return (case.lane.family in FOUR_BIT or coarse_gguf) and not own_format(case)


def tolerance(limits: Objectives, family: str) -> float:
    """What may be lost of a family, percent."""
    return limits.per_family.get(family, limits.max_loss_pct)


def allowed_for(case: Pairing, family: str) -> float:
    """The same in the case's own limits."""
    return tolerance(case.settled.objectives, family)


@rule("Q102", "refuse")
def nf4_is_for_fine_tuning(case: Pairing) -> Says | None:
    """Refuses bitsandbytes NF4 for serving.

    Why: it left vLLM's core, runs at half of the 16-bit speed, and collapses on long documents: Llama-3.1-70B
    OneRuler 71.0 to 12.4 points at 64-128k. It is a fine format for QLoRA fine-tuning.
    Articles: A1 and A2 recommend bitsandbytes NF4 (A2: 7-13B on one GPU, 3-4 times faster, perplexity +0.1-0.2, "11 %
    better than FP4"). A2's own table has it slower (22 against 38 tokens/s); NF4 against FP4 is 2.7 %; OneRuler 70B
    71.0 to 12.4 (Q0080). QLoRA fine-tuning is out of scope here.
    Source: Mekala et al. 2025 (EMNLP); vLLM 0.33 quantization methods.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes nf4
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes w4a16
    """
    if case.lane.id != "nf4":
        return None
    return Says(because="NF4 is a fine-tuning format: refused for serving", source="Mekala et al. 2025; vllm 0.33")


@rule("Q101", "refuse")
def loses_too_much(case: Cached) -> Says | None:
    """Refuses what is expected to lose more than is tolerated, judged on the family that loses most.

    Why: an average over families hides the one that breaks. With confidence "high" the interval's bad end decides.
    Articles: A1: INT8 99, AWQ 98, GPTQ 97, INT2 88 %. Shipped medians (contexts to 16k, without perplexity): INT8 99.1
    at 5-15B and 99.6 at 51-120B; AWQ 98.2 and 99.3; GPTQ 98.0 and 99.4. AWQ is ahead of GPTQ in 52 of 85 pairs, behind
    in 27, knowledge level: no lane wins by name. A3's FP8 "parity on every benchmark": averages yes (99.7, 99.8, 100.1
    %), but RULER Qwen2.5-32B 86.8, CS4 8B 88.6 %.
    Source: the evidence table, pooled by lane, size and family.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes w4a16
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes w4a16 --max-loss 5
    """
    limits = case.pairing.settled.objectives
    for name, loss in sorted(case.losses.items(), key=lambda item: -item[1].value):
        allowed = allowed_for(case.pairing, name)
        bound = loss.bound(limits.strict)
        if bound > allowed:
            facts = {
                "family": name,
                "loss_pct": loss.value,
                "bound_pct": bound,
                "high_pct": loss.high,
                "allowed_pct": allowed,
            }
            odds = "nine times of ten" if limits.strict else "three times of four"
            because = f"{name}: {loss.value:.1f} % expected loss, below {bound:.1f} % {odds}; {allowed:g} % tolerated"
            return Says(because=because, facts=facts, source="; ".join(loss.citations[:2]))
    return None


@rule("Q204", "prefer")
def nvfp4_before_mxfp4(case: Pairing) -> Says | None:
    """Prefers any other lane to MXFP4 made after training.

    Why: rounding Llama-3.1-8B to MXFP4 left 46.7 of 75.3 points of GSM8K where NVFP4 left 64.1; its blocks of 32 share a
    power of two. Models trained in MXFP4 (gpt-oss) are their own original.
    Articles: A3 speaks of FP4 as one format. NVFP4 and MXFP4 differ: Llama-3.1-8B averages 97.2-98.4 and 87.8-95.1 %
    (Q0700-Q0710).
    Source: MR-GPTQ tables: 11 tasks, NVFP4 96.1 %, MXFP4 87.8 %.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on b200-sxm --qps 1 --lanes mxfp4 --max-loss 20
    Silent: --model openai/gpt-oss-120b --on b200-sxm --qps 1 --lanes mxfp4
    """
    if case.lane.id != "mxfp4" or own_format(case):
        return None
    return Says(
        because="MXFP4 made after training loses about three times what NVFP4 loses",
        source="MR-GPTQ: Llama-3.1-8B, 11 tasks",
    )


@rule("Q205", "note")
def low_bits_need_an_importance_matrix(case: Shown) -> Says | None:
    """Notes that a GGUF file below five bits should be made with an importance matrix, and below three must be.

    Why: Q2_K of Llama-3-8B has 39 % more perplexity with one and 57 % without; i-quants cannot be made without.
    Articles: A3: below Q4 the importance matrix is load-bearing, IQ3 hallucinates without it, i-quants ship with it.
    Q2_K perplexity +39 % with, +56 % without (Q0326, Q0332); llama-quantize demands it for IQ1, IQ2, IQ3_XXS and Q2_K_S
    only; hallucination: no source.
    Source: llama.cpp perplexity README; llama-quant.cpp.
    Fires: --model Qwen/Qwen3-8B --on rtx3080 --users 1 --lanes gguf:Q4_K_M --max-loss 20
    Silent: --model Qwen/Qwen3-8B --on rtx3080 --users 1 --lanes gguf:Q6_K --max-loss 20
    """
    lane = case.pairing.lane
    if lane.family != "gguf" or lane.bits >= FINE_ENOUGH or own_format(case.pairing):
        return None
    which = "make it with one" if case.make is not None else "take a file that was made with one"
    return Says(
        because=f"an importance matrix carries quality at {lane.bits:.2g} bits: {which}",
        facts={"bits": lane.bits},
        source="llama.cpp perplexity README",
    )


@rule("Q103", "warn")
def eight_bits_first(case: Shown) -> Says | None:
    """Warns where four bits with thin evidence are taken on a device that multiplies in FP8.

    Why: when in doubt ship FP8 first, measure, and see what four bits would still win: their losses are the ones that
    short benchmarks hide.
    Articles: A3, rule 5 and rule 1: ship FP8 first on Hopper and newer, full stop; A2: AWQ is best for 90 % of cases.
    Applied where four bits have thin evidence on FP8 hardware; "any" code or long context became shares and lengths
    (Q401, Q301). The 90 % has no count.
    Source: quality evidence rules R1 and R4; `lanewise plan --lanes fp8` prices the difference.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.3 --mix rag=1.0 --max-loss 4
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:4 --qps 0.3 --mix rag=1.0 --max-loss 4
    """
    pairing = case.pairing
    thin = sorted(name for name, loss in pairing.losses.items() if loss.unverified)
    eight = pairing.engine.kernel("fp8", "fp8-dynamic", pairing.device.accelerator)
    if not four_bit(pairing) or not thin or eight is None or eight.path != "fp8":
        return None
    return Says(
        because=f"few measured four bits for {', '.join(thin)}, and this device multiplies in FP8: ship fp8 first, then compare",
        facts={"families": thin},
        source="quality evidence rules R1, R4",
    )


@rule("Q701", "warn")
def other_languages_are_pooled(case: Shown) -> Says | None:
    """Warns that losses in other languages than English are those of multilingual benchmarks together.

    Why: they differ by language and model: the tokens of rarer languages are the ones that calibration saw least.
    Articles: A2: match the language of calibration. At 8B OmniQuant INT4 loses 1.9 % in English, 4.5 % in Russian (its
    card, Q1594 and following).
    Source: quality evidence §2.10 and rule R6.
    Fires: --model Qwen/Qwen3-32B --on h100-sxm5-80 --qps 0.5 --lanes fp8 --languages en=0.4,de=0.6
    Silent: --model Qwen/Qwen3-32B --on h100-sxm5-80 --qps 0.5 --lanes fp8
    """
    load, lane = case.pairing.settled.load, case.pairing.lane
    loss = case.pairing.losses.get("multilingual")
    others = sorted(load.languages.keys() - {"en"})
    if loss is None or not others or lane.family == "16-bit":
        return None
    return Says(
        because=f"the loss in {', '.join(others)} is that of multilingual benchmarks together ({loss.value:.1f} %, up to {loss.high:.1f} %)",
        facts={"languages": load.languages, "loss_pct": loss.value, "high_pct": loss.high},
        source="; ".join(loss.citations[:2]),
    )


@rule("Q107", "note")
def larger_in_four_bits(case: Shown) -> Says | None:
    """Notes that a larger model in four bits takes the bytes of a 16-bit one, and is usually the better of the two.

    Why: at equal bytes a quantized larger model beat the smaller 16-bit one on most benchmarks of a study of 13 methods,
    but for instruction following and hallucination; where those matter most, nothing is said. Four bits of a model of
    25B and more lose 1 to 2 %, and twice the parameters win more than that.
    Articles: A1 and A2 quantize to fit a larger model into a device; neither compares models of equal bytes.
    Source: Lee et al., arXiv 2409.11055 (its abstract; the tables were not reachable): quality evidence rule R10.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes bf16
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes fp8
    """
    pairing = case.pairing
    four = pairing.engine.kernel("w4a16", "gptq", pairing.device.accelerator)
    follows = pairing.settled.load.mix.get("instruction", 0.0)
    if pairing.lane.family != "16-bit" or pairing.params > LARGE or four is None or four.refuse or follows > 0.5:
        return None
    larger = pairing.params * 16 / FOUR_BITS
    return Says(
        because=f"{larger / 1e9:.0f}B parameters in four bits take the bytes of these {pairing.params / 1e9:.1f}B: a larger model of the family is usually better, but for following instructions",
        facts={"params": pairing.params, "equal_bytes_params": round(larger)},
        source="Lee et al. 2024, arXiv 2409.11055 (abstract)",
    )


@rule("Q501", "warn")
def few_sources(case: Cached) -> Says | None:
    """Warns where fewer than two sources measured this lane at this size for a family of the mix.

    Why: one lab's number is a prior, not a result; verify before shipping.
    Articles: All three give single numbers without sources; A3: "near-lossless on the model card". Fewer than two
    sources are marked.
    Source: the evidence table.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on h100-sxm5-80 --qps 1 --lanes w4a16 --max-loss 20 --mix rag=1
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on h100-sxm5-80 --qps 1 --lanes bf16 --mix rag=1
    """
    thin = sorted(name for name, loss in case.losses.items() if loss.unverified)
    if not thin or case.pairing.lane.family == "16-bit":
        return None
    return Says(because=f"unverified: fewer than two sources for {', '.join(thin)}", facts={"families": thin})


@rule("Q502", "note")
def proxy_families(case: Cached) -> Says | None:
    """Notes families that nobody measured and whose stand-in was used.

    Why: there are no paired tables for RAG, classification, summarization and tool use.
    Articles: A3: AWQ for chat, summarisation, classification, routing, where most tokens are easy. Nobody measured the
    latter three; the stand-in is said.
    Source: quality evidence, gaps.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on h100-sxm5-80 --qps 1 --lanes w4a16 --max-loss 20 --mix rag=1
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on h100-sxm5-80 --qps 1 --lanes w4a16 --max-loss 20 --mix code=1
    """
    proxies = {name: loss.proxy for name, loss in sorted(case.losses.items()) if loss.proxy}
    if not proxies:
        return None
    pairs = ", ".join(f"{name} by {proxy}" for name, proxy in proxies.items())
    return Says(because=f"estimated by proxy: {pairs}", facts={"proxies": proxies})
