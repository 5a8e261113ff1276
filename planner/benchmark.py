"""What a benchmark would print for one deployment under one load: step times and queueing put together.

Arrays only: one element per measurement. Loads as in the calibration tables: batch1, closed, saturated, server_slo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from catalog.errors import Unsupported
from planner import queueing as q
from planner.speed import Rates, Work, decode_step_s, host_s, prefill_s, prompt_token_s
from planner.trace import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How the deployment is used; requests, users and memory per replica."""

    prompt: Array
    """Mean tokens in, and out:"""
    output: Array
    depth: Array
    """Tokens in the cache before the prompt."""
    users: Array
    """Streams in flight; 0 where all requests are queued."""
    requests: Array
    """Length of that queue; 0 where it never ends."""
    pool_bytes: Array
    """KV memory of one device."""
    seats: Array
    """Most sequences the engine runs at once."""
    reserved_output: Array
    """Part of the answer that the engine counts when it admits a request: 1 reserves all, 0.5 grows with it."""
    varied: Array
    """1 where lengths follow a data set, 0 where all are equal."""
    mean_of_requests: Array
    """1 where time per token is averaged over requests of such lengths: short answers weigh as much as long ones."""
    chunked: Array
    """1 where running sequences get a token with every prompt chunk."""
    prefill_tokens: Array
    """Prompt tokens in one pass without running sequences, whose answers all begin at its end; 0 where they mix."""
    unreserved: Array
    """1 where `pool_bytes` holds what the engine allocates beside weights and cache, 0 where that is taken off."""
    static: Array
    """1 where all users start together and none follows: what does not fit runs as the next wave."""
    replicas: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Fitted shares and times of engine and harness around the steps."""

    request_s: Array
    arrival_s: Array
    bunching: Array
    pool_share: Array
    reserve_bytes: Array
    steady_share: Array
    slo_share: Array
    drain: Array
    brevity: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One element per measurement."""

    work: Work[Array]
    rates: Rates[Array]
    load: Load
    habits: Habits


def expected(bench: Bench, load: str, metric: str) -> Array:
    """The printed value in the unit of the metric's name."""
    return formula(load, metric)(bench)


def formula(load: str, metric: str) -> Callable[[Bench], Array]:
    """Raises Unsupported for a load or metric without one."""
    found = ONE_AT_A_TIME.get(metric) or SERVED.get(load, {}).get(metric)
    if found is None:
        raise Unsupported(f"no formula for {metric} under load {load}", "$.metric")
    return found


def slots(bench: Bench) -> Array:
    """Sequences that fit the KV pool and the engine's limit at once."""
    work, load = bench.work, bench.load
    tokens = load.prompt + load.output * load.reserved_output
    each = work.cache_bytes_per_token * tokens + work.cache_bytes_fixed
    pool = bench.habits.pool_share * np.maximum(load.pool_bytes - load.unreserved * bench.habits.reserve_bytes, 0.0)
    return np.maximum(np.minimum(pool / each, load.seats), 1.0)


def decode_rate(bench: Bench) -> Array:
    """llama-bench tg: tokens/s of one sequence, the cache filling meanwhile."""
    load = bench.load
    return 1 / decode_step_s(bench.work, bench.rates, np.ones(1), load.depth + load.prompt + load.output / 2)


def prefill_rate(bench: Bench) -> Array:
    """llama-bench pp: prompt tokens/s."""
    load = bench.load
    return load.prompt / prefill_s(bench.work, bench.rates, load.prompt + load.depth, load.depth)


@dataclass(frozen=True, slots=True)
class Cycle:
    """A closed loop in its steady state."""

    rate: Array
    step: Array
    prompt: Array
    batch: Array


def closed(bench: Bench) -> Cycle:
    """Each user sends the next request when the last is answered; what does not fit waits outside."""
    load = bench.load
    batch = running(load, slots(bench))
    step = decode_step_s(bench.work, bench.rates, batch, load.prompt + load.output / 2)
    alone = prefill_s(bench.work, bench.rates, load.prompt, np.zeros(1))
    riding = load.prompt * prompt_token_s(bench.work, bench.rates, load.prompt / 2)
    prompt = np.where(load.chunked > 0, riding, alone) + bench.habits.request_s
    return Cycle(q.rate_at_batch(batch, load.output, step, prompt), step, prompt, batch)


def running(load: Load, most: Array) -> Array:
    """Sequences of a closed loop that run at once, `most` at most. A static batch comes in waves of one size."""
    waves = np.ceil(load.users / np.maximum(np.floor(most), 1.0))
    return np.where(load.static > 0, load.users / waves, np.minimum(load.users, most))


