"""The array pass: what every row comes to, thousands at once.

For each case it finds the largest running batch that fits the memory and meets the objectives, hence the rate of one
replica, the replicas for the load, and the latencies at the planned load. Rows that differ in price alone are one case,
and a case that is out at one stage does not burden the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from planner import cost, energy, jobs
from planner.ranks import all_of
from planner.rooms import Books, Fixture, Room, fixture, replica_slots, rooms
from planner.rows import Cases, Mask, Rows, picked
from planner.rules.latency import FEW_USERS
from planner.serving import Latency, Z, budgeted, latencies, latency, pace, pacing, percentile
from planner.settle import Settled
from planner.trace import Array, present
from planner.work import devices_of

LEAST = 0.02
"""Running sequences at hardly any load: what a layout can do at best."""
SLOTS = {"vllm": 1024, "llama.cpp": FEW_USERS}
"""Most sequences that a search plans for at once: vLLM's largest default, llama-server's default. No measurement of
llama.cpp with more users is trusted."""
PEAK_SHARE = 0.85
"""Of the sustainable rate, where no latency objective says how full a server may run (assumed)."""
HALVINGS = 13
"""Of the logarithm of the batch between LEAST and the seats: what is found is at most 0.2 % below the largest."""
BRACKETS = 11
"""The same before a straight line through what is left, which is off by less than 0.001 %."""
PLANNED = ("batch", "ttft_p95_s", "tpot_p95_s", "e2e_p95_s", "headroom", "tokens_per_joule")
"""Fields of `Evaluated` that are not a number where nothing is feasible."""


@dataclass(frozen=True)
class Evaluated:
    """What each case comes to, or each row."""

    room: Room[Array]
    """With hardly any load: what decides whether it starts."""
    starts: Mask
    holds: Mask
    """The longest context fits."""
    served: Mask
    """The objectives hold at hardly any load."""
    misses: dict[str, Array]
    """Per objective: value at hardly any load over limit, above 1 it is missed however little is asked; 0 where the
    longest context does not fit."""
    rate: Array
    replicas: Array
    devices: Array
    most: Array
    """Running sequences that fit and meet the objectives on one replica."""
    feasible: Mask
    """Served with as many devices as may be used. What follows is NaN elsewhere."""
    batch: Array
    """Running sequences per replica at the planned load."""
    ttft_p95_s: Array
    tpot_p95_s: Array
    e2e_p95_s: Array
    slo_at_bad_end: Mask
    headroom: Array
    """Share of a replica's sustainable rate that the planned load leaves."""
    tokens_per_joule: Array


@dataclass(frozen=True)
class Swept(Evaluated):
    """What each row comes to, and its price."""

    rows: Rows
    usd_per_month: Array
    affordable: Mask
    """Within the budget; an unknown price is."""


def sweep(rows: Rows, settled: Settled) -> Swept:
    """Evaluate all cases, and price all rows."""
    found = evaluate(rows.cases, settled)
    spread: dict[str, Any] = {field.name: picked(getattr(found, field.name), rows.case) for field in fields(Evaluated)}
    hourly = cost.price_usd_per_hour(cost.paid_devices(spread["devices"], rows.per_instance), rows.price)
    monthly = cost.price_usd_per_month(hourly, np.asarray(cost.HOURS_PER_MONTH))
    affordable = _affordable(monthly, settled.objectives.usd_per_month)
    return Swept(rows=rows, usd_per_month=monthly, affordable=affordable, **spread)


def evaluate(cases: Cases, settled: Settled) -> Evaluated:
    """Memory and objectives at hardly any load, then the largest batch of what is left, then the planned load."""
    fixed = fixture(cases.terms) if cases.books == "vllm" else None
    empty = rooms(cases.terms, cases.books, fixed)(np.full(cases.size, LEAST))
    holds = empty.cache_bytes >= np.maximum(empty.longest_bytes, empty.running_bytes)
    starts = empty.cache_bytes > 0
    served, misses = _alone(cases, settled, np.flatnonzero(starts & holds))
    serving = np.flatnonzero(served)
    largest = _most(cases.at(serving), settled, cast(Fixed, picked(fixed, serving)))
    most = _scattered(cases.size, serving, largest, float(np.exp(np.log(LEAST))))
    rate = np.where(np.isnan(cases.own_rate), pace(cases.terms, most, cases.books).rate, cases.own_rate)
    replicas = _needed(cases, settled, serving, (rate, most)) + settled.load.spares
    devices = replicas * devices_of(cases.terms.layout)
    feasible = served & (devices <= cases.most)
    carried = Carried(rate=rate, replicas=replicas, devices=devices, most=most)
    return Evaluated(
        room=empty,
        starts=starts,
        holds=holds,
        served=served,
        misses=misses,
        rate=rate,
        replicas=replicas,
        devices=devices,
        most=most,
        feasible=feasible,
        **_planned(cases, settled, carried, np.flatnonzero(feasible)),
    )


