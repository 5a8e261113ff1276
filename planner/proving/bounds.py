"""Statistics of a quantized model against its baseline, with one-sided 95 % bounds to both sides.

Windows and items are independent of each other, the tokens of one window are not: every spread is one between windows.
Means take Student's t over windows (logarithms where a statistic is a ratio or cannot be negative: its distribution is
skewed). Shares take Wilson's interval at the number of independent tokens that the windows' spread speaks for;
percentiles invert the bounds of a share (Woodruff); the ratio of two percentiles is resampled by whole windows, from a
fixed seed. Differences of paired answers follow Agresti and Min, who add two pairs, so that a run without any
difference still has a width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from msgspec import Struct

from planner import power

Numbers = np.ndarray[Any, np.dtype[np.float64]]
LEAST, LEAST_OF_TAILS = 8, 50
"""Windows below which a spread between windows is not trusted, and for percentiles (assumed: from there on bounds hold
in about 90 % of simulated runs, tests/verify/test_bounds.py; at 100 windows in 92 to 96 %)."""
OF_TAILS = ("kld_p99", "dp_asymmetry")
RESAMPLES = 1000
SEED = 20_261
TAIL = 0.01
"""Share of tokens beyond a 1st or 99th percentile."""
SPREAD = power.Z95 + power.Z80
Needs = Callable[[float], int | None]


class Measured(Struct, frozen=True, kw_only=True):
    """A statistic with its bounds; `needs` = samples in all that would resolve a limit, None where none would."""

    statistic: str
    unit: str
    value: float
    lower: float
    upper: float
    samples: int
    samples_of: str
    needs: Needs

    def swapped(self, **changes: Any) -> Measured:
        """The same on another scale."""
        return Measured(**({name: getattr(self, name) for name in self.__struct_fields__} | changes))


def numbers(values: Iterable[float]) -> Numbers:
    """As an array."""
    return np.asarray(list(values), dtype=np.float64)


def least(statistic: str) -> int:
    """Windows that a statistic takes at least."""
    return LEAST_OF_TAILS if statistic in OF_TAILS else LEAST


def student(free: int) -> float:
    """The 95 % quantile of Student's t (Abramowitz and Stegun 26.7.5; within 0.1 % from 3 degrees of freedom on)."""
    z = power.Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / free**place for place, term in enumerate(terms, 1))


def _known(name: str, unit: str, value: float, samples: int) -> Measured:
    """A statistic without any spread: both bounds are the value."""
    return Measured(
        statistic=name, unit=unit, value=value, lower=value, upper=value, samples=samples, samples_of="windows",
        needs=lambda _: None,
    )  # fmt: skip


def log_ratio(name: str, differences: Numbers) -> Measured:
    """exp of a mean difference of log-probabilities [windows, tokens]: the ratio of perplexities."""
    means = differences.mean(axis=1)
    count, middle, error = len(means), float(means.mean()), _error(means)
    if error == 0:
        return _known(name, "1", math.exp(middle), count)
    reach = student(count - 1) * error
    return Measured(
        statistic=name, unit="1", value=math.exp(middle),
        lower=math.exp(middle - reach), upper=math.exp(middle + reach), samples=count, samples_of="windows",
        needs=lambda limit: _resolving(count, error, middle - math.log(limit)),
    )  # fmt: skip


def positive_mean(name: str, unit: str, values: Numbers) -> Measured:
    """The mean of values that cannot be negative [windows, tokens], on the scale of logarithms."""
    means = values.mean(axis=1)
    count, middle = len(means), float(means.mean())
    if middle <= 0:
        return _known(name, unit, 0.0, count)
    error = _error(means) / middle
    reach = math.exp(student(count - 1) * error)
    return Measured(
        statistic=name, unit=unit, value=middle, lower=middle / reach, upper=middle * reach,
        samples=count, samples_of="windows",
        needs=lambda limit: _resolving(count, error, math.log(middle / limit)) if limit > 0 else None,
    )  # fmt: skip


def share(name: str, holds: Numbers) -> Measured:
    """Percent of tokens [windows, tokens] for which something holds."""
    part = float(holds.mean())
    count, factor = len(holds), student(len(holds) - 1)
    single = independent(holds)
    lower, upper = wilson(part, single, factor)
    return Measured(
        statistic=name, unit="%", value=100 * part, lower=100 * lower, upper=100 * upper,
        samples=count, samples_of="windows",
        needs=lambda limit: _for_share(limit / 100, part, count / single),
    )  # fmt: skip


def percentile(name: str, unit: str, values: Numbers) -> Measured:
    """The 99th percentile of values [windows, tokens]: its bounds are where the bounds of the 99 % share lie."""
    place = float(np.quantile(values, 1 - TAIL))
    above, count = values > place, len(values)
    lower, upper = wilson(1 - TAIL, independent(above), student(count - 1))
    low, high = (float(np.quantile(values, level)) for level in (lower, upper))

    def needs(limit: float) -> int | None:
        beyond = values > limit
        return _for_share(TAIL, float(beyond.mean()), count / independent(beyond))

    return Measured(
        statistic=name, unit=unit, value=place, lower=low, upper=high, samples=count, samples_of="windows", needs=needs
    )  # fmt: skip


