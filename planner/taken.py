"""Where a candidate's memory goes, as estimates with intervals. Bytes of one device."""

from __future__ import annotations

import math

from catalog.engine import Part
from catalog.units import GIB
from planner import memory, pages, spread
from planner.plan import Estimate
from planner.rooms import Room, Terms
from planner.rows import books_of
from planner.rules.rule import Pairing
from planner.spread import between
from planner.work import Layout


def memory_estimates(held: Room[float], pairing: Pairing, terms: Terms[float]) -> dict[str, Estimate]:
    """Bytes of one device; the pool's error is that of everything that was subtracted from the claim."""
    taken = {part: half(part, size, pairing, terms.layout) for part, size in _taken(held, pairing, terms).items()}
    pool = math.hypot(*(each.bytes for each in taken.values()))
    assumed = any(each.basis == "assumed" for each in taken.values())
    weights, active, *_ = taken.values()
    left, stated = held.cache_bytes, stated_pool(held, terms)
    if stated is not None:
        size = within(stated, spread.Half(0.0, "published"))
    else:
        size = between(left - pool, left, left + pool, "assumed" if assumed else "fitted", "B")
    return {
        "weight_bytes": within(held.weight_bytes, weights),
        "activation_bytes": within(held.activation_bytes, active),
        "kv_pool_bytes": size,
        "kv_needed_bytes": within(max(held.running_bytes, held.longest_bytes), spread.Half(0.0, "published")),
    }


def stated_pool(held: Room[float], terms: Terms[float]) -> float | None:
    """The cache that the engine is told to take: what the load needs and the block that vLLM keeps empty, in whole
    GiB, of what there is room for. None where the engine takes what is left."""
    shape = terms.shape
    if not terms.accounting.pool_in_gib:
        return None
    tokens = pages.block_tokens(shape, terms.cell_bytes, terms.layout, terms.block_tokens)
    spare = pages.block_bytes(shape, terms.cell_bytes, terms.layout, tokens)
    needed = max(held.running_bytes, held.longest_bytes) + spare
    return GIB * max(1.0, min(math.ceil(needed / GIB), math.floor(held.cache_bytes / GIB)))


def _taken(held: Room[float], pairing: Pairing, terms: Terms[float]) -> dict[Part, float]:
    """What an engine subtracts from its claim, weights and activations first."""
    if books_of(pairing) == "llama.cpp":
        return {"file": held.weight_bytes, "compute": held.activation_bytes, "claim": held.claimed_bytes}
    graphs, libraries = beside(held, terms)
    return {
        "weights": held.weight_bytes, "activation": held.activation_bytes, "outside": libraries, "graphs": graphs,
        "claim": held.claimed_bytes,
    }  # fmt: skip


def beside(held: Room[float], terms: Terms[float]) -> tuple[float, float]:
    """(CUDA graphs, libraries) in vLLM's claim beside weights, activations and cache."""
    made = memory.cuda_graphs_bytes(terms.shape, terms.layout, terms.accounting)
    graphs = memory.claimed_graphs_bytes(made, terms.accounting)
    return graphs, held.claimed_bytes - held.weight_bytes - held.activation_bytes - held.cache_bytes - graphs


def half(part: Part, size: float, pairing: Pairing, layout: Layout[float]) -> spread.Half:
    """Half of the interval of a part of `size` bytes; nothing where the user states the weights."""
    if part in ("weights", "file") and pairing.own is not None and pairing.own.weight_bytes is not None:
        return spread.Half(0.0, "overridden")
    given = spread.tags(pairing.model, pairing.lane, layout, pairing.device.accelerator)
    return spread.half(pairing.engine, pairing.engine.version, part, size, given)


def within(value: float, half: spread.Half) -> Estimate:
    """Bytes with their interval, which never reaches below nothing."""
    return between(max(value - half.bytes, 0.0), value, value + half.bytes, half.basis, "B")
