"""Bounds hold as often as they say on windows of tokens that depend on each other; the samples they ask for resolve."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist, median
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from planner.proving import bounds
from planner.proving.bounds import Measured, Numbers

NORMAL = NormalDist()
TOKENS, RUNS = 128, 400
BETWEEN, WITHIN, MIDDLE = 0.4, 1.2, -3.0
"""Spreads of the logarithm of a token's divergence between windows and within one, and its mean."""
WHOLE = math.hypot(BETWEEN, WITHIN)
MEAN = math.exp(MIDDLE + WHOLE**2 / 2)


def divergences(chance: np.random.Generator, windows: int, scale: float = 1.0) -> Numbers:
    own = chance.normal(0, BETWEEN, (windows, 1))
    return np.asarray(scale * np.exp(MIDDLE + own + chance.normal(0, WITHIN, (windows, TOKENS))))


def changes(chance: np.random.Generator, windows: int) -> Numbers:
    drawn = chance.normal(0, 0.02, (windows, TOKENS)) * np.exp(chance.normal(0, 0.2, (windows, 1)))
    return np.asarray(np.where(drawn < 0, 1.5 * drawn, drawn))


CASES: dict[str, tuple[Callable[[np.random.Generator, int], Measured], float, tuple[int, ...]]] = {
    "kld_mean": (lambda rng, count: bounds.positive_mean("kld_mean", "nat", divergences(rng, count)), MEAN, (8, 100)),
    "kld_p99": (
        lambda rng, count: bounds.percentile("kld_p99", "nat", divergences(rng, count)),
        math.exp(MIDDLE + WHOLE * NORMAL.inv_cdf(0.99)),
        (50, 100),
    ),
    "top1_agreement": (
        lambda rng, count: bounds.share("top1_agreement", divergences(rng, count) < 0.2),
        100 * NormalDist(MIDDLE, WHOLE).cdf(math.log(0.2)),
        (8, 100),
    ),
    "ppl_ratio": (
        lambda rng, count: bounds.log_ratio(
            "ppl_ratio", rng.normal(0.01, 0.05, (count, 1)) + rng.normal(0, 0.3, (count, TOKENS))
        ),
        math.exp(0.01),
        (8, 100),
    ),
}


@pytest.mark.parametrize(("name", "count"), [(name, count) for name, case in CASES.items() for count in case[2]])
def test_each_bound_holds_in_nine_of_ten_runs_or_more_and_is_not_idle(name: str, count: int) -> None:
    make, truth, _ = CASES[name]
    chance = np.random.default_rng(1)
    found = [make(chance, count) for _ in range(RUNS)]
    above = sum(each.upper >= truth for each in found) / RUNS
    below = sum(each.lower <= truth for each in found) / RUNS
    assert 0.88 <= above <= 0.995
    assert 0.88 <= below <= 0.995


def test_tokens_taken_for_independent_would_be_too_sure() -> None:
    chance = np.random.default_rng(2)
    found = [bounds.positive_mean("kld_mean", "nat", divergences(chance, 20).reshape(-1, 1)) for _ in range(RUNS)]
    assert sum(each.upper >= MEAN for each in found) / RUNS < 0.75


def test_the_ratio_of_tails_holds() -> None:
    chance = np.random.default_rng(3)
    found = [bounds.asymmetry("dp_asymmetry", changes(chance, 60)) for _ in range(40)]
    assert sum(each.upper >= 1.5 for each in found) >= 34
    assert sum(each.lower <= 1.5 for each in found) >= 34


@pytest.mark.parametrize("items", [30, 200, 1240])
def test_paired_differences_hold_from_few_items_on(items: int) -> None:
    chance = np.random.default_rng(4)
    held = [0, 0]
    for _ in range(RUNS):
        base = (chance.random(items) < 0.6).astype(float)
        turned = chance.random(items) < 0.05
        found = bounds.paired_difference("paired_difference", base, np.where(turned, 1 - base, base))
        held[0] += found.lower <= -1.0
        held[1] += found.upper >= -1.0
    assert min(held) / RUNS >= 0.92