@dataclass(frozen=True)
class Carried:
    """What the planned load takes; the meanings are those of `Evaluated`."""

    rate: Array
    replicas: Array
    devices: Array
    most: Array


def _alone(cases: Cases, settled: Settled, holding: NDArray[np.intp]) -> tuple[Mask, dict[str, Array]]:
    """(Served, misses) with hardly any load, of the cases that hold the longest context."""
    served, misses = np.zeros(cases.size, bool), {}
    some = cases.at(holding)
    batch = np.full(some.size, LEAST)
    values = _objectives(some, settled)(batch, replica_slots(some.terms, batch))
    served[holding] = _within(values, settled, some.size)
    for objective, limit in settled.objectives.slo_s.items():
        misses[objective] = _scattered(cases.size, holding, values[objective] / limit, 0.0)
    job = settled.request.workload.batch
    if job is not None:
        misses["job_s"] = _scattered(cases.size, holding, jobs.alone_s(some, settled) / job.deadline_s, 0.0)
        served &= misses["job_s"] <= 1
    return served, misses


def _needed(cases: Cases, settled: Settled, serving: NDArray[np.intp], carried: tuple[Array, Array]) -> Array:
    """Replicas for the planned load, or for a job's deadline; `carried` = requests/s and running sequences of one."""
    rate, most = carried
    if settled.request.workload.batch is None:
        return _replicas(settled, rate * usable_share(settled), most)
    return _scattered(cases.size, serving, jobs.replicas(cases.at(serving), settled, most[serving]), np.inf)


def _planned(cases: Cases, settled: Settled, carried: Carried, feasible: NDArray[np.intp]) -> dict[str, Any]:
    """The last fields of `Evaluated`: what the feasible cases come to at the planned load."""
    if not feasible.size:
        nothing = {name: np.full(cases.size, np.nan) for name in PLANNED}
        return {**nothing, "slo_at_bad_end": np.zeros(cases.size, bool)}
    some, of = cases.at(feasible), cast(Carried, picked(carried, feasible))
    batch = _running(some, settled, of.replicas, of.most)
    at = pace(some.terms, batch, some.books)
    slots = replica_slots(some.terms, of.most)
    late = latency(some.terms, (batch, slots), at, some.books)
    made = {f"{name}_p95_s": percentile(late, name, np.asarray(Z["p95"])) for name in ("ttft", "tpot", "e2e")}
    made |= {
        "batch": batch,
        "headroom": 1 - at.rate / of.rate,
        "tokens_per_joule": _tokens_per_joule(some, settled, batch, at.rate * of.replicas, of.devices),
    }
    met = np.zeros(cases.size, bool)
    if present(some.terms.drafter.tokens):
        late = latency(some.at_bad_end, (batch, slots), pace(some.at_bad_end, batch, some.books), some.books)
    met[feasible] = _within(_percentiles(some, settled, late, bad_end=True), settled, some.size)
    spread = {name: _scattered(cases.size, feasible, column, np.nan) for name, column in made.items()}
    return {**spread, "slo_at_bad_end": met}


def _scattered(size: int, chosen: NDArray[np.intp], values: Array, otherwise: float) -> Array:
    """A column of `size` with these values at the chosen places."""
    made = np.full(size, otherwise)
    made[chosen] = values
    return made


def _tokens_per_joule(cases: Cases, settled: Settled, batch: Array, served: Array, devices: Array) -> Array:
    """`served` requests/s of all replicas; NaN where no power is known."""
    watts = cost.watts(devices, cases.watts, np.asarray(cost.IDLE_DRAW), energy.busy(batch, settled))
    return cost.tokens_per_joule(served * cases.terms.demand.output, watts)


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


