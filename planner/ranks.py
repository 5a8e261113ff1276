"""Data-parallel attention: ranks that each hold all of attention and a cache of their own, and share routed experts.

Ranks step together: every layer of experts waits for the tokens of all of them, so the fullest rank sets the pace.
"""

from __future__ import annotations

from planner.trace import N, largest, present, smallest, step


def several(ranks: N) -> bool:
    """Whether attention is data parallel anywhere: spares the formulas of everything else."""
    return present(ranks - 1)


def each(ranks: N, whole: N) -> N:
    """What is dealt out to all ranks, per rank."""
    return whole / ranks if several(ranks) else whole


def all_of(ranks: N, part: N) -> N:
    """What each rank has, of all of them."""
    return part * ranks if several(ranks) else part


@step
def fullest(ranks: N, tokens: N) -> N:
    """The balancer sends a request to the rank with the fewest (vllm 0.33.0 v1/engine/core_client.py): ranks differ by
    one at most, and the fullest has (ranks - 1) / (2 ranks) more than the mean; whole where there are fewer than ranks.
    """
    even = tokens / ranks + (ranks - 1) / (2 * ranks)
    return smallest(tokens, largest(even, 1.0))


@step
def beyond_one(ranks: N) -> N:
    """1 where attention is data parallel, else 0."""
    return smallest(ranks - 1, 1.0)


@step
def gathered_bytes(layers: N, row_bytes: N, devices: N) -> N:
    """On the way to the experts all devices gather the tokens of all ranks, and give back as many partial sums: in each
    MoE layer two hidden vectors per token of any rank (vllm's default all2all backend, allgather_reducescatter)."""
    return 2 * layers * row_bytes * (devices - 1) / devices
