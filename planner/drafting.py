"""What a request's speculative decoding comes to for one pairing: the drafter's size, its acceptance, vLLM's flag."""

from __future__ import annotations

import json
from dataclasses import replace

from catalog import tensors
from catalog.engine import Draft
from catalog.model import Model
from planner import work
from planner.lanes.sixteen_bit import BF16
from planner.plan import Basis, Estimate
from planner.request import Speculative
from planner.rules.rule import Pairing
from planner.speculation import Drafter, tokens_per_step
from planner.spread import between

NONE: Drafter[float] = Drafter(
    tokens=0.0, acceptance=0.0, passes=0.0, layers=0.0, matrix_bytes=0.0, expert_bytes=0.0, expert_share=1.0, flops=0.0,
    held_bytes=0.0, cache_values=0.0, cache_heads=1.0, sampling_s=0.0,
)  # fmt: skip
"""Nothing drafts."""
EAGLE_VOCABULARY = 32000
"""Tokens that published EAGLE-3 heads choose among (draft_vocab_size of yuhuili/EAGLE3-LLaMA3.1-Instruct-8B)."""


def drafter(pairing: Pairing) -> Drafter[float]:
    """The drafter that the request asks for; NONE where it asks for none. Rules have refused what cannot be."""
    asked, row = pairing.settled.request.speculative, method_of(pairing)
    if asked is None or row is None:
        return NONE
    made = _sized(asked.method, pairing)
    acceptance = row.acceptance if asked.acceptance is None else asked.acceptance
    return replace(made, tokens=float(asked.tokens), acceptance=acceptance, sampling_s=row.step_seconds)


def method_of(pairing: Pairing) -> Draft | None:
    """What the engine knows of the method that is asked for; None where it has no such method, or none is asked for."""
    asked = pairing.settled.request.speculative
    if asked is None:
        return None
    rows = pairing.engine.drafts
    return next((row for row in rows if row.method == asked.method and row.exists(pairing.engine.version)), None)


def source(pairing: Pairing) -> str:
    """Where the drafter's numbers come from, in words."""
    asked, row = pairing.settled.request.speculative, method_of(pairing)
    if asked is None or row is None:
        return "nothing drafts"
    kept = row.source if asked.acceptance is None else "the request"
    return f"{asked.method}, {asked.tokens} tokens as the request states; acceptance: {kept}"


def acceptances(pairing: Pairing) -> tuple[float, float] | None:
    """Both ends of an acceptance that nobody measured; None where the request states its own, or nothing drafts."""
    asked, row = pairing.settled.request.speculative, method_of(pairing)
    return None if asked is None or row is None or asked.acceptance is not None else (row.low, row.high)


def least(pairing: Pairing) -> float:
    """Acceptance at the bad end: as stated, or the lowest that is published."""
    asked = pairing.settled.request.speculative
    ends = acceptances(pairing)
    return ends[0] if ends else (asked.acceptance or 0.0) if asked else 0.0


def estimates(pairing: Pairing, made: Drafter[float]) -> dict[str, Estimate]:
    """`tokens_per_step`; nothing where nothing drafts."""
    if not made.tokens:
        return {}
    ends, row = acceptances(pairing), method_of(pairing)
    low, high = ends or (made.acceptance, made.acceptance)
    least, value, most = (tokens_per_step(made.tokens, each) for each in (low, made.acceptance, high))
    assumed = row is None or row.source.startswith("assumed")
    basis: Basis = "overridden" if ends is None else "assumed" if assumed else "published"
    return {"tokens_per_step": between(least, value, most, basis, "1")}


def _sized(method: str, pairing: Pairing) -> Drafter[float]:
    model = pairing.model
    if method == "eagle3":
        return eagle(model)
    if method == "mtp":
        return own_layer(pairing)
    draft = pairing.settled.draft
    return NONE if method == "ngram" or draft is None else whole(draft)


def eagle(model: Model) -> Drafter[float]:
    """One decoder layer over twice the hidden size, a projection of three hidden states, and a short output matrix;
    the embedding is the model's. 0.42 billion parameters for Llama-3.1-8B, as published.
    """
    hidden, heads = model.hidden, model.heads * model.head_dim
    keys = model.kv_heads * model.head_dim
    attention = 2 * hidden * (heads + 2 * keys) + heads * hidden
    mlp = 3 * hidden * (model.intermediate or 4 * hidden)
    params = attention + mlp + 3 * hidden * hidden + EAGLE_VOCABULARY * hidden
    return replace(
        NONE,
        passes=1.0,
        layers=1.0,
        matrix_bytes=2.0 * params,
        flops=2.0 * params,
        held_bytes=2.0 * params,
        cache_values=2.0 * keys,
        cache_heads=float(model.kv_heads),
    )


def own_layer(pairing: Pairing) -> Drafter[float]:
    """Multi-token prediction: one more layer like the model's own, and its output matrix; 16-bit whatever the lane."""
    model = pairing.model
    held, dimensions = work.weights(model, BF16.methods[0]), work.shape(model)
    routed = dimensions.layers - dimensions.lead_layers
    layer = (held.split_bytes - held.lead_bytes + held.key_value_bytes + held.replicated_bytes) / dimensions.layers
    active = (held.matrix_flops - held.head_read_bytes) / dimensions.layers + held.head_read_bytes
    return replace(
        NONE,
        passes=1.0,
        layers=1.0,
        matrix_bytes=layer + held.head_read_bytes,
        expert_bytes=held.expert_bytes / routed,
        expert_share=dimensions.expert_share,
        flops=active,
        held_bytes=2.0 * model.mtp_params,
        cache_values=dimensions.layer_values,
        cache_heads=dimensions.kv_heads,
    )


def whole(draft: Model) -> Drafter[float]:
    """A smaller model in 16 bits."""
    held, dimensions = work.weights(draft, BF16.methods[0]), work.shape(draft)
    dense = held.split_bytes + held.key_value_bytes + held.replicated_bytes
    return replace(
        NONE,
        passes=1.0,
        layers=dimensions.layers,
        matrix_bytes=dense + held.head_read_bytes,
        expert_bytes=held.expert_bytes,
        expert_share=dimensions.expert_share,
        flops=held.matrix_flops,
        held_bytes=work.stored_bytes(held),
        cache_values=float(tensors.kv_values_per_token(draft)),
        cache_heads=dimensions.kv_heads,
    )


def flag(pairing: Pairing) -> str | None:
    """vLLM's `--speculative-config`; None where nothing drafts."""
    asked, row = pairing.settled.request.speculative, method_of(pairing)
    if asked is None or row is None:
        return None
    config: dict[str, object] = {"method": row.flag, **_model(asked), "num_speculative_tokens": asked.tokens}
    return json.dumps(config | ({"prompt_lookup_max": 4} if asked.method == "ngram" else {}))


def _model(asked: Speculative) -> dict[str, object]:
    return {} if asked.draft_model is None else {"model": asked.draft_model}
