"""Q rules: what a lane may lose, for this mix, size and context."""

from __future__ import annotations

from planner.quality import LONG_CONTEXT
from planner.rules.rule import Cached, Pairing, Says, Shown, rule

FOUR_BIT = ("4-bit integer", "4-bit float")
HARD = ("code", "math", "reasoning")
HARD_SHARE = 0.2
"""Share of hard generation above which four bits are refused (quality evidence, rule R5)."""
LOOSE = 5.0
"""Tolerance in percent at which a user has accepted what four bits cost small models and hard tasks (R3)."""
FINE_ENOUGH = 5.0
"""Bits of a GGUF type from which averages lose no more than 1 % (Q5_K_M: perplexity +0.9 %)."""
FINE_FOR_HARD = 6.5
"""Bits of a GGUF type that passes the strict gate for code and maths: Q6_K has perplexity +0.35 % and KLD 0.0055, Q5_K_M
+0.9 % and 0.011 (llama.cpp perplexity README)."""
SMALL, TINY, LARGE = 4.5e9, 1.0e9, 27e9
"""Parameters: bounds of rule R3."""
LEAST_BITS, VERY_LOOSE = 3.0, 10.0
"""Bits of a GGUF type below which quality breaks, and the tolerance in percent at which one has accepted that."""


def own_format(case: Pairing) -> bool:
    """The publisher's own format: nothing is lost against the original."""
    return case.lane.id in (case.model.native, f"gguf:{case.model.native.upper()}")


def four_bit(case: Pairing) -> bool:
    """Weights of about four bits or fewer that are not the publisher's own."""
    coarse_gguf = case.lane.family == "gguf" and case.lane.bits < FINE_ENOUGH
    return (case.lane.family in FOUR_BIT or coarse_gguf) and not own_format(case)


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


@rule("Q202", "refuse")
def tiny_models_stay_16_bit(case: Pairing) -> Says | None:
    """Refuses to quantize models of at most one billion parameters unless 5 % may be lost.

    Why: even 8-bit weights cost Qwen2-0.5B five percent, and a 16-bit copy is small anyway.
    Articles: A2: INT8 loses almost nothing. Not at 0.5B: Qwen2-0.5B 34.4 to 32.6.
    Source: Qwen2-0.5B 34.4 to 32.6 with 8-bit weights; RedHatAI/Qwen2.5-0.5B-quantized.w4a16.
    Fires: --model Qwen/Qwen2.5-0.5B-Instruct --on l4 --qps 1 --lanes fp8
    Silent: --model Qwen/Qwen2.5-1.5B-Instruct --on l4 --qps 1 --lanes fp8
    """
    tiny = case.params <= TINY and case.lane.family != "16-bit" and case.lane.id not in ("gguf:Q8_0", case.model.native)
    if not tiny or tolerates(case):
        return None
    return Says(
        because=f"{case.params / 1e9:.1f}B parameters leave no redundancy to quantize",
        facts={"params": case.params},
        source="Qwen2 evaluation: 0.5B GPTQ-Int8",
    )


@rule("Q201", "refuse")
def small_models_lose_at_four_bits(case: Pairing) -> Says | None:
    """Refuses four bits for models up to 4.5B parameters unless 5 % may be lost.

    Why: W4A16 recovers 95.8 % at 0.6B and 96.9 % at 1.5B on averages, 82 % of AIME at 1.5B.
    Articles: A2: INT4 hurts models below 3B, prefer INT8 or FP16. Confirmed and widened to 4.5B: W4A16 averages 95.8 %
    at 0.6B, 96.9 % at 1.5B; AIME24 82.0 % at 1.5B (Q1457). A1's "1-2 %" does not hold there.
    Source: model cards of RedHatAI quantized.w4a16 (0.5B-3B), DeepSeek-R1-Distill-Qwen-1.5B.
    Fires: --model meta-llama/Llama-3.2-3B-Instruct --on l4 --qps 0.5 --lanes w4a16
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l4 --qps 0.5 --lanes w4a16
    """
    if not four_bit(case) or case.params > SMALL or tolerates(case):
        return None
    return Says(
        because=f"four bits cost a {case.params / 1e9:.1f}B model 3 to 18 %: keep 8 or 16 bits",
        facts={"params": case.params, "max_loss_pct": case.settled.objectives.max_loss_pct},
        source="RedHatAI quantized.w4a16 cards",
    )


