"""What one replica holds while a number of sequences run on it: its load, its terms, its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal

from planner import memory, pages, speculation
from planner.memory import Accounting
from planner.ranks import all_of, each
from planner.speculation import Drafter
from planner.speed import Rates
from planner.trace import N, largest, present
from planner.work import (
    Layout,
    Shape,
    Weights,
    cache_bytes_fixed,
    cache_bytes_per_token,
    device_weight_bytes,
    sequence_bytes,
)

Books = Literal["vllm", "llama.cpp"]
"""Whose memory accounting applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand(Generic[N]):
    """The load in the formulas' terms; tokens, seconds, squared coefficients of variation."""

    prompt: N
    output: N
    prompt_cv2: N
    output_cv2: N
    context: N
    """Longest context: one sequence of it must fit."""
    prefix: N
    """Tokens that all prompts share: cached once."""
    fresh: N
    """Mean tokens of a prompt beyond those."""
    fresh_cv2: N
    burstiness: N
    company: N
    """Sequences that a request finds beyond the mean number, itself included; 0 in a closed loop of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms(Generic[N]):
    """Everything that decides a candidate but how many sequences run."""

    demand: Demand[N]
    shape: Shape[N]
    weights: Weights[N]
    layout: Layout[N]
    rates: Rates[N]
    accounting: Accounting[N]
    memory: N
    """Bytes of one device."""
    share: N
    """Part of it that the engine may claim."""
    cell_bytes: N
    """Bytes of one cached value."""
    block_tokens: N
    """Tokens that the engine's cache is handed out by."""
    adapter_bytes: N
    """LoRA adapters that stay loaded beside the weights, on all devices of a replica together."""
    drafter: Drafter[N]
    request_s: N
    """Host time per request."""
    arrival_s: N
    """From the socket to the scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room(Generic[N]):
    """Memory of one device at a number of slots; bytes."""

    weight_bytes: N
    claimed_bytes: N
    activation_bytes: N
    cache_bytes: N
    """What is left for the cache; negative when the engine cannot start."""
    longest_bytes: N
    """One sequence of the longest context."""
    running_bytes: N
    """All running sequences and the common prefix."""
    slots: N
    """Of one rank, where attention is data parallel; so is the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture(Generic[N]):
    """What of vLLM's room stays whatever the slots; bytes of one device."""

    weight_bytes: N
    claimed_bytes: N
    longest_bytes: N
    each_bytes: N
    """A running sequence beyond the common prefix."""
    common_bytes: N
    graphs_bytes: N
    outside_bytes: N
    sampler_bytes: N
    forward_bytes: N
    lasting_bytes: N


def room(terms: Terms[N], batch: N, books: Books) -> Room[N]:
    """Where the memory goes with slots for `batch` running sequences."""
    return rooms(terms, books)(batch)


def rooms(terms: Terms[N], books: Books, given: Fixture[N] | None = None) -> Callable[[N], Room[N]]:
    """The room as a function of the running sequences; what does not depend on them is computed once. `given` =
    `fixture` of the same terms, where somebody has it.

    vLLM's slots share one pool of blocks; llama.cpp reserves the longest context for each, and nothing drafts there.
    """
    if books != "vllm":
        return _llamacpp_rooms(terms)
    fixed = given or fixture(terms)
    at = _vllm_rooms(terms, fixed)
    return _drafted_rooms(terms, at, fixed) if present(terms.drafter.tokens) else at


def fixture(terms: Terms[N]) -> Fixture[N]:
    """What of vLLM's room stays whatever the slots."""
    shape, layout, fixed, chunk = terms.shape, terms.layout, terms.accounting, terms.rates.chunk
    demand = terms.demand
    per_token = cache_bytes_per_token(shape, terms.cell_bytes, layout)
    kept = cache_bytes_fixed(shape, terms.cell_bytes, layout, demand.context)
    block = pages.block_tokens(shape, terms.cell_bytes, layout, terms.block_tokens)
    size = pages.block_bytes(shape, terms.cell_bytes, layout, block)
    flight = pages.tokens_in_flight(fixed, layout, chunk)
    return Fixture(
        weight_bytes=held_bytes(terms),
        claimed_bytes=memory.claimed_bytes(terms.memory, terms.share),
        longest_bytes=pages.longest_bytes(size, pages.sequence_blocks(shape, fixed, block, demand.context, flight)),
        each_bytes=sequence_bytes(per_token, kept, held_tokens(demand) - demand.prefix),
        common_bytes=per_token * demand.prefix,
        graphs_bytes=memory.claimed_graphs_bytes(memory.cuda_graphs_bytes(shape, layout, fixed), fixed),
        outside_bytes=memory.outside_bytes(terms.weights, shape, layout, fixed),
        sampler_bytes=memory.sampler_bytes(shape, fixed, chunk),
        forward_bytes=memory.forward_bytes(shape, layout, fixed, chunk),
        lasting_bytes=memory.lasting_bytes(shape, layout, fixed, chunk),
    )