def test_students_t_and_mcnemar_are_scipys() -> None:
    for free in (3, 7, 49, 99, 999):
        assert bounds.student(free) == pytest.approx(scipy_stats.t.ppf(0.95, free), rel=1e-3)
    base, other = np.array([1.0] * 12 + [0.0] * 5 + [1.0] * 30), np.array([0.0] * 12 + [1.0] * 5 + [1.0] * 30)
    expected = scipy_stats.binomtest(12, 17, 0.5, alternative="greater").pvalue
    assert bounds.mcnemar(base, other) == pytest.approx(expected, rel=1e-9)
    assert bounds.mcnemar(base, base) == 1.0


def test_identical_models_differ_in_nothing() -> None:
    nothing = np.zeros((20, TOKENS))
    for found, value in (
        (bounds.log_ratio("ppl_ratio", nothing), 1.0),
        (bounds.positive_mean("kld_mean", "nat", nothing), 0.0),
        (bounds.percentile("kld_p99", "nat", nothing), 0.0),
        (bounds.asymmetry("dp_asymmetry", nothing), 1.0),
    ):
        assert (found.value, found.lower, found.upper) == (value, value, value)
    agreed = bounds.share("top1_agreement", nothing == 0)
    assert agreed.value == agreed.upper == 100
    assert 99.8 < agreed.lower < 100


def test_a_run_without_any_difference_still_has_a_width() -> None:
    few, many = (bounds.paired_difference("d", np.ones(count), np.ones(count)) for count in (5, 1240))
    assert few.value == many.value == 0
    assert few.lower < -20
    assert -0.2 < many.lower < 0


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_order_of_windows_does_not_matter_and_twice_the_windows_say_more(name: str) -> None:
    values = divergences(np.random.default_rng(5), 60)
    make: dict[str, Callable[[Any], Measured]] = {
        "kld_mean": lambda seen: bounds.positive_mean("kld_mean", "nat", seen),
        "kld_p99": lambda seen: bounds.percentile("kld_p99", "nat", seen),
        "top1_agreement": lambda seen: bounds.share("top1_agreement", seen < 0.2),
        "ppl_ratio": lambda seen: bounds.log_ratio("ppl_ratio", seen - MEAN),
    }
    one, other = make[name](values), make[name](values[::-1])
    for field in ("value", "lower", "upper"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-12)
    twice = make[name](np.concatenate([values, values]))
    assert twice.upper - twice.lower < one.upper - one.lower


def test_the_order_of_windows_moves_resampled_bounds_by_less_than_their_width() -> None:
    values = changes(np.random.default_rng(6), 60)
    one, other = (bounds.asymmetry("dp_asymmetry", each) for each in (values, values[::-1]))
    assert one == bounds.asymmetry("dp_asymmetry", values).swapped(needs=one.needs)
    assert one.value == other.value
    assert other.upper == pytest.approx(one.upper, rel=0.02)


@pytest.mark.parametrize(
    ("name", "limit"), [("kld_mean", MEAN * 1.2), ("kld_mean", MEAN * 0.8), ("top1_agreement", 85.0)]
)
def test_further_samples_resolve_four_times_of_five(name: str, limit: float) -> None:
    """Pilots of 40 windows ask for so many; runs of the typical answer clear the limit about as often as promised."""
    make = CASES[name][0]
    chance = np.random.default_rng(7)
    asked = median(needed for _ in range(60) if (needed := make(chance, 40).needs(limit)) is not None)
    found = [make(chance, int(asked)) for _ in range(RUNS)]
    resolved = sum(each.upper <= limit or each.lower > limit for each in found) / RUNS
    assert 0.65 <= resolved <= 0.95


def test_a_difference_of_none_asks_for_what_a_plan_would_have_asked_for() -> None:
    """The judge's sizes and those of planner/power.py are the same law."""
    from planner import power

    base = np.tile([1.0, 0.0, 1.0, 0.0, 1.0], 200)
    other = base.copy()
    other[:40], other[500:540] = 1 - base[:40], 1 - base[500:540]
    found = bounds.paired_difference("paired_difference", base, other)
    needed = found.needs(100 * (found.value / 100 - 0.02))
    assert needed == pytest.approx(power.paired(0.08, 0.02), rel=0.05)
