"""Q rules where evidence is thin: what fewer than two sources measured has to hold at the bad end of its interval.

They speak where the estimate (Q101) may be too sure: small models, hard generation, FP4, very few bits, long documents,
other languages. What two sources measured, or the user did, is the estimate's alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.quality import LONG_CONTEXT, Loss
from planner.rules.quality import allowed_for, four_bit, own_format
from planner.rules.rule import Cached, Pairing, Says, rule

HARD = ("code", "math", "reasoning")
HARD_SHARE = 0.2
"""Share of hard generation above which four bits need proof (quality evidence, rule R5)."""
LOOSE = 5.0
"""Tolerance in percent at which a user has accepted what a tiny model, or two bits, may lose (R3)."""
FINE_FOR_HARD = 6.5
"""Bits of a GGUF type that passes the strict gate for code and maths: Q6_K has perplexity +0.35 % and KLD 0.0055, Q5_K_M
+0.9 % and 0.011 (llama.cpp perplexity README)."""
SMALL, TINY, LARGE = 4.5e9, 1.0e9, 27e9
"""Parameters: bounds of rule R3."""
LEAST_BITS = 3.0
"""Bits of a GGUF type below which quality breaks."""


def unproven(case: Pairing, losses: dict[str, Loss], among: Iterable[str]) -> tuple[str, Loss, float] | None:
    """What Q101 lets pass on thin evidence: of the families `among`, the one with the worst bad end that fewer than two
    sources measured, whose bound is tolerated and whose bad end is not; its loss, and what is tolerated."""
    limits, found = case.settled.objectives, []
    for name in sorted(set(among) & losses.keys()):
        loss, allowed = losses[name], allowed_for(case, name)
        if loss.unverified and loss.bound(limits.strict) <= allowed < loss.high:
            found.append((name, loss, allowed))
    return max(found, key=lambda each: each[1].high - each[2], default=None)


def tolerates(case: Pairing) -> bool:
    """Whether 5 % may be lost on every hard family of the mix, or on the whole where there is none."""
    limits = case.settled.objectives
    hard = [limits.per_family.get(name, limits.max_loss_pct) for name in case.settled.load.mix if name in HARD]
    return min(hard, default=limits.max_loss_pct) >= LOOSE


def needs_proof(found: tuple[str, Loss, float] | None, why: str) -> Says | None:
    """The refusal of what is unproven."""
    if found is None:
        return None
    name, loss, allowed = found
    return Says(
        because=f"{why}: fewer than two sources measured {name}, it may lose up to {loss.high:.1f} %, {allowed:g} % tolerated",
        facts={"family": name, "high_pct": loss.high, "allowed_pct": allowed, "sources": loss.sources},
        source="; ".join(loss.citations[:2]),
    )


@rule("Q202", "refuse")
def tiny_models_stay_16_bit(case: Pairing) -> Says | None:
    """Refuses to quantize models of at most one billion parameters unless 5 % may be lost, or two sources measured it.

    Why: nobody measured eight bits at this size with code, maths or long answers; the one known average fell by five
    percent (Qwen2-0.5B), more than a law fitted to larger models expects, and a 16-bit copy is small anyway. Where two
    sources measured these formats at this size, the estimate decides; W4A16 has one (Q1513-Q1519: 93.7 % on average).
    Articles: A2: INT8 loses almost nothing. Not at 0.5B: Qwen2-0.5B 34.4 to 32.6.
    Source: Qwen2-0.5B 34.4 to 32.6 with 8-bit weights; no row of the evidence has eight bits below 1.5B.
    Fires: --model Qwen/Qwen2.5-0.5B-Instruct --on l4 --qps 1 --lanes fp8
    Silent: --model Qwen/Qwen2.5-1.5B-Instruct --on l4 --qps 1 --lanes fp8
    """
    plain = case.lane.family == "16-bit" or case.lane.id == "gguf:Q8_0" or own_format(case)
    if plain or case.params > TINY or tolerates(case) or not any(loss.unverified for loss in case.losses.values()):
        return None
    return Says(
        because=f"{case.params / 1e9:.1f}B parameters leave no redundancy to quantize, and nobody measured it",
        facts={"params": case.params},
        source="Qwen2 evaluation: 0.5B GPTQ-Int8",
    )


@rule("Q201", "refuse")
def small_models_lose_at_four_bits(case: Pairing) -> Says | None:
    """Refuses four bits for models up to 4.5B parameters where thin evidence leaves the bad end above the tolerance.

    Why: small models lose most, and their losses differ most: W4A16 recovers 95.8 % at 0.6B and 96.9 % at 1.5B on
    averages, 82 % of AIME at 1.5B (Q1457). No GGUF type was measured below 5B. What two sources measured is Q101's.
    Articles: A2: INT4 hurts models below 3B, prefer INT8 or FP16. Confirmed and widened to 4.5B: W4A16 averages 95.8 %
    at 0.6B, 96.9 % at 1.5B; AIME24 82.0 % at 1.5B (Q1457). A1's "1-2 %" does not hold there.
    Source: model cards of RedHatAI quantized.w4a16 (0.5B-3B), DeepSeek-R1-Distill-Qwen-1.5B; quality evidence rule R3.
    Fires: --model meta-llama/Llama-3.2-3B-Instruct --on rtx3080 --users 1 --lanes gguf:Q4_K_M --max-loss 3.5
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on rtx3080 --users 1 --lanes gguf:Q4_K_M --max-loss 3.5
    """
    if not four_bit(case) or case.params > SMALL:
        return None
    return needs_proof(unproven(case, case.losses, case.losses), f"four bits of a {case.params / 1e9:.1f}B model")


@rule("Q401", "refuse")
def hard_generation_needs_proof(case: Pairing) -> Says | None:
    """Refuses four bits (and GGUF types below Q6_K) where code, maths and reasoning are more than a fifth of the work, thin evidence speaks of them, and the bad end is not tolerated.

    Why: short multiple choice hides what long generation shows: at 8B W4A16 keeps 97.4 % of HumanEval+ (Q1189) and
    94.3 % of MATH level 5 (Q1184), at 355B 93.1 % of AIME25 (Q1536). The law of losses counts such tasks at their own
    price; where fewer than two sources measured them, its bad end has to hold. No GGUF type has a measured score in
    code or maths.
    Articles: A3: code and maths need FP8 at least ("any" share, rule 1), and AWQ with constrained decoding rather than
    GPTQ for code. Not at every size: W4A16 keeps 98.0 and 98.5 % of code at 405B (Q1276, Q1277), 98.7-102.1 % at 24B
    (Q1508-Q1512); 8B MATH level 5 94.3, 1.5B AIME24 82.0 %. GPTQ holds code; no AWQ pair exists. A3's "98.9 % of
    HumanEval+ for AWQ" is Red Hat's GPTQ.
    Source: model cards RedHatAI quantized.w4a16; RedHatAI NVFP4 cards (AIME24 81.8 % at 8B); quality evidence rule R5.
    Fires: --model Qwen/Qwen3-8B --on rtx3080 --users 1 --lanes gguf:Q4_K_M --mix chat=0.6,math=0.4 --max-loss 2.4
    Silent: --model Qwen/Qwen3-8B --on rtx3080 --users 1 --lanes gguf:Q4_K_M --mix chat=0.9,math=0.1 --max-loss 2.4
    """
    coarse = case.lane.family == "gguf" and case.lane.bits < FINE_FOR_HARD and not own_format(case)
    share = sum(case.settled.load.mix.get(name, 0.0) for name in HARD)
    if not (coarse or four_bit(case)) or share <= HARD_SHARE:
        return None
    return needs_proof(unproven(case, case.losses, HARD), f"{share:.0%} of the work is code, maths or reasoning")


@rule("Q206", "refuse")
def under_three_bits(case: Pairing) -> Says | None:
    """Refuses GGUF types below three bits unless 5 % may be lost and even the interval's bad end is tolerated.

    Why: two bits leave 67 to 88 % of MMLU at 8B and 90 to 95 % at 70B (one table, matt-c1), 88 to 95 % of a zero-shot
    average at 7-8B (Q0622-Q0625), even with an importance matrix; above 70B nobody measured them.
    Articles: A1: INT2 keeps 88 % and is rarely worth it. IQ2 keeps 67-88 % of MMLU at 8B, 90-95 % at 70B (matt-c1).
    Source: llama.cpp MMLU table of Llama-3 (matt-c1), quality evidence 1d.
    Fires: --model meta-llama/Llama-3.1-405B-Instruct --on h200-sxm5:2 --users 1 --lanes gguf:Q2_K --max-loss 4
    Silent: --model meta-llama/Llama-3.1-405B-Instruct --on h200-sxm5:2 --users 1 --lanes gguf:Q2_K --max-loss 5
    """
    if case.lane.family != "gguf" or case.lane.bits >= LEAST_BITS or own_format(case):
        return None
    worst = max((loss.high for loss in case.losses.values()), default=0.0)
    bad = [name for name, loss in case.losses.items() if loss.high > allowed_for(case, name)]
    if tolerates(case) and not bad:
        return None
    return Says(
        because=f"{case.lane.bits:.2g} bits per weight may lose {worst:.0f} % and more: take four bits, or a smaller model",
        facts={"bits": case.lane.bits, "high_pct": worst, "max_loss_pct": case.settled.objectives.max_loss_pct},
        source="matt-c1 MMLU comparison of Llama-3 GGUF files",
    )


@rule("Q203", "refuse")
def fp4_needs_a_large_model(case: Pairing) -> Says | None:
    """Refuses FP4 weights made after training below 27B parameters where thin evidence leaves the bad end above the tolerance.

    Why: NVFP4 at 8B recovers 96 % on averages and 66 to 95 % of hard maths, from 30B on 97 to 100 %; with training
    (QAT, QAD) small models recover part of it (Q1625 and Q1629: GSM8K 91.0 to 95.9 %).
    Articles: A3: FP4 on Blackwell is 2 times FP8 with minimal loss on chat. At 8B 81.8 % of AIME24 is left (Q1349); 70B
    average 98.7 % (Q1308). Planned speed over FP8, 70B on a B200: 1.32 times at 256 users, 1.43 for one; no measured
    pair.
    Source: RedHatAI and nvidia NVFP4 cards; torchao QAT; quality evidence rule R3.
    Fires: --model Qwen/Qwen3-14B --on b200-sxm --qps 1 --lanes nvfp4 --max-loss 4
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on b200-sxm --qps 1 --lanes nvfp4 --max-loss 4
    """
    made_after = case.method.recipe.training in ("ptq", "native") and not own_format(case)
    if case.lane.family != "4-bit float" or not made_after or case.params >= LARGE:
        return None
    return needs_proof(
        unproven(case, case.losses, case.losses), f"FP4 after training of a {case.params / 1e9:.0f}B model"
    )


@rule("Q301", "refuse")
def long_documents_need_proof(case: Cached) -> Says | None:
    """Refuses four bits above 16k tokens of context where thin evidence leaves the bad end on long documents above the tolerance.

    Why: errors on long documents differ wildly between models at four bits (OneRuler at 64-128k: 76 to 110 %), and few
    sources measured any; eight bits hold 100 %.
    Articles: A3: INT4 drops up to 59 % above 32k, MMLU below 2 %; stay at FP8 or W8 above 16k. 59 are points of NF4 on
    one model (OneRuler 70B 71.0 to 12.4; AWQ 67.0, GPTQ 64.9, FP8 70.4: Q0076-Q0080); the paper has no MMLU and no
    multi-document QA. At 32k AWQ keeps 99.0 %, GPTQ 95.9 % (Q0133, Q0134). The threshold of 16k is kept; proof lifts
    it.
    Source: Mekala et al. 2025, per-length results; quality evidence rule R4.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.3 --lanes w4a16 --context 24576 --max-loss 3
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.3 --lanes w4a16 --context 16384 --max-loss 3
    """
    pairing, context = case.pairing, case.pairing.settled.load.context
    if not four_bit(pairing) or context <= LONG_CONTEXT:
        return None
    return needs_proof(unproven(pairing, case.losses, ("long_context",)), f"{context:,} tokens of context at four bits")


@rule("Q702", "refuse")
def other_languages_need_proof(case: Pairing) -> Says | None:
    """Refuses four bits for work in other languages where thin evidence leaves the bad end above the tolerance.

    Why: languages differ more than averages say: at 8B OmniQuant at four bits lost 1.9 % in English and 4.5 % in
    Russian, at 1.5B AWQ kept 98.5 % of MMLU and 91.1 % of C-Eval; over 26 languages AWQ and GPTQ lost little more than
    in English (OneRuler). The law of losses has multilingual work as a family of its own; a factor of two is not fitted.
    Articles: A2: match the language of calibration. See Q111 for the recipe; here the loss.
    Source: quality evidence §2.10 and rule R6.
    Fires: --model Qwen/Qwen3-32B --on a100-sxm4-80 --qps 0.2 --lanes nvfp4 --languages en=0.4,de=0.6 --max-loss 2.2
    Silent: --model Qwen/Qwen3-32B --on a100-sxm4-80 --qps 0.2 --lanes nvfp4 --max-loss 2.2
    """
    if not four_bit(case):
        return None
    return needs_proof(unproven(case, case.losses, ("multilingual",)), "four bits in other languages")
