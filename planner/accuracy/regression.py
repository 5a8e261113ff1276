"""Weighted least squares with shrinkage over the speed formulas. Needs SciPy.

Every parameter is a global value times deviations per class, shrunken towards none by a prior width. The residuals
are logarithms of predicted over measured, weighted so that every group of rows counts once and soft towards outliers;
rows that differ only in their lane count as ratios too, because a ratio cancels what they share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from catalog.parameters import from_scale, to_scale
from planner.accuracy.deployment import Case
from planner.accuracy.predict import Block, Described, Values, blocks
from planner.accuracy.truth import Row
from planner.trace import Array


class Prior(Struct, frozen=True, kw_only=True):
    """Where a parameter starts, how far it may move (sd of ln), and which classes may deviate by how much."""

    name: str
    value: float
    sd: float = 0.0
    """0: held at the value, which is then `assumed`."""
    levels: dict[str, float] = {}


NOISE = {"ttft_ms": 0.35}
"""Assumed spread (ln) of a measurement around the truth; 0.18 for every other metric."""
PAIR_NOISE = 0.12
"""Assumed spread (ln) of the ratio of two lanes in one harness."""
GROUP_ROWS = 5.0
"""Independent measurements that a group of rows is worth (assumed)."""
STEP = 1e-4
BASES = ("bf16", "fp16", "fp8")
"""The lane that the others of a run are compared with: the first of these, or of the run."""


Places = dict[str, NDArray[np.intp]]
"""Parameter name to the free numbers that add up to it: one row per level, one column per case."""


@dataclass
class Space:
    """The free numbers of one family: logarithms of global values and of class factors."""

    priors: tuple[Prior, ...]
    names: list[str]
    """`name` or `name~level=class`."""
    start: Array
    width: Array

    @classmethod
    def over(cls, priors: tuple[Prior, ...], cases: Iterable[Case]) -> Space:
        """Global numbers and one per class that occurs."""
        found = sorted({entry for case in cases for entry in case.classes})
        rows = [(prior.name, math.log(to_scale(prior.name, prior.value)), prior.sd) for prior in priors if prior.sd]
        for prior in priors:
            for level, sd in prior.levels.items():
                rows += [(f"{prior.name}~{entry}", 0.0, sd) for entry in found if entry.startswith(level + "=")]
        names, start, width = zip(*rows, strict=True)
        return cls(priors, list(names), np.array(start), np.array(width))

    def places(self, cases: Sequence[Case]) -> Places:
        """For every free parameter and case the positions to add up; the last position holds a zero."""
        at = {name: place for place, name in enumerate(self.names)}
        none = len(self.names)

        def place(prior: Prior, level: str, case: Case) -> int:
            found = (entry for entry in case.classes if entry.startswith(level + "="))
            return at.get(f"{prior.name}~{next(found, '')}", none)

        def of(prior: Prior) -> NDArray[np.intp]:
            rows = [[at[prior.name], *(place(prior, level, case) for level in prior.levels)] for case in cases]
            return np.array(rows).T

        return {prior.name: of(prior) for prior in self.priors if prior.sd}

    def values(self, places: Places, theta: Array, count: int) -> Values:
        """Physical values per case."""
        padded = np.append(theta, 0.0)
        held = {prior.name: np.full(count, prior.value) for prior in self.priors if not prior.sd}
        moved = {name: np.exp(padded[place].sum(axis=0)) for name, place in places.items()}
        return held | {name: np.asarray(from_scale(name, x)) for name, x in moved.items()}


@dataclass(frozen=True)
class Problem:
    """Predictions of all rows as a function of the free numbers, beside what was measured."""

    space: Space
    rows: Sequence[Described]
    blocks: list[Block]
    places: list[Places]

    @classmethod
    def of(cls, space: Space, rows: Sequence[Described]) -> Problem:
        made = blocks(rows)
        return cls(space, rows, made, [space.places(block.cases) for block in made])

    def predict(self, theta: Array) -> Array:
        """Logarithms of the printed values, in the order of the rows."""
        made = np.empty(len(self.rows))
        for block, places in zip(self.blocks, self.places, strict=True):
            made[block.rows] = block.predict(self.space.values(places, theta, len(block.cases)))
        return np.asarray(np.log(np.maximum(made, 1e-12)))


@dataclass(frozen=True)
class Measured:
    """Logarithms of the values and what each counts."""

    log: Array
    weight: Array
    noise: Array

    def only(self, keep: NDArray[np.intp]) -> Measured:
        return Measured(self.log[keep], self.weight[keep], self.noise[keep])


@dataclass(frozen=True)
class Solution:
    """Fitted logarithms and their standard deviations."""

    space: Space
    theta: Array
    sd: Array

    def predict(self, rows: Sequence[Described]) -> Array:
        """Logarithms of predictions; classes that the fit has not seen take the global value."""
        return Problem.of(self.space, rows).predict(self.theta)


def solve(
    priors: tuple[Prior, ...], rows: Sequence[Described], measured: Measured, start: Solution | None = None
) -> Solution:
    """Weighted least squares with shrinkage; deterministic. `start` speeds up a refit on fewer rows."""
    from scipy.optimize import least_squares

    space = Space.over(priors, (case for row in rows for case in row.cases))
    problem, pairs = Problem.of(space, rows), lane_pairs(rows, measured)
    scale = np.sqrt(measured.weight * GROUP_ROWS) / measured.noise

    def residuals(theta: Array) -> Array:
        log = problem.predict(theta)
        apart = soft(log - measured.log, 2 * measured.noise) * scale
        return np.concatenate([apart, pairs.residuals(log), (theta - space.start) / space.width])

    def jacobian(theta: Array) -> Array:
        base = residuals(theta)
        moved = [residuals(theta + STEP * unit) for unit in np.eye(len(theta))]
        return (np.array(moved) - base).T / STEP

    known = dict(zip(start.space.names, start.theta, strict=True)) if start else {}
    first = np.array([known.get(name, x) for name, x in zip(space.names, space.start, strict=True)])
    found = least_squares(
        residuals,
        first,
        jac=jacobian,
        max_nfev=8 if start else 40,
        x_scale=space.width,
        ftol=1e-4,
        xtol=1e-4,
        gtol=1e-4,
    )
    return Solution(space, found.x, np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac))))


def soft(error: Array, knee: Array) -> Array:
    """Square near zero, linear beyond the knee (pseudo-Huber), as a residual."""
    capped = np.clip(error, -6, 6)
    return np.asarray(np.sign(capped) * knee * np.sqrt(2 * (np.sqrt(1 + (capped / knee) ** 2) - 1)))


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that differ only in their lane."""

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    ratio: Array
    scale: Array

    def residuals(self, log: Array) -> Array:
        apart = log[self.one] - log[self.other] - self.ratio
        return np.asarray(np.clip(apart, -0.6, 0.6) * self.scale)