def closed_tpot(bench: Bench, cycle: Cycle) -> Array:
    load = bench.load
    others = cycle.batch - together(load, cycle)
    tpot = q.closed_tpot_s(cycle.step, others, cycle.prompt, load.output, bench.habits.bunching)
    return np.where(load.chunked > 0, q.tpot_capped_s(tpot, cycle.step, chunk_s(bench)), tpot)


def together(load: Load, cycle: Cycle) -> Array:
    """Sequences whose prompts share a pass: they wait for each other before the first token, never after it.

    Users whose answers differ in length ask again one by one.
    """
    shared = np.where(load.varied > 0, 1.0, load.prefill_tokens / load.prompt)
    return np.clip(shared, 1.0, cycle.batch)


def closed_ttft(bench: Bench, cycle: Cycle) -> Array:
    load = bench.load
    waited = q.closed_ttft_s(load.users, cycle.rate, load.output, closed_tpot(bench, cycle))
    alone = prefill_s(bench.work, bench.rates, load.prompt, np.zeros(1))
    return bench.habits.arrival_s + np.maximum(waited, alone)


def flood(bench: Bench) -> Cycle:
    """Everything is queued: the batch is as large as slots, queue and prompt supply allow, prompts share passes."""
    work, rates, load, habits = bench.work, bench.rates, bench.load, bench.habits
    queued = np.where(load.requests > 0, load.requests, np.inf)
    supply = np.where(load.chunked > 0, rates.chunk * (load.output + 1) / load.prompt, np.inf)
    batch = np.maximum(np.minimum(np.minimum(slots(bench), queued), supply), 1.0)
    step = decode_step_s(work, rates, batch, load.prompt + load.output / 2)
    prompt = load.prompt * prompt_token_s(work, rates, load.prompt / 2)
    prompt = prompt + load.prompt / rates.chunk * host_s(work, rates, np.zeros(1)) + habits.request_s
    return Cycle(habits.steady_share * q.rate_at_batch(batch, load.output, step, prompt), step, prompt, batch)


def flood_rate(bench: Bench) -> Array:
    """Requests/s of the whole deployment over the run."""
    load, cycle = bench.load, flood(bench)
    thin = decode_step_s(bench.work, bench.rates, np.ones(1), load.prompt + load.output / 2)
    drain = load.varied * bench.habits.drain * load.output * thin
    queued = np.where(load.requests > 0, load.requests, 1.0)
    run = q.flood_s(queued, cycle.rate, np.where(load.requests > 0, drain, 0.0))
    return load.replicas * queued / run


def flood_tpot(bench: Bench) -> Array:
    """A prompt comes whenever a seat gets free, so they are spread evenly over the answers."""
    load, cycle = bench.load, flood(bench)
    output = load.output / np.where(load.mean_of_requests > 0, bench.habits.brevity, 1.0)
    tpot = q.closed_tpot_s(cycle.step, cycle.batch - 1, cycle.prompt, output, np.zeros(1))
    return np.where(load.chunked > 0, q.tpot_capped_s(tpot, cycle.step, chunk_s(bench)), tpot)


def flood_ttft(bench: Bench) -> Array:
    cycle = flood(bench)
    requests = np.maximum(bench.load.requests, cycle.batch)
    return bench.habits.arrival_s + q.flood_ttft_s(requests, cycle.batch, cycle.rate, cycle.prompt)


def chunk_s(bench: Bench) -> Array:
    """A full chunk of prompt tokens."""
    return bench.rates.chunk * prompt_token_s(bench.work, bench.rates, bench.load.prompt / 2)


ONE_AT_A_TIME: dict[str, Callable[[Bench], Array]] = {"decode_tok_s": decode_rate, "prefill_tok_s": prefill_rate}
CLOSED: dict[str, Callable[[Bench], Array]] = {
    "ttft_ms": lambda bench: 1e3 * closed_ttft(bench, closed(bench)),
    "tpot_ms": lambda bench: 1e3 * closed_tpot(bench, closed(bench)),
    "output_tok_s": lambda bench: bench.load.replicas * closed(bench).rate * bench.load.output,
    "total_tok_s": lambda bench: bench.load.replicas * closed(bench).rate * (bench.load.prompt + bench.load.output),
}
SATURATED: dict[str, Callable[[Bench], Array]] = {
    "ttft_ms": lambda bench: 1e3 * flood_ttft(bench),
    "tpot_ms": lambda bench: 1e3 * flood_tpot(bench),
    "output_tok_s": lambda bench: flood_rate(bench) * bench.load.output,
    "total_tok_s": lambda bench: flood_rate(bench) * (bench.load.prompt + bench.load.output),
}
SERVER: dict[str, Callable[[Bench], Array]] = {
    "output_tok_s": lambda bench: bench.habits.slo_share * SATURATED["output_tok_s"](bench),
}
SERVED = {"batch1": CLOSED, "closed": CLOSED, "saturated": SATURATED, "server_slo": SERVER}
