"""The array pass: what every row comes to, thousands at once.

For each row it finds the largest running batch that fits the memory and meets the objectives, hence the rate of one
replica, the replicas for the load, and the latencies at the planned load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner import cost, energy, jobs
from planner.rows import Mask, Rows
from planner.rules.latency import FEW_USERS
from planner.serving import Books, Room, Z, latency, pace, pacing, percentile, room, rooms
from planner.settle import Settled
from planner.trace import Array

LEAST = 0.02
"""Running sequences at hardly any load: what a layout can do at best."""
SLOTS = {"vllm": 1024, "llama.cpp": FEW_USERS}
"""Most sequences that a search plans for at once: vLLM's largest default, llama-server's default. No measurement of
llama.cpp with more users is trusted."""
PEAK_SHARE = 0.85
"""Of the sustainable rate, where no latency objective says how full a server may run (assumed)."""
HALVINGS = 18
"""Of the logarithm of the batch between LEAST and the seats: leaves less than 0.01 %."""
BRACKETS = 11
"""The same before a straight line through what is left, which is off by less than 0.001 %."""


@dataclass(frozen=True)
class Swept:
    """What each row came to. Latencies at the planned load."""

    rows: Rows
    room: Room[Array]
    """With hardly any load: what decides whether it starts."""
    starts: Mask
    holds: Mask
    """The longest context fits."""
    served: Mask
    """The objectives hold at hardly any load."""
    misses: dict[str, Array]
    """Per objective: value at hardly any load over limit."""
    rate: Array
    replicas: Array
    devices: Array
    most: Array
    """Running sequences that fit and meet the objectives on one replica."""
    batch: Array
    """Running sequences per replica at the planned load."""
    ttft_p95_s: Array
    tpot_p95_s: Array
    e2e_p95_s: Array
    slo_at_bad_end: Mask
    usd_per_month: Array
    headroom: Array
    """Share of a replica's sustainable rate that the planned load leaves."""
    tokens_per_joule: Array
    affordable: Mask
    """Within the budget; an unknown price is."""

    @property
    def feasible(self) -> Mask:
        return self.starts & self.holds & self.served & (self.devices <= self.rows.most)


def sweep(rows: Rows, settled: Settled) -> Swept:
    """Evaluate all rows."""
    least = np.full(rows.option.shape, LEAST)
    empty = room(rows.terms, least, rows.books)
    starts = empty.cache_bytes > 0
    holds = empty.cache_bytes >= np.maximum(empty.longest_bytes, empty.running_bytes)
    ok = _objectives(rows, settled)
    served = starts & holds & ok(least)
    fits = _fits(rows)
    most = _largest(lambda batch: ok(batch) & fits(batch), served, seats(rows.books, settled))
    rate = np.where(np.isnan(rows.own_rate), pace(rows.terms, most, rows.books).rate, rows.own_rate)
    misses = _misses(rows, settled, least)
    if settled.request.workload.batch is not None:
        served &= misses["job_s"] <= 1
        needed = jobs.replicas(rows, settled, most)
    else:
        needed = _replicas(settled, rate * usable_share(settled), most)
    replicas = needed + settled.load.spares
    batch = _running(rows, settled, replicas, most)
    at = pace(rows.terms, batch, rows.books)
    late = latency(rows.terms, batch, at, rows.books)
    devices = replicas * rows.terms.layout.tensor * rows.terms.layout.pipeline
    hourly = cost.price_usd_per_hour(cost.paid_devices(devices, rows.per_instance), rows.price)
    monthly = cost.price_usd_per_month(hourly, np.asarray(cost.HOURS_PER_MONTH))
    ends = {name: percentile(late, name, np.asarray(Z["p95"])) for name in ("ttft", "tpot", "e2e")}
    return Swept(
        rows=rows,
        room=empty,
        starts=starts,
        holds=holds,
        served=served,
        misses=misses,
        rate=rate,
        replicas=replicas,
        devices=devices,
        most=most,
        batch=batch,
        ttft_p95_s=ends["ttft"],
        tpot_p95_s=ends["tpot"],
        e2e_p95_s=ends["e2e"],
        slo_at_bad_end=_meets(rows, settled, batch, bad_end=True),
        usd_per_month=monthly,
        headroom=1 - at.rate / rate,
        tokens_per_joule=_tokens_per_joule(rows, settled, batch, at.rate * replicas, devices),
        affordable=_affordable(monthly, settled.objectives.usd_per_month),
    )