def _vllm_rooms(terms: Terms[N], fixed: Fixture[N]) -> Callable[[N], Room[N]]:
    activation, held, claimed = peaks(terms, fixed), fixed.weight_bytes, fixed.claimed_bytes

    def at(batch: N) -> Room[N]:
        slots = rank_slots(terms, batch)
        active = activation(slots)
        left = memory.vllm_cache_bytes(claimed, held, active, fixed.graphs_bytes, fixed.outside_bytes)
        return Room(
            weight_bytes=held,
            claimed_bytes=claimed,
            activation_bytes=active,
            cache_bytes=memory.given_bytes(left, terms.accounting),
            longest_bytes=fixed.longest_bytes,
            running_bytes=slots * fixed.each_bytes + fixed.common_bytes,
            slots=slots,
        )

    return at


def rank_slots(terms: Terms[N], batch: N) -> N:
    """Slots of one rank while `batch` sequences run on the replica: an engine's own limit, and its own cache."""
    return memory.slots_for(each(terms.layout.data, batch))


def replica_slots(terms: Terms[N], batch: N) -> N:
    """Slots of all ranks."""
    return all_of(terms.layout.data, rank_slots(terms, batch))


def _drafted_rooms(terms: Terms[N], plain: Callable[[N], Room[N]], fixed: Fixture[N]) -> Callable[[N], Room[N]]:
    """What drafts take of the cache: the drafter's own, room for the tokens of a step, and logits of all of them."""
    drafts = speculation.on_device(terms.drafter, terms.layout, terms.cell_bytes)
    ahead = drafts.tokens * cache_bytes_per_token(terms.shape, terms.cell_bytes, terms.layout)
    own, activation = drafts.cache_bytes_per_token, peaks(terms, fixed)

    def at(batch: N) -> Room[N]:
        held = plain(batch)
        active = activation(held.slots * (drafts.tokens + 1))
        drafted = own * (held_tokens(terms.demand) + drafts.tokens) + ahead
        return replace(
            held,
            activation_bytes=active,
            cache_bytes=held.cache_bytes - (active - held.activation_bytes),
            longest_bytes=held.longest_bytes + own * (terms.demand.context + drafts.tokens) + ahead,
            running_bytes=held.running_bytes + held.slots * drafted,
        )

    return at


def peaks(terms: Terms[N], own: Fixture[N]) -> Callable[[N], N]:
    """vLLM's profiled peak as a function of the slots; the stage that samples carries it."""
    shape, layout, fixed, chunk = terms.shape, terms.layout, terms.accounting, terms.rates.chunk
    latent = present(shape.latent_width)

    def at(slots: N) -> N:
        logits = memory.logits_bytes(shape, fixed, slots, chunk)
        widest = largest(own.forward_bytes, unpacked(slots)) if latent else own.forward_bytes
        return memory.activation_bytes(logits, own.sampler_bytes, widest, own.lasting_bytes)

    def unpacked(slots: N) -> N:
        return memory.latent_pass_bytes(shape, layout, fixed, (slots, chunk, terms.demand.context))

    return at


def _llamacpp_rooms(terms: Terms[N]) -> Callable[[N], Room[N]]:
    shape, layout, fixed, demand = terms.shape, terms.layout, terms.accounting, terms.demand
    held = held_bytes(terms) - shape.rope_bytes  # llama.cpp computes rotations as it goes
    claimed = memory.claimed_bytes(terms.memory, terms.share)
    per_token = cache_bytes_per_token(shape, terms.cell_bytes, layout)
    kept = cache_bytes_fixed(shape, terms.cell_bytes, layout, demand.context)
    longest = sequence_bytes(per_token, kept, demand.context)

    def at(batch: N) -> Room[N]:
        slots = memory.slots_for(batch)
        active = memory.llamacpp_graph_bytes(shape, layout, fixed, (demand.context, terms.rates.chunk, slots))
        return Room(
            weight_bytes=held,
            claimed_bytes=claimed,
            activation_bytes=active,
            cache_bytes=memory.llamacpp_cache_bytes(claimed, held, active, fixed.margin_bytes),
            longest_bytes=longest,
            running_bytes=slots * longest,
            slots=slots,
        )

    return at


def held_bytes(terms: Terms[N]) -> N:
    """Weights on one device, adapters that stay loaded and a drafter included."""
    shared = terms.layout.tensor * terms.layout.pipeline
    held = device_weight_bytes(terms.weights, terms.shape, terms.layout) + terms.adapter_bytes / shared
    return held + terms.drafter.held_bytes / terms.layout.tensor if present(terms.drafter.held_bytes) else held


def held_tokens(demand: Demand[N]) -> N:
    """Tokens that a running sequence holds on average over time: its prompt, and half of its answer or more, because
    long answers stay longer (exact for independent lengths)."""
    return demand.prompt + demand.output * (1 + demand.output_cv2) / 2
