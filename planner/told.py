"""The cache's size where an engine is told it, rather than given what is left: vLLM on a CPU."""

from __future__ import annotations

import math

from catalog.units import GIB
from planner import pages
from planner.serving import Room, Terms


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
