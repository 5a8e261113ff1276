"""vLLM's cache in pages: how many blocks the pool has, how many a sequence takes, and what vLLM prints of it.

Layers of one kind share pages in groups; every group of windowed or linear layers takes pages of its own, rounded up.
Source: vllm 0.33.0 v1/core/kv_cache_utils.py and kv_cache_planning.py. A float, an array or a traced number.
"""

from __future__ import annotations

from planner.memory import Accounting
from planner.trace import N, ceiling, largest, smallest, step, whole
from planner.work import Layout, Shape


@step
def block_tokens(model: Shape[N], cell_bytes: N, layout: Layout[N], least: N) -> N:
    """Tokens of a block: `least`, or so many that one linear layer's state fits into an attention layer's page."""
    layer = model.layer_values * cell_bytes / smallest(layout.tensor, model.kv_heads)
    state = model.layer_state_bytes / layout.tensor
    return largest(least, 64 * ceiling(state / layer / 64))


@step
def block_bytes(model: Shape[N], cell_bytes: N, layout: Layout[N], block: N) -> N:
    """One block of one group of layers on one device."""
    values = block * model.page_values * cell_bytes / smallest(layout.tensor, model.kv_heads)
    return (values + block * model.index_bytes) / layout.pipeline


@step
def tokens_in_flight(fixed: Accounting[N], layout: Layout[N], chunk: N) -> N:
    """Tokens that are scheduled and not yet computed: a step of `chunk` per stage, and those prepared ahead."""
    return (fixed.steps_in_flight + layout.pipeline - 1) * chunk


@step
def sequence_blocks(model: Shape[N], fixed: Accounting[N], block: N, context: N, flight: N) -> N:
    """Blocks that one sequence of `context` tokens takes at most: a window holds the tokens in flight too, and one
    block more because it need not begin at a block's edge."""
    long = ceiling(context / block)
    kept = smallest(model.window_tokens - 1 + flight, context)
    short = fixed.group_blocks * smallest(ceiling(kept / block) + 1, long + 1) + (1 - fixed.group_blocks) * long
    return model.full_groups * long + model.window_groups * short + model.state_groups * fixed.state_blocks


@step
def longest_bytes(size: N, blocks: N) -> N:
    """What the longest sequence takes of the cache; vLLM does not start where it does not fit."""
    return size * blocks


@step
def pool_blocks(cache_bytes: N, size: N) -> N:
    """Whole blocks in the memory that is left for the cache."""
    return largest(whole(cache_bytes / size), 0.0)


@step
def concurrency(blocks: N, each: N) -> N:
    """The "Maximum concurrency" that vLLM prints: sequences of the longest context that fit at once."""
    return blocks / each


def printed_tokens(model: Shape[N], fixed: Accounting[N], pool: tuple[N, N], fits: N, context: N) -> N:
    """The "GPU KV cache size" that vLLM prints; the tokens of one group's blocks, or what `fits` of `context`.

    `pool` = blocks, and tokens of each.
    """
    groups = model.full_groups + model.window_groups + model.state_groups
    by_groups = whole(pool[0] / groups) * pool[1]
    return by_groups + fixed.size_by_concurrency * (whole(fits * context) - by_groups)