def asymmetry(name: str, changes: Numbers) -> Measured:
    """How much further the 1st percentile of changes of probability [windows, tokens] lies than the 99th.

    The spread of its logarithm is one over windows drawn anew, whole, RESAMPLES times. Without any change it is 1.
    """
    count = len(changes)
    order = np.argsort(changes, axis=None, kind="stable")
    ordered, window = changes.ravel()[order], order // changes.shape[1]
    value = _tails(ordered, np.ones(len(ordered)))
    if value is None:
        return _known(name, "1", 1.0, count)
    chance = np.random.default_rng(SEED)
    draws = chance.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    again = [_tails(ordered, draw[window].astype(np.float64)) for draw in draws]
    logs = np.log([each for each in again if each is not None and each > 0])
    error = float(logs.std(ddof=1)) if len(logs) > RESAMPLES // 2 and value > 0 else math.inf
    reach = math.exp(min(student(count - 1) * error, 700.0))
    return Measured(
        statistic=name, unit="1", value=value, lower=value / reach, upper=value * reach,
        samples=count, samples_of="windows",
        needs=lambda limit: _resolving(count, error, math.log(value / limit)) if value > 0 else None,
    )  # fmt: skip


def _tails(ordered: Numbers, weights: Numbers) -> float | None:
    """-(1st percentile) over the 99th of ordered values with weights; None where neither side changes."""
    reached = np.cumsum(weights)
    low, high = (
        float(ordered[np.searchsorted(reached, level * reached[-1], side="left")]) for level in (TAIL, 1 - TAIL)
    )
    if low >= 0 and high <= 0:
        return None
    return max(-low, 0.0) / high if high > 0 else math.inf


def paired_difference(name: str, base: Numbers, other: Numbers) -> Measured:
    """Points by which the candidate's mean score differs; scores from 0 to 1, one per item."""
    change = other - base
    count, wide = len(change), len(change) + 2
    middle = float(change.sum()) / wide
    error = math.sqrt(((float((change**2).sum()) + 1) / wide - middle**2) / wide)
    reach = power.Z95 * error
    return Measured(
        statistic=name, unit="points", value=100 * float(change.mean()),
        lower=100 * (middle - reach), upper=100 * (middle + reach), samples=count, samples_of="items",
        needs=lambda limit: _resolving(count, error, middle - limit / 100),
    )  # fmt: skip


def recovery(name: str, base: Numbers, other: Numbers) -> Measured:
    """The candidate's total score in percent of the baseline's, on the same items; nothing where that is 0."""
    count, whole = len(base), float(base.sum())
    ratio = float(other.sum()) / whole
    left = other - ratio * base
    error = math.sqrt((float((left**2).sum()) + 1) * count / (count + 2)) / whole
    reach = power.Z95 * error
    return Measured(
        statistic=name, unit="%", value=100 * ratio, lower=100 * (ratio - reach), upper=100 * (ratio + reach),
        samples=count, samples_of="items",
        needs=lambda limit: _resolving(count, error, ratio - limit / 100),
    )  # fmt: skip


def item_share(name: str, holds: Numbers) -> Measured:
    """Percent of items for which something holds."""
    part, count = float(holds.mean()), len(holds)
    lower, upper = wilson(part, count, power.Z95)
    return Measured(
        statistic=name, unit="%", value=100 * part, lower=100 * lower, upper=100 * upper,
        samples=count, samples_of="items", needs=lambda limit: _for_share(limit / 100, part, 1.0),
    )  # fmt: skip


def mcnemar(base: Numbers, other: Numbers) -> float:
    """The chance of so many answers turned wrong or more, were turning right as likely: one-sided, scores 0 and 1."""
    wrong, right = int((base > other).sum()), int((other > base).sum())
    pairs = wrong + right
    logs = [_log_choose(pairs, lost) - pairs * math.log(2) for lost in range(wrong, pairs + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _log_choose(count: int, taken: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(taken + 1) - math.lgamma(count - taken + 1)


def wilson(part: float, count: float, factor: float) -> tuple[float, float]:
    """Bounds of a share that was seen in `count` independent samples."""
    square = factor**2
    middle = (part + square / (2 * count)) / (1 + square / count)
    reach = factor / (1 + square / count) * math.sqrt(part * (1 - part) / count + square / (4 * count**2))
    return 0.0 if part <= 0 else max(0.0, middle - reach), 1.0 if part >= 1 else min(1.0, middle + reach)


def independent(holds: Any) -> float:
    """How many independent tokens would give a share its spread between windows; never more than there are."""
    part, error = float(holds.mean()), _error(holds.mean(axis=1))
    return holds.size if error == 0 else max(1.0, min(float(holds.size), part * (1 - part) / error**2))


def _error(means: Numbers) -> float:
    """The standard error of the mean of windows' means."""
    return float(means.std(ddof=1)) / math.sqrt(len(means))


def _resolving(count: int, error: float, distance: float) -> int | None:
    """Samples whose bounds clear a distance four times of five, were the estimate the truth."""
    if distance == 0 or not math.isfinite(error) or not math.isfinite(distance):
        return None
    return math.ceil(count * (SPREAD * error / distance) ** 2)


def _for_share(limit: float, part: float, windows_each: float) -> int | None:
    """The same for a share; `windows_each` = windows to an independent token."""
    if part == limit or not 0 < limit < 1:
        return None
    return math.ceil(power.share(limit, part) * windows_each)