def lane_pairs(rows: Sequence[Described], measured: Measured) -> Pairs:
    """Each lane against the 16-bit one (or the first) of the same run; serving engines, first-token times left out."""
    runs: dict[tuple[object, ...], dict[str, list[int]]] = {}
    for place, found in enumerate(rows):
        if found.row.metric != "ttft_ms" and found.row.engine != "llama.cpp":
            runs.setdefault(_run(found.row), {}).setdefault(found.row.lane, []).append(place)
    pairs = [
        (lane[0], base[0], *_ratio(lane, base, measured))
        for lanes in runs.values()
        for base in [next((lanes[lane] for lane in BASES if lane in lanes), next(iter(lanes.values())))]
        for lane in lanes.values()
        if lane is not base
    ]
    one, other, ratios, scales = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    return Pairs(np.array(one, dtype=int), np.array(other, dtype=int), np.array(ratios), np.array(scales))


def _run(row: Row) -> tuple[object, ...]:
    """Everything that describes a row but its lane."""
    system = (row.engine, row.engine_version, row.model, row.accelerator, row.accelerators, row.tensor, row.replicas)
    load = (row.kv_dtype, row.prompt, row.output, row.users, row.load, row.metric, row.number("n_requests"))
    return (*system, *load)


def _ratio(lane: list[int], base: list[int], measured: Measured) -> tuple[float, float]:
    """Logarithm of the measured ratio, and what the pair counts."""
    ratio = measured.log[lane].mean() - measured.log[base].mean()
    counts = min(measured.weight[lane].mean(), measured.weight[base].mean())
    return float(ratio), math.sqrt(GROUP_ROWS * counts) / PAIR_NOISE
