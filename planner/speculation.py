"""Speculative decoding: something cheap drafts tokens, the model checks them all in one step and keeps those it would
have made itself. Every formula takes a float, an array of candidates, or a traced number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from planner import speed
from planner.speed import Rates, Work
from planner.trace import N, doublings, largest, positive, power, smallest, step
from planner.work import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter(Generic[N]):
    """What drafts, whatever the layout; bytes and operations of the whole."""

    tokens: N
    """Drafted in each step; 0 where nothing is."""
    acceptance: N
    """Probability that a drafted token is kept, given that all before it were."""
    passes: N
    """1 where each drafted token is a pass of a network, 0 where it is looked up."""
    layers: N
    matrix_bytes: N
    """Read for every drafted token, routed experts aside."""
    expert_bytes: N
    expert_share: N
    """Experts per token over experts; 1 without any."""
    flops: N
    """Of one drafted token."""
    held_bytes: N
    """Weights in memory beside the model's."""
    cache_values: N
    """Values that its own cache keeps per token."""
    cache_heads: N
    """Heads which that cache divides into."""
    sampling_s: N
    """Host time of a step beside drafting and checking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts(Generic[N]):
    """The same on one device of a replica."""

    tokens: N
    acceptance: N
    passes: N
    layers: N
    matrix_bytes: N
    expert_bytes: N
    expert_share: N
    flops: N
    held_bytes: N
    cache_bytes_per_token: N
    exchanges: N
    """Collectives of one pass, each times the doublings of its group."""
    sampling_s: N


def on_device(drafter: Drafter[N], layout: Layout[N], cell_bytes: N) -> Drafts[N]:
    """A drafter is divided as its model is: by tensor parallel (vLLM's default draft_tensor_parallel_size)."""
    return Drafts(
        tokens=drafter.tokens,
        acceptance=drafter.acceptance,
        passes=drafter.passes,
        layers=drafter.layers,
        matrix_bytes=drafter.matrix_bytes / layout.tensor,
        expert_bytes=drafter.expert_bytes / layout.tensor,
        expert_share=drafter.expert_share,
        flops=drafter.flops / layout.tensor,
        held_bytes=drafter.held_bytes / layout.tensor,
        cache_bytes_per_token=drafter.cache_values * cell_bytes / smallest(layout.tensor, drafter.cache_heads),
        exchanges=2 * drafter.layers * doublings(layout.tensor),
        sampling_s=drafter.sampling_s,
    )


@step
def tokens_per_step(tokens: N, acceptance: N) -> N:
    """Drafts are kept up to the first that is refused, and the model adds one token of its own.

    Y. Leviathan, M. Kalman, Y. Matias 2023, arXiv 2211.17192, equation 1: independent, equally likely acceptances.
    """
    return (1 - power(acceptance, tokens + 1)) / (1 - acceptance)


@step
def verify_s(work: Work[N], rates: Rates[N], tokens: N, batch: N, context: N) -> N:
    """One step of the model over the drafts and the token before them: weights and each sequence's cache are read
    once, everything else counts per token.

    `batch` sequences of `context` tokens; a step of at least one sequence.
    """
    width = tokens + 1
    seated = work.pipeline * (1 + positive(batch / work.pipeline - 1))
    once = replace(work, cache_bytes_fixed=work.cache_bytes_fixed / width)
    scheduled = replace(rates, sequence_s=rates.sequence_s / width)
    return speed.decode_step_s(once, scheduled, seated * width, context / width)


@step
def draft_s(drafts: Drafts[N], rates: Rates[N], batch: N, context: N) -> N:
    """One drafted token of every sequence: a pass of a small network with launches of its own, in 16 bits."""
    seated = 1 + positive(batch - 1)
    touched = speed.expert_coverage(drafts.expert_share, seated)
    moved = drafts.matrix_bytes + rates.expert_cost * drafts.expert_bytes * touched
    read = moved / rates.weight_rate
    looked = seated * drafts.cache_bytes_per_token * context / rates.cache_rate
    host = rates.step_s + drafts.layers * rates.layer_s + drafts.exchanges * rates.exchange_s
    return drafts.passes * (host + largest(read, draft_multiply_s(drafts, rates, seated)) + looked)


@step
def draft_multiply_s(drafts: Drafts[N], rates: Rates[N], tokens: N) -> N:
    """The drafter's share of the arithmetic, of drafted tokens and of prompts, which it reads too."""
    return drafts.flops * tokens / (rates.attention_peak * rates.matrix_efficiency)


@step
def drafted_token_s(work: Work[N], rates: Rates[N], drafts: Drafts[N], batch: N, context: N) -> N:
    """Time between two tokens of a sequence: a step with its drafts over the tokens that it leaves."""
    whole = verify_s(work, rates, drafts.tokens, batch, context)
    drafted = drafts.tokens * draft_s(drafts, rates, batch, context)
    return (whole + drafted + drafts.sampling_s) / tokens_per_step(drafts.tokens, drafts.acceptance)
