"""What one replica gives while a number of sequences run on it: memory, rate, and the latencies at that load.

The one place where memory, speed and queueing meet. The same lines serve the array pass over all candidates, the
numbers that are shown, and their derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic

from planner import queueing, speculation, speed, waiting
from planner.ranks import each
from planner.rooms import (
    Books,
    Demand,
    Terms,
    held_tokens,
)
from planner.speed import Decoding, Work
from planner.trace import N, present, smallest
from planner.work import (
    work,
)

Z = {"p50": 0.0, "p90": 1.2815515655446004, "p95": 1.6448536269514722, "p99": 2.3263478740408408}
"""Standard normal quantiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace(Generic[N]):
    """Seconds and rates of one replica at a running batch."""

    step_s: N
    """Between two tokens of a sequence, prompts aside."""
    prompt_s: N
    """Device time that one request's prompt takes from everyone."""
    rate: N
    """Requests/s when this many sequences run."""
    decoding: Decoding[N]
    """What steps with prompts and without have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Generic[N]):
    """Mean and variance of the three latencies; s, s²."""

    received_s: N
    """Part of every time to a first token: from the socket to the scheduler."""
    ttft_s: N
    ttft_variance: N
    tpot_s: N
    tpot_variance: N
    output: N
    """Tokens of an answer, and how they vary."""
    output_cv2: N

    @property
    def e2e_s(self) -> N:
        """Until the last token."""
        return queueing.e2e_s(self.ttft_s, self.output, self.tpot_s)

    @property
    def e2e_variance(self) -> N:
        """Of the same."""
        return queueing.e2e_variance(self.ttft_variance, self.output, self.tpot_s, self.output_cv2)


def device_work(terms: Terms[N], books: Books) -> Work[N]:
    """What a device does per step at the mean running context; llama.cpp hands tokens from device to device."""
    done = work(terms.weights, terms.shape, terms.layout, terms.cell_bytes, held_tokens(terms.demand))
    return done if books == "vllm" else replace(done, exchanges=terms.layout.pipeline - 1)


def token_times(terms: Terms[N], done: Work[N]) -> Callable[[N, Decoding[N]], N]:
    """Seconds between two tokens of a sequence, prompts aside, as a function of the running sequences."""
    held, rates = held_tokens(terms.demand), terms.rates
    if not present(terms.drafter.tokens):
        return lambda batch, own: speed.decode_step_s(done, rates, batch, held, own)
    drafts = speculation.on_device(terms.drafter, terms.layout, terms.cell_bytes)
    return lambda batch, _: speculation.drafted_token_s(done, rates, drafts, batch, held)


def _drafter_reads_s(terms: Terms[N], tokens: N) -> N:
    """The drafter's own pass over `tokens` of a prompt."""
    drafts = speculation.on_device(terms.drafter, terms.layout, terms.cell_bytes)
    return speculation.draft_multiply_s(drafts, terms.rates, tokens)


def budgeted(terms: Terms[N], batch: N) -> N:
    """Part of the steps' token budget that running sequences and the prompts of those who follow them take; above 1
    prompts wait ever longer."""
    seated = each(terms.layout.data, batch)
    return waiting.budget_share(seated, terms.demand.fresh / terms.demand.output, step_tokens(terms))


def step_tokens(terms: Terms[N]) -> N:
    """Tokens of one step, of one rank: each of the batches that a pipeline has under way has a budget of its own."""
    return terms.rates.chunk * terms.layout.pipeline


def pace(terms: Terms[N], batch: N, books: Books) -> Pace[N]:
    """How fast tokens and prompts go with `batch` sequences running."""
    return pacing(terms, books)(batch)


def pacing(terms: Terms[N], books: Books) -> Callable[[N], Pace[N]]:
    """The pace as a function of the running sequences; what does not depend on them is computed once."""
    demand, done = terms.demand, device_work(terms, books)
    token_s, joining_s = token_times(terms, done), prompt_times(terms, done)
    budget, behind = step_tokens(terms), looked_back(demand)

    def at(batch: N) -> Pace[N]:
        seen = batch + demand.company
        begun, own = waiting.prompts_in_a_step(batch, demand.output), speed.decoding(done, terms.rates, seen)
        prompts, most = waiting.taken_in(demand.fresh, begun, budget, terms.layout.data)
        attention = speed.prompt_attention_s(done, terms.rates, most, behind)
        longer = speed.lengthening_s(done, terms.rates, own, (prompts, most), attention)
        step, joining = token_s(seen, own), joining_s(prompts, longer, most)
        rate = queueing.rate_at_batch(batch, demand.output, step, joining)
        return Pace(step_s=step, prompt_s=joining, rate=rate, decoding=own)

    return at