@rule("Q401", "refuse")
def hard_generation_needs_eight_bits(case: Pairing) -> Says | None:
    """Refuses four bits (and GGUF types below Q6_K) where code, maths and reasoning are more than a fifth of the work, unless 5 % may be lost.

    Why: short multiple choice hides what long generation shows: at 8B HumanEval+ 97.4 %, MMLU-Pro 93.6 %, AIME-class
    below 95 %; at 70B code 95.4 %. The articles say "FP8 minimum" for maths and code; the evidence agrees below 5 %.
    Articles: A3: code and maths need FP8 at least ("any" share, rule 1), and AWQ with constrained decoding rather than
    GPTQ for code. Evidence agrees below 5 % loss: 8B MMLU-Pro 93.5, MATH level 5 94.3, 1.5B AIME24 82.0 %. GPTQ holds
    code (HumanEval 99.7 %, Devstral 99.8 %); no AWQ pair exists. A3's "98.9 % of HumanEval+ for AWQ" is Red Hat's GPTQ.
    Source: model cards RedHatAI quantized.w4a16; RedHatAI NVFP4 cards (AIME24 81.8 % at 8B).
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:2 --qps 0.3 --lanes w4a16 --mix chat=0.6,code=0.4
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:2 --qps 0.3 --lanes w4a16 --mix chat=0.9,code=0.1
    """
    coarse = case.lane.family == "gguf" and case.lane.bits < FINE_FOR_HARD and not own_format(case)
    if not (coarse or four_bit(case)):
        return None
    share = sum(case.settled.load.mix.get(name, 0.0) for name in HARD)
    if share <= HARD_SHARE or tolerates(case):
        return None
    return Says(
        because=f"{share:.0%} of the work is code, maths or reasoning: four bits lose there what averages hide",
        facts={"hard_share": round(share, 4), "max_loss_pct": case.settled.objectives.max_loss_pct},
        source="RedHatAI quantized.w4a16 and NVFP4 cards",
    )


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
        allowed = limits.per_family.get(name, limits.max_loss_pct)
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


@rule("Q203", "refuse")
def fp4_needs_a_large_model(case: Pairing) -> Says | None:
    """Refuses FP4 weights made after training below 27B parameters unless 5 % may be lost.

    Why: NVFP4 at 8B recovers 96 % on averages and 66 to 95 % of hard maths, from 30B on 97 to 100 %; with training
    (QAT, QAD) small models recover part of it.
    Articles: A3: FP4 on Blackwell is 2 times FP8 with minimal loss on chat. At 8B 81.8 % of AIME24 is left (Q1349); 70B
    average 98.7 % (Q1308). Planned speed over FP8, 70B on a B200: 1.32 times at 256 users, 1.43 for one; no measured
    pair.
    Source: RedHatAI and nvidia NVFP4 cards; torchao QAT; quality evidence rule R3.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on b200-sxm --qps 1 --lanes nvfp4
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on b200-sxm --qps 1 --lanes nvfp4
    """
    made_after = case.method.recipe.training == "ptq" and not own_format(case)
    if case.lane.family != "4-bit float" or not made_after or case.params >= LARGE or tolerates(case):
        return None
    return Says(
        because=f"FP4 after training costs a {case.params / 1e9:.0f}B model 2 to 6 % and more on hard maths: keep FP8, or tolerate 5 %",
        facts={"params": case.params, "max_loss_pct": case.settled.objectives.max_loss_pct},
        source="RedHatAI NVFP4 cards",
    )


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


