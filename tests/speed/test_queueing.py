"""Laws of queues: Little, ordered percentiles, waits that grow with load."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import queueing as q
from planner import waiting
from planner.trace import Num

seconds = st.floats(1e-4, 10)
counts = st.floats(1, 1000)
Z = (0.0, 1.2815515655, 1.6448536270, 2.3263478740)


@given(seconds, st.floats(1e-9, 100))
def test_percentiles_are_ordered_and_positive(mean: float, variance: float) -> None:
    found = [q.percentile(mean, variance, z) for z in Z]
    assert found == sorted(found)
    assert found[0] > 0


@given(seconds, st.floats(0.01, 2))
def test_the_median_of_a_lognormal_lies_below_its_mean(mean: float, cv: float) -> None:
    assert q.percentile(mean, (cv * mean) ** 2, 0.0) == pytest.approx(mean / np.sqrt(1 + cv**2))


@given(counts, counts, seconds, seconds, st.floats(0, 1))
def test_a_closed_loop_obeys_littles_law(
    users: float, output: float, step: float, prompt: float, bunching: float
) -> None:
    rate = q.rate_at_batch(users, output, step, prompt)
    tpot = q.closed_tpot_s(step, users - 1, prompt, output, bunching)
    ttft = q.closed_ttft_s(users, rate, output, tpot)
    assert rate * (ttft + output * tpot) == pytest.approx(users)
    assert ttft >= prompt * (1 - 1e-6)


@given(counts, seconds, seconds)
def test_rate_and_time_per_token_are_one_statement(batch: float, step: float, prompt: float) -> None:
    output = 200.0
    rate = q.rate_at_batch(batch, output, step, prompt)
    share = rate * prompt
    assert 0 < share < 1
    assert batch == pytest.approx(rate * output * waiting.mean_step_s(step, share))


@given(st.floats(1, 500), st.floats(0.05, 0.9), st.floats(0.01, 0.09), seconds, st.floats(0.1, 4))
def test_waiting_for_a_slot_grows_with_load(slots: float, busy: float, more: float, service: float, var: float) -> None:
    slow = q.slot_wait_s(slots * busy, slots, service, var)
    assert 0 <= slow <= q.slot_wait_s(slots * (busy + more), slots, service, var)


def test_one_slot_waits_like_a_single_server() -> None:
    """M/M/1 at 80 % load: the wait is 4 service times."""
    assert q.slot_wait_s(0.8, 1.0, 2.0, 1.0) == pytest.approx(8.0)


@given(st.floats(1, 5000), counts, st.floats(0.01, 100), seconds)
def test_a_flood_waits_at_least_for_its_own_prompt(requests: float, batch: float, rate: float, prompt: float) -> None:
    assert q.flood_ttft_s(requests, batch, rate, prompt) >= prompt * (1 - 1e-9)


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e3))
def test_replicas_carry_the_peak(peak: float, rate: float) -> None:
    found = q.replicas(peak, rate)
    assert found >= 1
    assert found == int(found)
    assert found * rate >= peak * (1 - 1e-9)


@given(st.floats(0.1, 100), st.floats(0.01, 10), counts)
def test_float_array_and_traced_agree(mean: float, variance: float, batch: float) -> None:
    second = {"s": 1}
    traced = q.percentile(Num(mean, second), Num(variance, {"s": 2}), Num(1.6))
    assert traced.value == pytest.approx(q.percentile(mean, variance, 1.6))
    assert traced.unit == second
    assert q.percentile(np.array([mean]), np.array([variance]), np.array([1.6]))[0] == pytest.approx(traced.value)
    wait = q.slot_wait_s(Num(batch), Num(batch * 2), Num(mean, second), Num(1.0))
    assert wait.value == pytest.approx(q.slot_wait_s(batch, batch * 2, mean, 1.0))
    flood = q.flood_ttft_s(Num(batch * 3), Num(batch), Num(mean, {"s": -1}), Num(variance, second))
    assert flood.value == pytest.approx(q.flood_ttft_s(batch * 3, batch, mean, variance))