def prompt_times(terms: Terms[N], done: Work[N]) -> Callable[[N, N, N], N]:
    """Seconds that a prompt takes from everyone, as a function of the prompt tokens in a step that takes it in, of what
    these lengthen one stage by, and of those that the fullest rank has of them."""
    fresh, own = terms.demand.fresh, terms.request_s
    if present(terms.drafter.passes):
        own = own + _drafter_reads_s(terms, fresh)
    return lambda tokens, longer, most: fresh / tokens * speed.joining_s(done, terms.rates, tokens, longer, most) + own


def looked_back(demand: Demand[N]) -> N:
    """Tokens that a prompt token looks back on, averaged over all prompt tokens: most of them are in long prompts."""
    return demand.prefix + demand.fresh * (1 + demand.fresh_cv2) / 2


def latency(terms: Terms[N], running: tuple[N, N], at: Pace[N], books: Books) -> Latency[N]:
    """Latencies while sequences run and requests arrive at the pace's rate; `running` = how many, of how many slots."""
    return latencies(terms, books)(*running, at)


def latencies(terms: Terms[N], books: Books) -> Callable[[N, N, Pace[N]], Latency[N]]:
    """The latencies as a function of the running sequences, the slots and the pace; the rest is computed once."""
    demand, crowds = terms.demand, crowding(terms, books)
    spread = queueing.variability(demand.burstiness, demand.output_cv2)

    def of(batch: N, slots: N, at: Pace[N]) -> Latency[N]:
        crowd = crowds(batch, at)
        beat = waiting.beat(crowd)
        first = waiting.first_token(crowd, beat, demand.company)
        token = waiting.per_token(crowd, beat, demand.company)
        stay = first.mean + demand.output * token.mean
        ttft, ttft_variance = queueing.ttft_s(terms.arrival_s, first.mean), first.variance
        if present(demand.company):  # users in a closed loop have a slot each
            queued = queueing.slot_wait_s(batch, slots, stay, spread)
            ttft, ttft_variance = ttft + queued, queueing.ttft_variance(queued, ttft_variance)
        return Latency(
            received_s=terms.arrival_s,
            ttft_s=ttft,
            ttft_variance=ttft_variance,
            tpot_s=token.mean,
            tpot_variance=token.variance,
            output=demand.output,
            output_cv2=demand.output_cv2,
        )

    return of


def crowding(terms: Terms[N], books: Books) -> Callable[[N, Pace[N]], waiting.Crowd[N]]:
    """The replica's steady state as a function of the running sequences and their pace."""
    demand, rates, done = terms.demand, terms.rates, device_work(terms, books)
    times, joining_s, behind = token_times(terms, done), prompt_times(terms, done), looked_back(demand)
    one = smallest(demand.fresh, rates.chunk)
    attention = speed.prompt_attention_s(done, rates, one, behind)
    drafts, staged = present(terms.drafter.tokens), present(done.pipeline - 1)
    traffic = waiting.Traffic(
        arithmetic_s=demand.fresh * speed.prompt_token_s(done, rates, behind),
        fill=demand.fresh / step_tokens(terms),
        prompt_cv2=demand.fresh_cv2,
        output_cv2=demand.output_cv2,
        gap_cv2=1 / demand.burstiness,
        output=demand.output,
        ranks=terms.layout.data,
    )

    def of(batch: N, at: Pace[N]) -> waiting.Crowd[N]:
        seen, step = batch + demand.company, at.step_s
        longer = speed.lengthening_s(done, rates, at.decoding, (one, one), attention)
        if drafts:
            step = step * speculation.tokens_per_step(terms.drafter.tokens, terms.drafter.acceptance)
        return waiting.Crowd(
            rate=at.rate,
            batch=batch,
            step_s=step,
            slope_s=times(seen + 1, speed.decoding(done, rates, seen + 1)) - at.step_s,
            token_s=at.step_s,
            joining_s=at.prompt_s,
            alone_s=joining_s(one, longer, one),
            trail_s=speed.trail_s(done, longer) if staged else at.step_s * 0,
            traffic=traffic,
        )

    return of


def closed_rate(users: N, at: Pace[N], arrival_s: N) -> N:
    """Requests/s of users who ask again at once: on its way to the scheduler a request does not run."""
    return users / (users / at.rate + arrival_s)


def percentile(of: Latency[N], name: str, z: N) -> N:
    """`name` is ttft, tpot or e2e; `z` the normal quantile. Seconds."""
    if name == "ttft":
        return of.received_s + queueing.percentile(of.ttft_s - of.received_s, of.ttft_variance, z)
    mean, variance = {
        "tpot": (of.tpot_s, of.tpot_variance),
        "e2e": (of.e2e_s, of.e2e_variance),
    }[name]
    return queueing.percentile(mean, variance, z)
