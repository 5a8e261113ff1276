"""Laws of the event simulation: it equals a scheduler that goes step by step, and keeps what queues must keep."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import BadInput
from planner.simulation.requests import Draw, Requests, draw, gamma, lognormal, uniforms
from planner.simulation.requests import given as recorded
from planner.simulation.scheduler import Limits, Run, run
from planner.simulation.ticks import ticks
from planner.speed import Rates, Work, decode_step_s, mixed_step_s, prefill_s
from tests.speed.deployments import A100, EIGHT_B, rates, works
from tests.speed.stepwise import stepwise

seeds = st.integers(0, 2**32)
SEATS, BUDGET = 16, 512
FIRST_PROMPTS = [496, 295, 1544, 207, 313]


def small(count: int, seed: int, rate: float = 4.0) -> Requests:
    """Requests of short, spread lengths."""
    load = Draw(rate=rate, burstiness=0.5, prompt=30, prompt_sigma=1.0, output=30, output_sigma=1.0, context=120)
    return draw(load, count, seed)


def chat(count: int, seed: int, rate: float = 4.0) -> Requests:
    """1000 tokens in, 250 out on average."""
    load = Draw(rate=rate, burstiness=1.0, prompt=1000, prompt_sigma=0.8, output=250, output_sigma=0.8, context=16384)
    return draw(load, count, seed)


def same(length: int, output: int, arrival: list[float]) -> Requests:
    lengths = np.full(len(arrival), length), np.full(len(arrival), output)
    return recorded(np.array(arrival), *lengths)


limits = st.builds(
    Limits,
    seats=st.integers(1, 8), budget=st.sampled_from([8, 32, 100]), blocks=st.sampled_from([None, 40, 60, 100]),
    block_tokens=st.sampled_from([4, 8, 16]), kept_blocks=st.integers(0, 3), prefix=st.sampled_from([0, 5, 20]),
)  # fmt: skip


@given(works, rates, limits, st.integers(1, 40), seeds, st.floats(0.05, 1e3))
@settings(max_examples=150, deadline=None)
def test_jumps_equal_single_steps(
    work: Work[float], able: Rates[float], limit: Limits, count: int, seed: int, speedup: float
) -> None:
    work, asked = replace(work, pipeline=1.0), small(count, seed, speedup)
    made = run(ticks(work, able, (limit.seats, limit.budget), 1e-4), limit, asked)
    truth = stepwise(work, able, limit, asked, 1e-4)
    for name in ("admitted", "first", "finish"):
        expected = [getattr(one, name) for one in truth.waiting]
        np.testing.assert_allclose(getattr(made, name), expected, rtol=1e-9, atol=1e-12)
    assert made.preempted.tolist() == [one.preempted for one in truth.waiting]
    assert (made.steps, made.most_running) == (truth.steps, truth.most_running)
    assert made.most_blocks == truth.most_used


def test_the_cases_above_preempt() -> None:
    limit = Limits(seats=8, budget=32, blocks=40, block_tokens=4)
    runs = [run(ticks(EIGHT_B, A100, (8, 32)), limit, small(40, seed, 1000.0)) for seed in range(10)]
    assert sum(int(made.preempted.sum()) for made in runs) > 20


@given(works, rates, st.integers(1, 2000), st.integers(1, 100_000))
def test_without_prompts_a_step_decodes(work: Work[float], able: Rates[float], batch: int, context: int) -> None:
    alone = mixed_step_s(work, able, (float(batch), float(context)), (0.0, 0.0))
    assert alone == pytest.approx(decode_step_s(work, able, float(batch), float(context)), rel=1e-12)


@given(works, rates, st.integers(1, 2048))
def test_one_prompt_alone_takes_its_prefill(work: Work[float], able: Rates[float], prompt: int) -> None:
    """On one device: equal where arithmetic binds, never less, and apart by messages and unpacking elsewhere."""
    work, able = replace(work, pipeline=1.0), replace(able, chunk=2048.0)
    alone = mixed_step_s(work, able, (0.0, 0.0), (float(prompt), prompt / 2))
    whole = prefill_s(work, able, float(prompt), 0.0)
    sent = work.exchange_bytes_per_token * prompt / (able.link_bandwidth * able.link_efficiency)
    unpacked = work.flops_per_token / 2 * able.unpack_flops / able.scalar_peak
    assert whole * (1 - 1e-9) <= alone <= (whole + sent + unpacked) * (1 + 1e-9)
    if unpacked == 0 and prompt * work.flops_per_token / able.matrix_peak > work.dense_bytes / able.bandwidth * 1e3:
        assert alone == pytest.approx(whole)


@given(st.sampled_from([1.0, 2.0, 4.0]), st.integers(600, 8192))
def test_a_lone_request_waits_for_its_prefill(stages: float, prompt: int) -> None:
    """Through the stages of a pipeline too: the chunk leaves the last stage after the next step has begun."""
    work = replace(EIGHT_B, pipeline=stages, flops_per_token=15e9 / stages, dense_bytes=15e9 / stages)
    made = run(ticks(work, A100, (8, 8192)), Limits(seats=8, budget=8192), same(prompt, 3, [0.0]))
    assert made.ttft[0] == pytest.approx(prefill_s(work, A100, float(prompt), 0.0), rel=1e-9)


@given(works, rates, st.integers(0, SEATS), st.integers(0, 10**6), st.integers(0, BUDGET - SEATS))
def test_tables_say_what_the_law_says(
    work: Work[float], able: Rates[float], batch: int, context: int, new: int
) -> None:
    tables = ticks(work, able, (SEATS, BUDGET))
    context *= batch > 0
    law = mixed_step_s(work, able, (float(batch), context / max(batch, 1)), (float(new), 7.0))
    assert tables.mixed_s(batch, context, new, new * 7.0) == pytest.approx(law, rel=1e-9)


@given(works, rates, st.integers(1, SEATS), st.integers(0, 10**6), st.integers(1, 50))
def test_many_steps_are_the_sum_of_single_ones(
    work: Work[float], able: Rates[float], batch: int, context: int, steps: int
) -> None:
    tables = ticks(work, able, (SEATS, BUDGET))
    single = [tables.mixed_s(batch, context + batch * step, 0, 0.0) for step in range(steps)]
    assert tables.decode_s(batch, context, steps) == pytest.approx(math.fsum(single), rel=1e-9)
    inside = math.fsum(single[:-1]) + single[-1] / 2
    assert tables.steps_until(batch, context, inside) == steps


def served(requests: Requests, limit: Limits, users: int | None = None) -> Run:
    return run(ticks(EIGHT_B, A100, (limit.seats, limit.budget)), limit, requests, users)


@given(limits, st.integers(1, 60), seeds, st.floats(1, 1e3))
@settings(deadline=None)
def test_every_request_is_answered_once_and_in_its_time(limit: Limits, count: int, seed: int, rate: float) -> None:
    made = served(small(count, seed, rate), limit)
    assert len(made.finish) == count
    assert (made.arrival <= made.admitted).all()
    assert (made.admitted < made.first).all()
    assert (made.first <= made.finish).all()
    assert ((made.finish == made.first) == (made.output == 1)).all()
    assert made.most_running <= limit.seats
    assert made.most_blocks <= (limit.blocks or 0)
    assert 0 < made.busy_s <= made.end_s * (1 + 1e-9)


@given(limits, seeds, st.floats(1, 1e3))
@settings(deadline=None)
def test_who_comes_first_is_served_first(limit: Limits, seed: int, rate: float) -> None:
    made = served(small(40, seed, rate), replace(limit, blocks=None))
    assert made.preempted.sum() == 0
    assert (np.diff(made.admitted) >= 0).all()
    assert (np.diff(made.first) >= 0).all()


@given(seeds, st.sampled_from([None, 60]))
@settings(deadline=None)
def test_littles_law_holds(seed: int, blocks: int | None) -> None:
    """Sequences x time that ran is the time that requests were running, where none had to leave."""
    made = served(small(60, seed, 200.0), Limits(seats=8, budget=64, blocks=blocks, block_tokens=4))
    inside = float((made.finish - made.admitted).sum())
    if made.preempted.sum() == 0:
        assert made.running_s == pytest.approx(inside, rel=1e-9)
    else:
        assert made.running_s < inside


@given(seeds, st.floats(0.5, 6), st.floats(1.3, 3))
@settings(max_examples=30, deadline=None)
def test_more_load_never_shortens_the_wait(seed: int, rate: float, more: float) -> None:
    limit = Limits(seats=64, budget=2048, blocks=6000)
    calm, busy = (served(chat(400, seed, each), limit) for each in (rate, rate * more))
    assert (calm.prompt == busy.prompt).all()
    assert calm.ttft.mean() <= busy.ttft.mean()


@given(seeds, st.integers(1, 30))
@settings(deadline=None)
def test_a_closed_loop_has_as_many_requests_as_users(seed: int, users: int) -> None:
    made = served(small(100, seed), Limits(seats=8, budget=64, blocks=100, block_tokens=4), users)
    edges = [(time, 1) for time in made.arrival] + [(time, -1) for time in made.finish]
    inside = np.cumsum([change for _, change in sorted(edges, key=lambda edge: (edge[0], edge[1]))])
    assert inside.max() == min(users, 100)
    assert made.e2e.sum() <= users * made.end_s * (1 + 1e-9)


def test_a_single_server_waits_as_pollaczek_and_khinchine_say() -> None:
    """One seat, equal prompts, one token of answer: M/D/1. A request that arrives in a step waits for its end."""
    service = float(served(same(2000, 1, [0.0]), Limits(seats=1, budget=8192)).ttft[0])
    for load in (0.3, 0.6, 0.8):
        arrival = np.cumsum(gamma(uniforms(40_000, 5, 0), 1.0)) * service / load
        made = served(same(2000, 1, arrival.tolist()), Limits(seats=1, budget=8192))
        assert made.wait.mean() == pytest.approx(load / (1 - load) * service / 2, rel=0.05)


def test_a_prefix_in_the_cache_is_not_computed_again() -> None:
    """1,000 of 1,600 tokens are shared: 62 whole blocks of 16 are there."""
    whole = served(same(1600, 5, [0.0]), Limits(seats=4, budget=8192, blocks=200))
    shared = served(same(1600, 5, [0.0]), Limits(seats=4, budget=8192, blocks=200, prefix=1000))
    assert (whole.most_blocks, shared.most_blocks) == (101, 101 - 62)
    assert shared.ttft[0] < 0.5 * whole.ttft[0]


def test_prompts_that_are_not_chunked_wait_for_a_whole_budget() -> None:
    requests = same(100, 4, [0.0, 0.0])
    chunked, whole = (served(requests, Limits(seats=2, budget=128, chunked=each)) for each in (True, False))
    assert chunked.admitted.tolist() == [0.0, 0.0]
    assert whole.admitted[1] == whole.first[0]


@pytest.mark.parametrize("shape", [0.1, 0.5, 1.0, 2.0, 7.3, 60.0])
def test_gaps_are_gamma_distributed(shape: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    uniform = np.linspace(0.0005, 0.9995, 2000)
    np.testing.assert_allclose(gamma(uniform, shape), stats.gamma.ppf(uniform, shape) / shape, rtol=1e-4)


def test_lengths_have_the_mean_and_the_tail_that_were_asked_for() -> None:
    lengths = lognormal(uniforms(50_000, 3, 1), 1000.0, 0.8)
    assert lengths.mean() == pytest.approx(1000, rel=5e-3)
    assert np.quantile(lengths, 0.95) == pytest.approx(1000 * math.exp(0.8 * 1.6448536 - 0.32), rel=1e-2)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """The first numbers are written down: another NumPy must draw them too."""
    one, two = (served(chat(200, 7), Limits(seats=64, budget=2048, blocks=2000)) for _ in range(2))
    assert one.finish.tobytes() == two.finish.tobytes()
    assert chat(200, 8).prompt.tolist() != one.prompt.tolist()
    assert chat(200, 7).prompt[:5].tolist() == FIRST_PROMPTS


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limits(seats=16, budget=8), "one token of budget per seat"),
        (Limits(seats=0, budget=8), "one token of budget per seat"),
        (Limits(seats=1, budget=64, blocks=5), "room for the longest request"),
        (Limits(seats=1, budget=64, chunked=False), "prompts are not chunked"),
    ],
)
def test_what_can_never_be_served_is_refused(limit: Limits, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        served(same(100, 10, [0.0]), limit)


def test_a_recorded_request_without_tokens_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 1 token"):
        recorded(np.array([0.0, 1.0]), np.array([5, 0]), np.array([5, 5]))