def _tokens_per_joule(rows: Rows, settled: Settled, batch: Array, served: Array, devices: Array) -> Array:
    """`served` requests/s of all replicas; NaN where no power is known."""
    watts = cost.watts(devices, rows.watts, np.asarray(cost.IDLE_DRAW), energy.busy(batch, settled))
    return cost.tokens_per_joule(served * rows.terms.demand.output, watts)


def _affordable(monthly: Array, limit: float | None) -> Mask:
    return np.ones(monthly.shape, bool) if limit is None else ~(monthly > limit)


def seats(books: Books, settled: Settled) -> float:
    """The mean batch that fills the slots: with its spread for open arrivals, exactly for a fixed number of users."""
    slots = SLOTS[books]
    return float(slots) if settled.load.users is not None else float((np.sqrt(slots + 1) - 1) ** 2)


def usable_share(settled: Settled) -> float:
    """Objectives decide how full a server may run; without any, PEAK_SHARE does, and batch work fills it."""
    open_ended = settled.objectives.slo_s or settled.request.workload.batch is not None
    return 1.0 if open_ended else PEAK_SHARE


def _objectives(rows: Rows, settled: Settled) -> Callable[[Array], Mask]:
    return lambda batch: _meets(rows, settled, batch, bad_end=settled.objectives.strict)


def _meets(rows: Rows, settled: Settled, batch: Array, *, bad_end: bool) -> Mask:
    """Whether every latency objective holds while `batch` sequences run."""
    met = np.ones(batch.shape, bool)
    if not settled.objectives.slo_s:
        return met
    terms = rows.at_bad_end if bad_end else rows.terms
    late = latency(terms, batch, pace(terms, batch, rows.books), rows.books)
    for objective, limit in settled.objectives.slo_s.items():
        name, quantile, _ = objective.split("_")
        value = percentile(late, name, np.asarray(Z[quantile]))
        met &= value * (rows.bands[name] if bad_end else 1.0) <= limit
    return met


def _misses(rows: Rows, settled: Settled, least: Array) -> dict[str, Array]:
    """Per objective: its value at hardly any load over its limit; above 1 it is missed however little is asked."""
    asked = settled.request.workload.batch
    made = {} if asked is None else {"job_s": jobs.alone_s(rows, settled) / asked.deadline_s}
    if not settled.objectives.slo_s:
        return made
    terms = rows.at_bad_end if settled.objectives.strict else rows.terms
    late = latency(terms, least, pace(terms, least, rows.books), rows.books)
    for objective, limit in settled.objectives.slo_s.items():
        name, quantile, _ = objective.split("_")
        value = percentile(late, name, np.asarray(Z[quantile]))
        made[objective] = value * (rows.bands[name] if settled.objectives.strict else 1.0) / limit
    return made


def _fits(rows: Rows) -> Callable[[Array], Mask]:
    """Whether memory holds so many, and a step's token budget a token and its drafts of every slot."""
    at, terms = rooms(rows.terms, rows.books), rows.terms

    def holds(batch: Array) -> Mask:
        held = at(batch)
        seated = held.slots * (terms.drafter.tokens + 1) <= terms.rates.chunk
        return seated & (held.cache_bytes >= np.maximum(held.longest_bytes, held.running_bytes))

    return holds


def _largest(ok: Callable[[Array], Mask], possible: Mask, seats: float) -> Array:
    """The largest batch between LEAST and `seats` that is still ok, by halving its logarithm."""
    low = np.full(possible.shape, np.log(LEAST))
    high = np.full(possible.shape, np.log(seats))
    low = np.where(ok(np.exp(high)) & possible, high, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        good = ok(np.exp(middle)) & possible
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.asarray(np.exp(low))


def _replicas(settled: Settled, rate: Array, batch: Array) -> Array:
    if settled.load.users is not None:
        return np.asarray(np.ceil(settled.load.users / np.maximum(np.floor(batch), 1.0)), dtype=float)
    return np.asarray(np.ceil((settled.load.rate or 0.0) / rate))


def _running(rows: Rows, settled: Settled, replicas: Array, most: Array) -> Array:
    """Sequences that run on each replica at the planned load: where the rate at that batch is the replica's share."""
    if settled.load.users is not None:
        return np.asarray(settled.load.users / replicas)
    wanted, at = (settled.load.rate or 0.0) / replicas, pacing(rows.terms, rows.books)
    low, high = np.full(most.shape, np.log(LEAST / 20)), np.log(most)
    for _ in range(BRACKETS):
        middle = (low + high) / 2
        below = at(np.exp(middle)).rate < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    slow, fast = at(np.exp(low)).rate, at(np.exp(high)).rate
    share = np.clip((wanted - slow) / (fast - slow), 0, 1)
    return np.asarray(np.exp(low + share * (high - low)))
