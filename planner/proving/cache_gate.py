"""The cache of keys and values in a proof: which side is read with it, and the gate that holds it by itself.

Folders are read with vLLM's FP8 cache simulated (`planner/workers/score_cache.py`), GGUF files with llama.cpp's own.
"""

from __future__ import annotations

from planner.plan import Gate
from planner.proving.asked import Asked

CACHE = "cache_kld_mean"
FULL = ("auto", "f16", "bf16", "bfloat16", "float16", "16")
"""Of a plan: keys and values in the model's own 16 bits."""
SIMULATED = ("fp8", "fp8_e4m3")
"""Of vLLM."""


def in_fewer_bits(asked: Asked) -> bool:
    """Whether the plan serves with a cache that loses something."""
    return asked.candidate.kv_cache_dtype not in FULL


def unread(asked: Asked) -> str:
    """Why the planned cache cannot be read here; "" where it can."""
    dtype = asked.candidate.kv_cache_dtype
    if asked.gguf or not in_fewer_bits(asked):
        return ""
    if dtype not in SIMULATED:
        return f"vLLM's {dtype} cache is not simulated, only {' and '.join(SIMULATED)}"
    if asked.model.mla is not None:
        return "vLLM keeps this model's latent vectors (MLA), transformers whole keys: its cache is not simulated"
    return ""


def served(asked: Asked) -> tuple[str, ...]:
    """Words of the side that is the candidate as it is served."""
    rounds = in_fewer_bits(asked) and not unread(asked)
    return ("--cache", asked.candidate.kv_cache_dtype) if rounds else ()


def full(asked: Asked) -> tuple[str, ...]:
    """Words of the same weights with a 16-bit cache; llama.cpp reads both sides with flash attention."""
    return ("--cache", "f16" if asked.gguf else "16")


def is_of_cache(gate: Gate) -> bool:
    return gate.id == CACHE


def note(asked: Asked) -> str:
    """What the numbers have of the cache; "" where nothing is in fewer bits."""
    dtype = asked.candidate.kv_cache_dtype
    if not in_fewer_bits(asked):
        return ""
    if unread(asked):
        return f"token statistics see the weights alone: {unread(asked)}"
    if asked.gguf:
        return f"token statistics are of weights and llama.cpp's own {dtype} cache together"
    scales = "the checkpoint's scales, or 1.0 where it has none"
    how = f"simulated: e4m3 with {scales}, as vLLM rounds keys and values; its kernels may round queries too"
    return f"token statistics are of weights and the {dtype} cache together, which is {how}"
