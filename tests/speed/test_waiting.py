"""Laws of a replica that batches continuously, in formulas: what waits must do whatever the numbers."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from statistics import NormalDist
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planner import waiting
from planner.request import Spread
from planner.simulation.requests import lognormal, uniforms
from planner.trace import Num
from planner.waiting import Crowd, Traffic
from tests.plan.test_formulas import numbers

SECOND = {"s": 1}
NAMES = [each.name for kind in (Crowd, Traffic) for each in fields(kind)]
UNITS = {"rate": {"s": -1}, **{name: SECOND for name in NAMES if name.endswith("_s")}}
times = st.floats(1e-3, 1.0)
crowds = st.builds(
    Crowd,
    rate=st.floats(0.01, 50), batch=st.floats(0.01, 500), step_s=times, slope_s=st.floats(0, 1e-3), token_s=times,
    joining_s=times, alone_s=times, trail_s=st.floats(0, 1), traffic=st.builds(
        Traffic, arithmetic_s=times, fill=st.floats(0.01, 3), prompt_cv2=st.floats(0, 3),
        output_cv2=st.floats(0, 3), gap_cv2=st.floats(0.5, 2), output=st.floats(1, 2000),
    ),
)  # fmt: skip


def waits(crowd: Crowd[Any], found: Any) -> list[Any]:
    beat = waiting.beat(crowd)
    first, token = waiting.first_token(crowd, beat, found), waiting.per_token(crowd, beat, found)
    return [first.mean, first.variance, token.mean, token.variance]


def with_gaps(crowd: Crowd[float], gap_cv2: float) -> Crowd[float]:
    return replace(crowd, traffic=replace(crowd.traffic, gap_cv2=gap_cv2))


@given(crowds, st.floats(0.5, 2))
def test_float_array_and_traced_agree_and_keep_their_units(crowd: Crowd[float], found: float) -> None:
    assume(crowd.rate * crowd.joining_s < 0.95)
    traced = numbers(crowd, lambda value, name: Num(value, UNITS.get(name, {}), name=name))
    arrays = numbers(crowd, lambda value, _: np.array([value]))
    plain, many = waits(crowd, found), waits(arrays, np.array([found]))
    shown = cast(list[Num], waits(traced, Num(found)))
    assert [num.value for num in shown] == pytest.approx(plain)
    assert [float(array[0]) for array in many] == pytest.approx(plain)
    assert [dict(num.unit) for num in shown] == [SECOND, {"s": 2}, SECOND, {"s": 2}]


@given(crowds, st.floats(1.01, 3))
def test_more_requests_wait_longer_and_so_do_longer_prompts(crowd: Crowd[float], more: float) -> None:
    longer = replace(crowd, joining_s=crowd.joining_s * more, alone_s=crowd.alone_s * more)
    faster = replace(crowd, rate=crowd.rate * more)
    poisson = [with_gaps(each, 1.0) for each in (crowd, longer, faster)]
    assume(all(each.rate * each.joining_s < 0.95 for each in poisson))
    few, long, many = (waits(each, 1.0) for each in poisson)
    assert long[0] >= few[0] * (1 - 1e-9)
    assert many[0] >= few[0] * (1 - 1e-9)


@given(crowds)
def test_nobody_waits_less_than_for_a_step_and_the_own_prompt(crowd: Crowd[float]) -> None:
    assume(crowd.rate * crowd.joining_s < 0.95)
    first, _, token, _ = waits(crowd, 1.0)
    assert first >= crowd.step_s + crowd.alone_s
    assert token >= crowd.token_s


@given(crowds)
def test_clumps_of_arrivals_make_queues(crowd: Crowd[float]) -> None:
    assume(crowd.rate * crowd.joining_s < 0.95)
    even, clumped = (waits(with_gaps(crowd, cv2), 1.0)[0] for cv2 in (1.0, 2.0))
    assert clumped >= even


@given(st.floats(0.05, 3.0))
def test_who_is_still_there_follows_the_spread_of_stays(cv2: float) -> None:
    """E[min(S, S')] / E[S] of two log-normal stays is 2 (1 - Phi(sigma / sqrt 2)): one less Gini's coefficient."""
    exact = 2 * (1 - NormalDist().cdf(math.sqrt(math.log1p(cv2) / 2)))
    found = waiting.company(0.5, cv2) - 1
    assert found == pytest.approx(exact, rel=0.04)


def test_an_empty_replica_makes_nobody_wait() -> None:
    """One request an hour: its own prompt, in a step of its own, and a sixth of a step for what moments do not see."""
    idle: Crowd[float] = Crowd(
        rate=1 / 3600, batch=1e-3, step_s=0.02, slope_s=0.0, token_s=0.02, joining_s=0.1, alone_s=0.1, trail_s=0.0,
        traffic=Traffic(
            arithmetic_s=0.1, fill=0.1, prompt_cv2=0.0, output_cv2=0.0, gap_cv2=1.0, output=100.0,
        ),
    )  # fmt: skip
    first, _, token, _ = waits(idle, 1.0)
    assert first == pytest.approx(0.02 + 0.1 + 0.02 / 6, rel=1e-3)
    assert token == pytest.approx(0.02, rel=1e-3)


@given(st.floats(100, 4000), st.floats(1.05, 3.5), st.floats(0, 0.9))
def test_prompts_beyond_a_common_prefix_have_the_moments_of_drawn_ones(mean: float, p95: float, part: float) -> None:
    spread, prefix = Spread(mean=mean, p95=mean * p95), mean * part
    lengths = np.asarray(lognormal(uniforms(40_000, 1, 1), mean, spread.sigma), dtype=float)
    beyond = np.maximum(lengths - prefix, 1.0)
    first, cv2 = spread.beyond(prefix)
    assert first == pytest.approx(beyond.mean(), rel=0.02, abs=1)
    assert cv2 == pytest.approx(beyond.var() / beyond.mean() ** 2, rel=0.06, abs=0.02)