Values = Callable[[Array, Array], dict[str, Array]]


def _objectives(cases: Cases, settled: Settled) -> Values:
    """What objectives are about, in seconds, by running sequences and slots; at the interval's bad end where asked."""
    if not settled.objectives.slo_s:
        return lambda *_: {}
    bad_end = settled.objectives.strict
    terms = cases.at_bad_end if bad_end else cases.terms
    paced, late = pacing(terms, cases.books), latencies(terms, cases.books)
    return lambda batch, slots: _percentiles(cases, settled, late(batch, slots, paced(batch)), bad_end=bad_end)


def _percentiles(cases: Cases, settled: Settled, late: Latency[Array], *, bad_end: bool) -> dict[str, Array]:
    made = {}
    for objective in settled.objectives.slo_s:
        name, quantile, _ = objective.split("_")
        value = percentile(late, name, np.asarray(Z[quantile]))
        made[objective] = value * cases.bands[name] if bad_end else value
    return made


def _within(values: dict[str, Array], settled: Settled, size: int) -> Mask:
    """Whether every latency objective holds."""
    met = np.ones(size, bool)
    for objective, limit in settled.objectives.slo_s.items():
        met &= values[objective] <= limit
    return met


Fixed = Fixture[Array] | None


def _most(cases: Cases, settled: Settled, fixed: Fixed) -> Array:
    """Running sequences that fit and meet the objectives, of cases that can serve one."""
    top = float(np.log(seats(cases.books, settled)))
    most = all_of(cases.terms.layout.data, np.full(cases.size, np.exp(top)))
    possible = _possible(cases, settled, fixed)
    short = np.flatnonzero(~possible(most)) if cases.size else np.empty(0, dtype=np.intp)
    if short.size < cases.size:
        cases = cases.at(short)
        possible = _possible(cases, settled, cast(Fixed, picked(fixed, short)))
    if short.size:
        most[short] = _largest(possible, short.size, top + np.log(cases.terms.layout.data))
    return most


def _possible(cases: Cases, settled: Settled, fixed: Fixed) -> Callable[[Array], Mask]:
    """Whether so many running sequences fit and meet the objectives."""
    at, values = rooms(cases.terms, cases.books, fixed), _objectives(cases, settled)

    def ok(batch: Array) -> Mask:
        held = at(batch)
        fits = held.cache_bytes >= np.maximum(held.longest_bytes, held.running_bytes)
        fits &= budgeted(cases.terms, batch) <= 1
        fits &= held.slots * (cases.terms.drafter.tokens + 1) <= cases.terms.rates.chunk
        return fits & _within(values(batch, all_of(cases.terms.layout.data, held.slots)), settled, cases.size)

    return ok


def _largest(ok: Callable[[Array], Mask], size: int, top: Array) -> Array:
    """The largest batch from LEAST, which is ok, to one of the logarithm `top`, which is not; by halving logarithms."""
    low, high = np.full(size, np.log(LEAST)), np.full(size, top)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        good = ok(np.exp(middle))
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.asarray(np.exp(low))


def _replicas(settled: Settled, rate: Array, batch: Array) -> Array:
    if settled.load.users is not None:
        return np.asarray(np.ceil(settled.load.users / np.maximum(np.floor(batch), 1.0)), dtype=float)
    return np.asarray(np.ceil((settled.load.rate or 0.0) / rate))


def _running(cases: Cases, settled: Settled, replicas: Array, most: Array) -> Array:
    """Sequences that run on each replica at the planned load: where the rate at that batch is the replica's share."""
    if settled.load.users is not None:
        return np.asarray(settled.load.users / replicas)
    wanted, at = (settled.load.rate or 0.0) / replicas, pacing(cases.terms, cases.books)
    low, high = np.full(most.shape, np.log(LEAST / 20)), np.log(most)
    for _ in range(BRACKETS):
        middle = (low + high) / 2
        below = at(np.exp(middle)).rate < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    slow, fast = at(np.exp(low)).rate, at(np.exp(high)).rate
    share = np.clip((wanted - slow) / (fast - slow), 0, 1)
    return np.asarray(np.exp(low + share * (high - low)))
