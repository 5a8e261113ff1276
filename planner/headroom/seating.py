"""Where the memory of one device goes under a setup's flags, and how much fits into the rest: a plan's own formulas.

The longest context and the most sequences are found by halving over the same formulas: more of either never needs
less memory, so the answers are exact to a block or a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

from catalog.errors import Unsupported
from planner import memory, pages, rooms, rows, taken
from planner.headroom.picture import Held, Part, Picture, Seats
from planner.headroom.setups import Setup
from planner.offload import Buffers, Offload, Start
from planner.plan import Estimate
from planner.rooms import Room, Terms
from planner.spread import Half

EXACT = Half(0.0, "published")
USUAL = 8192
"""Tokens of context at which seats are counted besides the asked one."""
MOST_SEATS = 1 << 20
"""Sequences beyond which nobody counts."""


class Rooms:
    """The memory of one device under a setup's flags, for any context and number of slots."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.books = setup, rows.books_of(setup.pairing)
        made = rows.terms_of(setup.option, setup.place, float(setup.chunk), setup.fits)
        self.terms: Terms[float] = made if setup.utilization is None else replace(made, share=setup.utilization)
        self.block = int(self.terms.block_tokens)
        self.offload = offloaded(setup, self.terms) if setup.split is not None else None
        self._known: dict[int, Callable[[float], Room[float]]] = {}

    def __call__(self, context: int, slots: int) -> Room[float]:
        """With `slots` sequences of up to `context` tokens, which fill whole blocks."""
        blocks = -(-context // self.block)
        if self.offload is not None:
            return self._split(self.offload, blocks * self.block, slots)
        if blocks not in self._known:
            tokens = float(blocks * self.block)
            demand = replace(self.terms.demand, context=tokens, prompt=tokens - 1)
            self._known[blocks] = rooms.rooms(replace(self.terms, demand=demand), self.books)
        return self._known[blocks](self.setup.data * batch_of(slots))

    def _split(self, offload: Offload, context: int, slots: int) -> Room[float]:
        """The fullest device under the user's own split; where devices share the host's memory, all of it."""
        *devices, host = offload.buffers(start(self.setup, self.terms, context, slots))
        shared = self.setup.pairing.device.accelerator.kind == "unified"
        each = [Buffers.sum([*devices, host])] if shared else devices
        fullest = max(each, key=lambda device: device.total)
        claimed = memory.claimed_bytes(self.terms.memory, self.terms.share)
        margin = self.terms.accounting.margin_bytes
        return Room(
            weight_bytes=fullest.model,
            claimed_bytes=claimed,
            activation_bytes=fullest.compute,
            cache_bytes=memory.llamacpp_cache_bytes(claimed, fullest.model, fullest.compute, margin),
            longest_bytes=fullest.cache / slots,
            running_bytes=fullest.cache,
            slots=float(slots),
        )

    def needed(self, context: int, slots: int) -> float:
        """Cache without which the engine stops: vLLM insists on one longest sequence, llama.cpp reserves every slot."""
        return self.cache_of(context, slots if self.books == "llama.cpp" else 1)

    def cache_of(self, context: int, sequences: int) -> float:
        """Cache of so many sequences, and in vLLM the one block that it keeps empty (v1/core/block_pool.py)."""
        empty = self.page[1] if self.books == "vllm" else 0.0
        return sequences * self(context, 1).longest_bytes + empty

    def starts(self, context: int, slots: int) -> bool:
        """Whether the cache holds what it must."""
        return 0 < self(context, slots).cache_bytes >= self.needed(context, slots)

    def seats(self, context: int) -> int:
        """The most sequences of `context` tokens, with as many slots; the given ones where the host holds the cache."""
        if not self(context, 1).longest_bytes:
            return self.setup.slots
        return most(lambda n: 0 < self(context, n).cache_bytes >= self.cache_of(context, n), MOST_SEATS)

    @cached_property
    def page(self) -> tuple[float, float]:
        """vLLM's page: (tokens, bytes on one device) of a block in one group of layers."""
        shape, layout, cell = self.terms.shape, self.terms.layout, self.terms.cell_bytes
        tokens = pages.block_tokens(shape, cell, layout, self.terms.block_tokens)
        return tokens, pages.block_bytes(shape, cell, layout, tokens)

    def concurrency(self, context: int, slots: int) -> tuple[int, float]:
        """(tokens, sequences of `context` tokens) that the cache holds in whole blocks, as vLLM prints them."""
        held = self(context, slots)
        if self.books == "llama.cpp" and not held.longest_bytes:
            return context * slots, float(slots)  # all of the cache is the host's
        if self.books == "llama.cpp":
            each = -(-context // self.block)
            cells = int(max(held.cache_bytes, 0.0) / held.longest_bytes * each)
            return cells * self.block, cells / each
        tokens, size = self.page
        blocks = pages.pool_blocks(held.cache_bytes, size)
        fits = pages.concurrency(blocks, held.longest_bytes / size)
        printed = pages.printed_tokens(self.terms.shape, self.terms.accounting, (blocks, tokens), fits, float(context))
        return int(printed), fits

    def longest_context(self) -> int:
        """The longest sequence, in whole blocks, with which the engine starts; the model's own limit ends it."""
        limit = self.setup.pairing.model.max_position
        blocks = most(lambda count: self.starts(count * self.block, self.setup.slots), -(-limit // self.block))
        return min(blocks * self.block, limit)


def offloaded(setup: Setup, terms: Terms[float]) -> Offload:
    """The setup's weights by place. Raises Unsupported where the model has no list of tensors."""
    split, model, kind = setup.usual_split, setup.pairing.model, setup.pairing.method.scheme
    if split is None:
        raise Unsupported(f"layers of {model.id} in {kind} cannot be placed one by one here", "$.gpu_layers")
    return Offload(model, kind, terms.shape, terms.accounting, split)


def start(setup: Setup, terms: Terms[float], context: int, slots: int) -> Start:
    """The setup as llama.cpp starts it: so many slots of `context` tokens each."""
    return Start(
        context=float(context * slots), slots=slots, chunk=float(setup.chunk), cell_bytes=float(terms.cell_bytes),
        outputs=float(slots),
    )  # fmt: skip


def places(setup: Setup) -> tuple[Held, ...]:
    """Every device and the host, for llama.cpp."""
    if setup.usual_split is None:
        return ()
    terms = Rooms(setup).terms
    found = offloaded(setup, terms).buffers(start(setup, terms, setup.context, setup.slots))
    names = [*(f"device {number}" for number in range(len(found) - 1)), "host"]
    return tuple(
        Held(
            place=name,
            weight_bytes=_digits(each.model),
            cache_bytes=_digits(each.cache),
            compute_bytes=_digits(each.compute),
        )
        for name, each in zip(names, found, strict=True)
    )


def batch_of(slots: int) -> float:
    """The mean batch for which `memory.slots_for` reserves so many slots."""
    return float((math.sqrt(slots + 1) - 1) ** 2 * (1 - 1e-9))


def most(holds: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` that still holds, of a condition that fails for good once it fails; 0: none."""
    if holds(limit):
        return limit
    low, high = 0, 1
    while high < limit and holds(high):
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def picture(setup: Setup, rooms: Rooms) -> Picture:
    """The itemised memory of one device, and what fits."""
    held = rooms(setup.context, setup.slots)
    needed, parts = rooms.needed(setup.context, setup.slots), tuple(_parts(setup, rooms, held))
    pool, total = parts[-1].bytes, rooms.terms.memory
    tokens, concurrency = rooms.concurrency(setup.context, setup.slots)
    asked = dict.fromkeys((USUAL, setup.context))
    return Picture(
        device_bytes=_digits(total),
        free_bytes=setup.pairing.device.free,
        claimed_bytes=_digits(held.claimed_bytes),
        parts=parts,
        unclaimed_bytes=_digits(total - held.claimed_bytes),
        needed_bytes=_digits(needed),
        sequence_bytes=_digits(held.longest_bytes),
        margin=_moved(pool, -needed),
        first_missing=_first_missing(setup, parts, held.claimed_bytes, needed),
        kv_tokens=tokens,
        max_concurrency=_digits(concurrency),
        longest_context=rooms.longest_context(),
        seats=tuple(
            Seats(context=each, sequences=setup.data * rooms.seats(each))
            for each in asked
            if each <= setup.pairing.model.max_position
        ),
    )


def _parts(setup: Setup, rooms: Rooms, held: Room[float]) -> Iterator[Part]:
    """Everything inside the claim; the cache is what is left of it, below nothing where it does not suffice."""
    terms, made = rooms.terms, taken.memory_estimates(held, setup.pairing, rooms.terms)
    adapters = terms.adapter_bytes / (setup.tensor * setup.pipeline)
    yield Part(name="weights", bytes=_moved(made["weight_bytes"], -adapters))
    if adapters:
        yield Part(name="adapters", bytes=taken.within(adapters, EXACT))
    yield Part(name="activations", bytes=made["activation_bytes"])
    if rooms.books == "vllm":
        graphs, libraries = taken.beside(held, terms)
        if graphs:
            doubt = taken.half("graphs", graphs, setup.pairing, terms.layout)
            yield Part(name="CUDA graphs", bytes=taken.within(graphs, doubt))
        doubt = taken.half("outside", libraries, setup.pairing, terms.layout)
        yield Part(name="libraries", bytes=taken.within(libraries, doubt))
    else:
        left = held.claimed_bytes - held.weight_bytes - held.activation_bytes - held.cache_bytes
        yield Part(name="left free on purpose", bytes=taken.within(left, EXACT))
    yield Part(name="KV cache", bytes=made["kv_pool_bytes"])


def _moved(estimate: Estimate, by: float) -> Estimate:
    """The estimate and both its ends, `by` bytes more."""
    low, value, high = (_digits(part + by) for part in (estimate.low, estimate.value, estimate.high))
    return Estimate(value=value, low=low, high=high, basis=estimate.basis, unit=estimate.unit)


def _first_missing(setup: Setup, parts: tuple[Part, ...], claimed: float, needed: float) -> str:
    """The part with which the claim overflows, in the order in which an engine takes them."""
    used = 0.0
    if setup.utilization is not None and setup.utilization > setup.largest_share:
        return "the claim"
    for part in parts[:-1]:
        used += part.bytes.value
        if used >= claimed:
            return part.name
    if claimed - used >= needed:
        return ""
    slots = setup.slots if rows.books_of(setup.pairing) == "llama.cpp" else 1
    return f"{'one sequence' if slots == 1 else f'{slots} sequences'} of {setup.context:,} tokens"


def _digits(value: float) -> float:
    """Bytes as plans print them: six digits."""
    return float(f"{value:.6g}")
