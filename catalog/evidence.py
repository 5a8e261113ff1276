"""Measured quality of quantized models, one published number per row."""

from __future__ import annotations

from msgspec import Struct


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`recovery` = 100 · quantized ÷ baseline (inverted for perplexity), recomputed from the two values."""

    id: str
    citation: str
    url: str
    model: str
    params: float | None
    lane: str
    """Lane id, or `kv:…` for cache formats, or `-` where the spelling maps to nothing we plan."""
    recipe: str
    weight_bits: float | None
    kv_bits: float | None
    task: str
    task_family: str
    context_tokens: int | None
    baseline: float
    quantized: float
    higher_is_better: bool
    recovery: float | None
    grade: str
