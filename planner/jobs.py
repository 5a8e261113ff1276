"""A fixed amount of work with a deadline: how long it takes on a replica, and how many replicas it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from planner.request import Batch
from planner.rooms import Books, Terms, held_tokens
from planner.rows import Cases
from planner.serving import Z, pacing
from planner.settle import Settled
from planner.trace import Array, N, positive, smallest

ALONE_SHARE = 0.25
"""Of the running batch: how many still run, in the middle, while the longest answers end (assumed)."""


def longest_answer(settled: Settled) -> float:
    """Tokens of the answer that a job waits for last: the 99th percentile, within the context."""
    load = settled.load
    sigma = load.output.sigma
    return min(load.output.mean * math.exp(sigma * Z["p99"] - sigma**2 / 2), load.context - load.prompt.mean)


def job_times(terms: Terms[N], books: Books, most: N, longest: float) -> Callable[[N], tuple[N, N]]:
    """(Requests/s, seconds until the last answers end) of one replica, as a function of the requests it gets.

    All lie there at once and `most` run at a time. While the last ones end, fewer and fewer run.
    """
    at, demand = pacing(terms, books), terms.demand
    left = held_tokens(replace(demand, prompt=0 * demand.prompt))

    def of(requests: N) -> tuple[N, N]:
        batch = smallest(most, requests)
        full, few = at(batch), at(batch * ALONE_SHARE)
        return full.rate, positive(longest * few.step_s - left * full.step_s)

    return of


def alone_s(cases: Cases, settled: Settled) -> Array:
    """The shortest time of any job: its longest answer with nothing beside it."""
    one = pacing(cases.terms, cases.books)(np.full(cases.size, 1.0))
    return np.asarray(one.prompt_s + longest_answer(settled) * one.step_s) * _bad_end(cases, settled)


def _bad_end(cases: Cases, settled: Settled) -> Array:
    """What times are multiplied with before they are held against a deadline: 1, unless it has to hold for sure."""
    return cases.bands["tpot"] if settled.objectives.strict else np.ones(cases.size)


def replicas(cases: Cases, settled: Settled, most: Array) -> Array:
    """The fewest that end before the deadline; as many as there are requests where none do."""
    asked = settled.request.workload.batch
    assert asked is not None
    times = job_times(cases.terms, cases.books, most, longest_answer(settled))
    deadline = asked.deadline_s / _bad_end(cases, settled)
    low, high = np.zeros(most.shape), np.full(most.shape, float(asked.requests))
    for _ in range(math.ceil(math.log2(asked.requests)) + 1):
        middle = np.maximum(np.floor((low + high) / 2), 1.0)
        rate, ending = times(asked.requests / middle)
        rate = np.where(np.isnan(cases.own_rate), rate, cases.own_rate)
        ends = asked.requests / middle / rate + ending <= deadline
        low, high = np.where(ends, low, middle), np.where(ends, middle, high)
    return high


def limit_s(asked: Batch | None, name: str) -> float:
    """The deadline, for the objective of that name; 0 for every other."""
    return asked.deadline_s if asked is not None and name == "job_s" else 0.0
