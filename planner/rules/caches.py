"""Q rules about quantized caches: which models, engines and lengths they are for."""

from __future__ import annotations

from planner.rules.proof import HARD, HARD_SHARE
from planner.rules.rule import Cached, Says, rule

ROTATED = 64
"""llama.cpp rotates heads that are a multiple of this before it rounds them to four bits."""
SEVEN_BILLION, DOCUMENTS = 6.5e9, 32768
"""Parameters and tokens that bound four-bit caches (quality evidence, rule R7)."""
FEW = 8.0
"""Bits of a cached value below which the rule speaks."""


@rule("Q303", "refuse")
def sinks_need_a_full_cache(case: Cached) -> Says | None:
    """Refuses an 8-bit cache in llama.cpp for models with attention sinks.

    Why: gpt-oss-20b with q8_0 keys agreed with itself on only 74.9 % of tokens.
    vLLM's FP8 cache is not refused: its own evaluation of gpt-oss stayed within the usual spread (vllm issue 24916).
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


@rule("Q305", "refuse")
def four_bit_caches(case: Cached) -> Says | None:
    """Refuses caches below eight bits but for chat-like work of at most 32k tokens on models from 7B, rotated, and never below four.

    Why: at four bits Qwen3-0.6B went from 13.5 to 47.8 in perplexity where Qwen3-8B lost 2.2 % (Q1554, Q1555); rotation
    wins half of the loss back (Qwen3-8B GSM8K 97.6 % without, 99.2 % with it: Q1563, Q1566); at three bits reasoning
    fell by twenty points.
    Articles: A2 speaks of an 8-bit cache alone.
    Source: quality evidence rule R7 and 1f: ik_llama.cpp issue 1509, SGLang PR 36172, vLLM blog 2026-05-11.
    Fires: --model meta-llama/Llama-3.2-3B-Instruct --on rtx3080 --users 1 --engines llama.cpp
    Silent: --model Qwen/Qwen3-8B --on rtx4090 --users 1 --engines llama.cpp
    """
    pairing, load = case.pairing, case.pairing.settled.load
    if case.format is None or case.format.bits >= FEW:
        return None
    hard = sum(load.mix.get(name, 0.0) for name in HARD)
    faults = {
        "fewer than four bits": case.format.bits < 4,
        "a model below 7B": pairing.params < SEVEN_BILLION,
        f"{load.context:,} tokens of context": load.context > DOCUMENTS,
        f"{hard:.0%} of code, maths and reasoning": hard > HARD_SHARE,
        "heads that are not rotated": bool(pairing.model.head_dim % ROTATED) or pairing.engine.id != "llama.cpp",
    }
    found = [fault for fault, is_so in faults.items() if is_so]
    if not found:
        return None
    return Says(
        because=f"a cache of {case.format.bits:g} bits does not suit {', '.join(found)}",
        facts={"kv_cache_dtype": case.dtype, "bits": case.format.bits},
        source="quality evidence rule R7",
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