@rule("Q206", "refuse")
def under_three_bits(case: Pairing) -> Says | None:
    """Refuses GGUF types below three bits unless 10 % may be lost.

    Why: two bits leave 67 to 88 % of MMLU at 8B and 90 to 95 % at 70B, even with an importance matrix.
    Articles: A1: INT2 keeps 88 % and is rarely worth it. IQ2 keeps 67-88 % of MMLU at 8B, 90-95 % at 70B (matt-c1).
    Source: llama.cpp MMLU table of Llama-3 (matt-c1), quality evidence 1d.
    Fires: --model Qwen/Qwen3-8B --on rtx3080 --qps 0.05 --lanes gguf:Q2_K
    Silent: --model Qwen/Qwen3-8B --on rtx3080 --qps 0.05 --lanes gguf:Q4_K_M
    """
    allowed = case.settled.objectives.max_loss_pct
    if case.lane.family != "gguf" or case.lane.bits >= LEAST_BITS or own_format(case) or allowed >= VERY_LOOSE:
        return None
    return Says(
        because=f"{case.lane.bits:.2g} bits per weight lose 5 to 30 %: take four bits, or a smaller model",
        facts={"bits": case.lane.bits, "max_loss_pct": allowed},
        source="matt-c1 MMLU comparison of Llama-3 GGUF files",
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


@rule("Q301", "refuse")
def long_documents_need_proof(case: Cached) -> Says | None:
    """Refuses four bits above 16k tokens of context unless even the interval's bad end is tolerated.

    Why: errors on long documents differ wildly between models at four bits (OneRuler at 64-128k: 76 to 110 %), and few
    sources measured any; eight bits hold 100 %.
    Articles: A3: INT4 drops up to 59 % above 32k, MMLU below 2 %; stay at FP8 or W8 above 16k. 59 are points of NF4 on
    one model (OneRuler 70B 71.0 to 12.4; AWQ 67.0, GPTQ 64.9, FP8 70.4: Q0076-Q0080); the paper has no MMLU and no
    multi-document QA. At 32k AWQ keeps 99.0 %, GPTQ 95.9 % (Q0133, Q0134). The threshold of 16k is kept; proof lifts
    it.
    Source: Mekala et al. 2025, per-length results.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.3 --lanes w4a16 --context 24576
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.3 --lanes w4a16 --context 16384
    """
    pairing = case.pairing
    context, loss = pairing.settled.load.context, case.losses.get("long_context")
    allowed = pairing.settled.objectives.per_family.get("long_context", pairing.settled.objectives.max_loss_pct)
    if not four_bit(pairing) or context <= LONG_CONTEXT or loss is None or loss.high <= allowed:
        return None
    return Says(
        because=f"{context:,} tokens of context: four bits may lose up to {loss.high:.1f} % on long documents, {allowed:g} % are tolerated",
        facts={"context_tokens_max": context, "high_pct": loss.high, "allowed_pct": allowed},
        source="; ".join(loss.citations[:2]),
    )


@rule("Q303", "refuse")
def sinks_need_a_full_cache(case: Cached) -> Says | None:
    """Refuses an 8-bit cache in llama.cpp for models with attention sinks.

    Why: gpt-oss-20b with q8_0 keys agreed with itself on only 74.9 % of tokens.
    Articles: A2: consider an 8-bit cache for multi-turn dialogue. Fine for most (KL divergence 0.001), not with
    attention sinks: gpt-oss-20b agreed with itself on 74.9 % of tokens.
    Source: llama-cpp-turboquant issue 305 (one reporter).
    Fires: --model openai/gpt-oss-20b --on rtx4090 --users 1 --engines llama.cpp
    Silent: --model Qwen/Qwen3-8B --on rtx4090 --users 1 --engines llama.cpp
    """
    quantized = case.dtype not in ("auto", "f16", "bf16")
    if not (case.pairing.model.sinks and quantized and case.pairing.engine.id == "llama.cpp"):
        return None
    return Says(
        because="attention sinks and an 8-bit cache: top-1 agreement fell to 75 %",
        facts={"kv_cache_dtype": case.dtype},
        source="llama-cpp-turboquant issue 305",
    )


@rule("Q304", "note")
def cache_scales_are_one(case: Cached) -> Says | None:
    """Notes that an FP8 cache in vLLM keeps keys and values at scale 1.0 unless the checkpoint brings calibrated scales.

    Why: `--calculate-kv-scales` is gone; at scale 1.0 long documents kept 93 to 100 % of their score.
    Articles: A2: KV-cache precision loss hurts dialogue, consider 8 bits. FP8 without calibrated scales kept 93-100 %
    of long-context recall (Q1573-Q1578); the scales are 1.0 unless the checkpoint carries some. On Hopper the
    FlashAttention-3 fix decides: needles at 128k 13 points before it, 89 after, 91 unquantized (Q1571, Q1572); both
    planned versions, 0.19 and 0.33, carry it (vllm PR 27889).
    Source: vLLM blog 2026-04-22 (MRCR at 128k to 1M); vllm 0.33 config/cache.py.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:2 --qps 0.5 --lanes fp8
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on t4:2 --qps 0.1 --lanes fp16
    """
    if case.dtype != "fp8" or case.pairing.engine.id != "vllm":
        return None
    return Says(
        because="the FP8 cache uses scale 1.0 unless the checkpoint holds k_scale and v_scale: gate it at the served length",
        source="vLLM blog 2026-04-22",
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


def tolerates(case: Pairing) -> bool:
    """Whether 5 % may be lost on every hard family of the mix, or on the whole where there is none."""
    limits = case.settled.objectives
    hard = [limits.per_family.get(name, limits.max_loss_pct) for name in case.settled.load.mix if name in HARD]
    return min(hard, default=limits.max_loss_pct) >= LOOSE
