"""A candidate's replica in the simulation's terms: step times, limits, and the requests that reach it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner import arrivals, pages
from planner.request import Arrival
from planner.rooms import Books, Terms, room
from planner.serving import device_work, step_tokens
from planner.settle import Load, Settled
from planner.simulation.requests import Draw, Requests, draw
from planner.simulation.scheduler import Limits
from planner.simulation.ticks import Ticks, ticks
from planner.taken import stated_pool

MEASURED = 2000
"""Requests whose times count; a queue near its limit needs many more than its percentiles suggest."""
LEAST_WARM_UP, MOST_WARM_UP = 200, 1500
FULL_BATCHES = 3
"""Warm-up in running batches: the first of them still finds the server empty."""
LONGEST_TRACE = 10_000
LONGEST_BATCH = 5000
"""Requests of a batch job that are simulated; more of them only repeat the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run to make: which requests count, and how they arrive."""

    requests: Requests
    users: int | None
    warm_up: int
    measured: int
    whole: bool = False
    """A batch job: it has a beginning and an end …"""
    left_out: int = 0
    """… and requests that would follow those which are simulated, at the same rate."""


def times(terms: Terms[float], limits: Limits, books: Books) -> Ticks:
    """The seconds of every step within the limits."""
    sizes = limits.seats, limits.budget
    return ticks(device_work(terms, books), terms.rates, sizes, terms.request_s, terms.arrival_s)


def limits(terms: Terms[float], most: float, books: Books) -> Limits:
    """What the launch files let the engine run at once, and the cache that is left for it.

    vLLM's slots share one pool of blocks, less the common prefix; llama.cpp reserves the longest context for each.
    """
    held, budget = room(terms, most, books), int(step_tokens(terms))
    seats = max(min(int(held.slots), budget), 1)
    if books == "llama.cpp":
        return Limits(seats=seats, budget=budget)
    shape, layout, fixed, demand = terms.shape, terms.layout, terms.accounting, terms.demand
    block = pages.block_tokens(shape, terms.cell_bytes, layout, terms.block_tokens)
    size = pages.block_bytes(shape, terms.cell_bytes, layout, block)
    groups = shape.full_groups + (1 - fixed.group_blocks) * shape.window_groups
    window = math.ceil(min(shape.window_tokens, demand.context) / block) + 1
    kept = fixed.group_blocks * shape.window_groups * window + shape.state_groups * fixed.state_blocks
    common = groups * (demand.prefix // block)
    told = stated_pool(held, terms)
    return Limits(
        seats=seats,
        budget=budget,
        blocks=int(pages.pool_blocks(held.cache_bytes if told is None else told, size) - common),
        block_tokens=int(block),
        groups=int(groups),
        kept_blocks=int(kept),
        prefix=int(demand.prefix),
    )


def longest(limit: Limits, context: int) -> int:
    """Tokens of the longest request that is served: the context, or what the blocks hold."""
    if limit.blocks is None or limit.groups == 0:
        return context
    return min(context, (limit.blocks - limit.kept_blocks) // limit.groups * limit.block_tokens)


def case(settled: Settled, replicas: int, batch: float, limit: Limits, seed: int) -> Case:
    """The load of one of `replicas` replicas while `batch` sequences run on it.

    Each gets its share of the rate with the burstiness of the whole: a balancer that deals requests out by chance would
    make bursts milder, one that keeps conversations together would not. Users are dealt out evenly, the fullest replica
    is shown; so are the requests of a batch job, which are all there at the beginning. Of a trace it gets every
    `replicas`-th request, and the run is the trace itself, around its busiest minute where it is very long.
    """
    load, job = settled.load, settled.request.workload.batch
    if job is not None:
        share = math.ceil(job.requests / replicas)
        count = min(share, LONGEST_BATCH)
        drawn = _drawn(load, math.inf, count, limit, seed)
        return Case(requests=drawn, users=None, warm_up=0, measured=count, whole=True, left_out=share - count)
    if isinstance(settled.request.workload.trace, tuple):
        own = _recorded(settled.request.workload.trace, replicas, longest(limit, load.context))
        return Case(requests=own, users=None, warm_up=0, measured=len(own))
    warm_up = min(LEAST_WARM_UP + math.ceil(FULL_BATCHES * batch), MOST_WARM_UP)
    users = None if load.users is None else math.ceil(load.users / replicas)
    rate = 1.0 if load.rate is None else load.rate / replicas
    drawn = _drawn(load, rate, warm_up + MEASURED + math.ceil(batch), limit, seed)
    return Case(requests=drawn, users=users, warm_up=warm_up, measured=MEASURED)


def _recorded(rows: tuple[Arrival, ...], replicas: int, most: int) -> Requests:
    """The share of the first replica, at most LONGEST_TRACE requests; no request longer than `most` tokens."""
    whole = arrivals.requests(rows)
    arrival = whole.arrival[::replicas]
    busy = np.searchsorted(arrival, arrival + arrivals.PEAK_S) - np.arange(len(arrival))
    begin = max(min(int(np.argmax(busy)) - LONGEST_TRACE // 2, len(arrival) - LONGEST_TRACE), 0)
    part = slice(begin, begin + LONGEST_TRACE)
    prompt = np.minimum(whole.prompt[::replicas][part], most - 1).astype(np.int64)
    output = np.minimum(whole.output[::replicas][part], most - prompt).astype(np.int64)
    return Requests(arrival=arrival[part] - arrival[begin], prompt=prompt, output=output)


def _drawn(load: Load, rate: float, count: int, limit: Limits, seed: int) -> Requests:
    wanted = Draw(
        rate=rate,
        burstiness=load.burstiness,
        prompt=load.prompt.mean,
        prompt_sigma=load.prompt.sigma,
        output=load.output.mean,
        output_sigma=load.output.sigma,
        context=longest(limit, load.context),
    )
    return draw(wanted, count, seed)
