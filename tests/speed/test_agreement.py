"""Formulas against the simulation: percentiles of first tokens and times per token over random cases.

Models, devices, lanes, layouts, lengths, prefixes and arrivals of all kinds, at 0.2 to 0.85 of what a replica sustains.
Half of the cases are what plans choose most, one stage; half are any row of the search, deep pipelines among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from catalog.errors import BadInput
from planner import decode, memory, rooms, search, serving
from planner.rank import Row
from planner.rows import terms_of
from planner.serving import Z
from planner.simulation import replica
from planner.simulation.requests import Draw, draw
from planner.simulation.scheduler import run
from planner.trace import Array
from tests.plan.asking import catalog

CASES, REQUESTS, SEED = 240, 8000, 5
SAID = [(name, quantile) for name in ("ttft", "tpot") for quantile in ("p50", "p95")]
WITHIN = {"ttft p50": 0.8, "ttft p95": 0.56, "tpot p50": 0.88, "tpot p95": 0.76}
"""Share of cases in which formula and simulation are at most 10 % apart (measured: 0.83, 0.59, 0.91, 0.80); where they
are not, a plan shows the simulation."""


def asked(rng: random.Random) -> search.Found | None:
    """A random request's search."""
    prompt, output = (math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in ((100, 6000), (30, 1500)))
    longest = 3.2 * (prompt + output)
    workload = {
        "qps": rng.choice([0.5, 2, 8]),
        "burstiness": math.exp(rng.uniform(math.log(0.5), math.log(2))),
        "prompt_tokens": {"mean": prompt, "p95": prompt * rng.uniform(1.1, 3.2)},
        "output_tokens": {"mean": output, "p95": output * rng.uniform(1.1, 3.2)},
        "context_tokens_max": int(max(8192, 2 * longest)),
        "shared_prefix_tokens": int(prompt * rng.choice([0, 0, 0.3, 0.6])),
    }
    model = rng.choice(sorted(catalog().models))
    body = {"model": model, "workload": workload, "hardware": {"any": {"max_accelerators": 8}}, "engines": ["vllm"]}
    try:
        return search.search(decode.decode(msgspec.json.encode(body)), catalog())
    except BadInput:
        return None


def cases() -> Iterator[tuple[search.Found, Row, float, int]]:
    """Feasible rows, each with a utilisation and a seed."""
    rng, made = random.Random(SEED), 0
    while made < CASES:
        found = asked(rng)
        for swept in found.swept if found else []:
            feasible = np.flatnonzero(swept.feasible & (swept.rows.data == 1))  # the simulation knows one engine
            plain = feasible[swept.rows.pipeline[feasible] == 1]
            for index in [*rng.sample([*plain], min(2, len(plain))), *rng.sample([*feasible], min(2, len(feasible)))]:
                made += 1
                yield found, Row(swept, int(index)), rng.uniform(0.2, 0.85), rng.randrange(10**6)


def batch_at(terms: rooms.Terms[float], rate: float, most: float) -> float:
    """Running sequences at a rate."""
    low, high = math.log(1e-5), math.log(most)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if serving.pace(terms, math.exp(middle), "vllm").rate < rate else (low, middle)
    return math.exp(low)


def apart(found: search.Found, row: Row, share: float, seed: int) -> Array:
    """ln(formula / simulation) of `SAID`."""
    rows, index, load = row.swept.rows, row.index, found.settled.load
    layout = int(rows.tensor[index]), int(rows.pipeline[index]), bool(rows.expert[index])
    terms, most = terms_of(row.option, layout, float(rows.chunk[index]), found.fits), float(row.swept.most[index])
    rate = share * serving.pace(terms, most, "vllm").rate
    batch = batch_at(terms, rate, most)
    late = serving.latency(terms, (batch, memory.slots_for(most)), serving.pace(terms, batch, "vllm"), "vllm")
    formula = [serving.percentile(late, name, Z[quantile]) for name, quantile in SAID]
    limits = replica.limits(terms, most, "vllm")
    drawn = Draw(
        rate=rate, burstiness=load.burstiness, prompt=load.prompt.mean, prompt_sigma=load.prompt.sigma,
        output=load.output.mean, output_sigma=load.output.sigma, context=replica.longest(limits, load.context),
    )  # fmt: skip
    done = run(replica.times(terms, limits, "vllm"), limits, draw(drawn, REQUESTS, seed))
    steady = slice(REQUESTS // 10 + math.ceil(3 * batch), REQUESTS - math.ceil(batch) - REQUESTS // 50)
    times = [np.nanquantile(getattr(done, name)[steady], float(quantile[1:]) / 100) for name, quantile in SAID]
    return np.log(np.array(formula) / np.array(times))


@pytest.mark.slow
def test_formulas_agree_with_the_simulation() -> None:
    errors = np.abs([apart(*case) for case in cases()])
    assert len(errors) >= 200
    shares = {
        f"{name} {quantile}": share
        for (name, quantile), share in zip(SAID, (errors < math.log(1.1)).mean(0), strict=True)
    }
    print({name: round(float(share), 3) for name, share in shares.items()}, np.median(errors, axis=0).round(3))
    assert {name for name, share in shares.items() if share < WITHIN[name]} == set()
    assert (np.median(errors, axis=0) < math.log(1.1)).all()
