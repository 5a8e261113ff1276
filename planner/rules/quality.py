"""Q rules: what a lane may lose, for this mix, size and context."""

from __future__ import annotations

from planner.quality import LONG_CONTEXT
from planner.rules.rule import Cached, Pairing, Says, rule

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
SMALL, TINY = 4.5e9, 1.0e9
"""Parameters: bounds of rule R3."""


def _own(case: Pairing) -> bool:
    """The publisher's own format: nothing is lost against the original."""
    return case.lane.id in (case.model.native, f"gguf:{case.model.native.upper()}")


def _four_bit(case: Pairing) -> bool:
    coarse_gguf = case.lane.family == "gguf" and case.lane.bits < FINE_ENOUGH
    return not _own(case) and (case.lane.family in FOUR_BIT or coarse_gguf)


@rule("Q102", "refuse")
def nf4_is_for_fine_tuning(case: Pairing) -> Says | None:
    """Refuses bitsandbytes NF4 for serving.

    Why: it left vLLM's core, runs at half of the 16-bit speed, and collapses on long documents: Llama-3.1-70B
    OneRuler 71.0 to 12.4 points at 64-128k. It is a fine format for QLoRA fine-tuning.
    Source: Mekala et al. 2025 (EMNLP); vLLM 0.33 quantization methods.
    """
    if case.lane.id != "nf4":
        return None
    return Says(because="NF4 is a fine-tuning format: refused for serving", source="Mekala et al. 2025; vllm 0.33")


@rule("Q202", "refuse")
def tiny_models_stay_16_bit(case: Pairing) -> Says | None:
    """Refuses to quantize models of at most one billion parameters unless 5 % may be lost.

    Why: even 8-bit weights cost Qwen2-0.5B five percent, and a 16-bit copy is small anyway.
    Source: Qwen2-0.5B 34.4 to 32.6 with 8-bit weights; RedHatAI/Qwen2.5-0.5B-quantized.w4a16.
    """
    tiny = case.params <= TINY and case.lane.family != "16-bit" and case.lane.id not in ("gguf:Q8_0", case.model.native)
    if not tiny or _tolerates(case):
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
    Source: model cards of RedHatAI quantized.w4a16 (0.5B-3B), DeepSeek-R1-Distill-Qwen-1.5B.
    """
    if not _four_bit(case) or case.params > SMALL or _tolerates(case):
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
    Source: model cards RedHatAI quantized.w4a16; RedHatAI NVFP4 cards (AIME24 81.8 % at 8B).
    """
    share = sum(case.settled.load.mix.get(name, 0.0) for name in HARD)
    coarse = _four_bit(case) or (case.lane.family == "gguf" and not _own(case) and case.lane.bits < FINE_FOR_HARD)
    if not coarse or share <= HARD_SHARE or _tolerates(case):
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
    Source: the evidence table, pooled by lane, size and family.
    """
    limits = case.pairing.settled.objectives
    for name, loss in sorted(case.losses.items(), key=lambda item: -item[1].value):
        allowed = limits.per_family.get(name, limits.max_loss_pct)
        expected = loss.high if limits.strict else loss.value
        if expected > allowed:
            facts = {"family": name, "loss_pct": loss.value, "high_pct": loss.high, "allowed_pct": allowed}
            because = f"{name}: {expected:.1f} % expected loss, {allowed:g} % tolerated"
            return Says(because=because, facts=facts, source="; ".join(loss.citations[:2]))
    return None


@rule("Q301", "refuse")
def long_documents_need_proof(case: Cached) -> Says | None:
    """Refuses four bits above 16k tokens of context unless even the interval's bad end is tolerated.

    Why: errors on long documents differ wildly between models at four bits (OneRuler at 64-128k: 76 to 110 %), and few
    sources measured any; eight bits hold 100 %.
    Source: Mekala et al. 2025, per-length results.
    """
    pairing = case.pairing
    context, loss = pairing.settled.load.context, case.losses.get("long_context")
    allowed = pairing.settled.objectives.per_family.get("long_context", pairing.settled.objectives.max_loss_pct)
    if not _four_bit(pairing) or context <= LONG_CONTEXT or loss is None or loss.high <= allowed:
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
    Source: llama-cpp-turboquant issue 305 (one reporter).
    """
    quantized = case.dtype not in ("auto", "f16", "bf16")
    if not (case.pairing.model.sinks and quantized and case.pairing.engine.id == "llama.cpp"):
        return None
    return Says(
        because="attention sinks and an 8-bit cache: top-1 agreement fell to 75 %",
        facts={"kv_cache_dtype": case.dtype},
        source="llama-cpp-turboquant issue 305",
    )


@rule("Q501", "warn")
def few_sources(case: Cached) -> Says | None:
    """Warns where fewer than two sources measured this lane at this size for a family of the mix.

    Why: one lab's number is a prior, not a result; verify before shipping.
    Source: the evidence table.
    """
    thin = sorted(name for name, loss in case.losses.items() if loss.unverified)
    if not thin or case.pairing.lane.family == "16-bit":
        return None
    return Says(because=f"unverified: fewer than two sources for {', '.join(thin)}", facts={"families": thin})


@rule("Q502", "note")
def proxy_families(case: Cached) -> Says | None:
    """Notes families that nobody measured and whose stand-in was used.

    Why: there are no paired tables for RAG, classification, summarization and tool use.
    Source: quality evidence, gaps.
    """
    proxies = {name: loss.proxy for name, loss in sorted(case.losses.items()) if loss.proxy}
    if not proxies:
        return None
    pairs = ", ".join(f"{name} by {proxy}" for name, proxy in proxies.items())
    return Says(because=f"estimated by proxy: {pairs}", facts={"proxies": proxies})


def _tolerates(case: Pairing) -> bool:
    limits = case.settled.objectives
    hard = [limits.per_family.get(name, limits.max_loss_pct) for name in case.settled.load.mix if name in HARD]
    return min(hard, default=limits.max_loss_pct) >= LOOSE
