"""What a simulation adds to a candidate: percentiles of single requests, and whether the formulas agree with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from planner.fits import Fits
from planner.plan import Candidate, Estimate, Percentiles, Simulated, Step
from planner.rank import Row
from planner.ranks import several
from planner.rooms import Books, Terms
from planner.settle import Settled
from planner.simulation import replica
from planner.simulation.scheduler import Run, run
from planner.spread import between
from planner.trace import Array, present

SEED = 1
AGREE = 0.1
"""Formulas and simulation agree within this share at p50 and p95."""
CALM, BUSY = 0.2, 0.85
"""Shares of the sustainable rate between which the formulas are checked against simulations (tests/speed)."""
REGULAR, BURSTY = 2.0, 0.5
"""Burstiness between which they are."""
PARTS = 10
"""Parts of a run whose spread says how well its percentiles are known."""
LATENCIES = ("ttft", "tpot", "e2e")
SHOWN = ("p50", "p95", "p99")


def simulate(row: Row, terms: Terms[float], made: Mapping[str, Estimate]) -> Simulated | None:
    """One replica of the row at the planned load; None where the user states what a replica carries, and with drafted
    tokens or several ranks, of which the scheduler of the simulation knows nothing."""
    swept = row.swept
    if not math.isnan(row.own_rate) or present(terms.drafter.tokens) or several(terms.layout.data):
        return None
    held = Held(
        replicas=int(row.at(swept.replicas)), batch=row.at(swept.batch), most=row.at(swept.most),
        utilisation=1 - row.at(swept.headroom),
    )  # fmt: skip
    return lived(row.option.pairing.settled, terms, held, made, swept.rows.books)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How full the replicas of a candidate are."""

    replicas: int
    batch: float
    """Sequences that run on each."""
    most: float
    """Those that may."""
    utilisation: float
    """Share of the sustainable rate."""


def lived(settled: Settled, terms: Terms[float], held: Held, made: Mapping[str, Estimate], books: Books) -> Simulated:
    """One replica at the planned load, and the latencies for which its simulation speaks instead of `made`."""
    limits = replica.limits(terms, held.most, books)
    case = replica.case(settled, held.replicas, held.batch, limits, SEED)
    done = run(replica.times(terms, limits, books), limits, case.requests, case.users)
    return _decided(summary(done, case), made, _outside(settled, held.utilisation), settled)


def summary(done: Run, case: replica.Case) -> Simulated:
    """The measured part of a run."""
    part = slice(case.warm_up, case.warm_up + case.measured)
    rate, makespan = _throughput(done), None
    if case.warm_up == 0 and not case.whole:
        rate = case.measured / done.end_s
    if case.whole:
        makespan = done.end_s + case.left_out / rate
        rate = (case.measured + case.left_out) / makespan
    return Simulated(
        requests=case.measured,
        warm_up=case.warm_up,
        seed=SEED,
        ttft_s=percentiles(done.ttft[part]),
        tpot_s=percentiles(done.tpot[part]),
        e2e_s=percentiles(done.e2e[part]),
        queue_wait_s=percentiles(done.wait[part]),
        utilisation=_short(done.busy_s / done.end_s),
        requests_per_s=_short(rate),
        running_sequences=_short(done.running_s / done.end_s),
        preemptions=int(done.preempted[part].sum()),
        makespan_s=None if makespan is None else _short(makespan),
    )


def _throughput(done: Run) -> float:
    """Answers per second in the middle half of the run."""
    finish = np.sort(done.finish)
    first, last = len(finish) // 4, 3 * len(finish) // 4
    return float((last - first) / max(finish[last] - finish[first], 1e-12))


def percentiles(times: Array) -> Percentiles:
    """Of one latency of all measured requests; requests without it (answers of one token) do not count."""
    known = times[~np.isnan(times)]
    if not len(known):
        return Percentiles(p50=0.0, p90=0.0, p95=0.0, p99=0.0, p95_error=0.0)
    p50, p90, p95, p99 = (_short(float(value)) for value in np.quantile(known, (0.5, 0.9, 0.95, 0.99)))
    parts = [np.quantile(part, 0.95) for part in np.array_split(known, min(PARTS, len(known)))]
    error = float(np.std(parts, ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else 0.0
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99, p95_error=_short(error))


def _outside(settled: Settled, utilisation: float) -> bool:
    """Whether the formulas are not checked at this load; a trace is what it is."""
    if settled.request.workload.trace is not None:
        return True
    if settled.load.users is not None:
        return False
    return not (CALM <= utilisation <= BUSY and BURSTY <= settled.load.burstiness <= REGULAR)


def _decided(said: Simulated, made: Mapping[str, Estimate], outside: bool, settled: Settled) -> Simulated:
    """The same, naming the latencies for which the simulation speaks. A batch job sends its requests as the server
    takes them: its latencies stay those at the rate that meets the deadline."""
    if settled.request.workload.batch is not None:
        return said
    names = [name for name in LATENCIES if outside or not _agrees(name, said, made)]
    replaced = {f"{name}_{quantile}_s": made[f"{name}_{quantile}_s"].value for name in names for quantile in SHOWN}
    return replace(said, replaces=replaced)


def _agrees(name: str, said: Simulated, made: Mapping[str, Estimate]) -> bool:
    found: Percentiles = getattr(said, f"{name}_s")
    pairs = ((found.p50, made[f"{name}_p50_s"].value), (found.p95, made[f"{name}_p95_s"].value))
    return all(abs(own - other) <= AGREE * own for own, other in pairs)


def estimates(said: Simulated, row: Row, fits: Fits) -> dict[str, Estimate]:
    """The latencies for which the simulation speaks, with the intervals of the step times around them."""
    pairing, made = row.option.pairing, {}
    for estimate in said.replaces:
        name, quantile, _ = estimate.split("_")
        low, high = fits.band(pairing, name)
        value = getattr(getattr(said, f"{name}_s"), quantile)
        made[estimate] = between(value * min(low, 1.0), value, value * max(high, 1.0), fits.of(pairing).basis, "s")
    return made


def steps(shown: Candidate | None) -> tuple[Step, ...]:
    """Where the simulated numbers of a plan's choice come from."""
    said = shown.simulated if shown else None
    if said is None:
        return ()
    source = f"event simulation of {said.requests} requests after {said.warm_up}, seed {said.seed}"
    why = {
        True: "formulas and simulation do not agree here, or were not checked here: the plan shows the simulation",
        False: "within 10 % of the formulas: the plan shows those",
    }
    return tuple(
        Step(
            name=f"simulated_{name}_p95_s",
            value=getattr(said, f"{name}_s").p95,
            unit="s",
            why=why[f"{name}_p95_s" in said.replaces],
            source=source,
        )
        for name in LATENCIES
    )


def _short(value: float) -> float:
    return float(f"{value:.6g}")
