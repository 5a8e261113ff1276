"""Fit the speed parameters to published measurements: `lanewise fit-speed`.

Every parameter is a global value times deviations per class, shrunken towards none by a prior width. The residuals
are logarithms of predicted over measured, weighted so that every group of rows counts once and soft towards outliers;
rows that differ only in their lane count as ratios too, because a ratio cancels what they share. Needs SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import Struct

from catalog import load as catalogue
from catalog.parameters import (
    NAMES,
    Excluded,
    Family,
    Interval,
    Parameter,
    Parameters,
    Resolved,
    from_scale,
    to_scale,
)
from planner import truth
from planner.predict import Block, Described, Values, blocks, describe
from planner.trace import Array
from planner.truth import Case


class Prior(Struct, frozen=True, kw_only=True):
    """Where a parameter starts, how far it may move (sd of ln), and which classes may deviate by how much."""

    name: str
    value: float
    sd: float = 0.0
    """0: held at the value, which is then `assumed`."""
    levels: dict[str, float] = {}


SERVING = (
    Prior(name="weight_efficiency", value=0.85, sd=0.4),
    Prior(name="cache_efficiency", value=0.75, sd=0.4),
    Prior(
        name="matrix_efficiency", value=0.55, sd=0.5,
        levels={"generation": 0.3, "path": 0.4, "instructions": 0.4, "architecture": 0.3},
    ),
    Prior(name="attention_efficiency", value=0.5, sd=0.4),
    Prior(name="link_efficiency", value=0.35, sd=0.4),
    Prior(name="step_s", value=1e-3, sd=0.5),
    Prior(name="layer_s", value=3e-5, sd=0.4, levels={"generation": 0.3}),
    Prior(name="sequence_s", value=8e-6, sd=0.5, levels={"generation": 0.5}),
    Prior(name="exchange_s", value=8e-6, sd=0.4),
    Prior(name="expert_cost", value=1.8, sd=0.5, levels={"experts": 0.6}),
    Prior(name="routing_spread", value=0.5, sd=0.5),
    Prior(name="unpack_flops", value=0.0),
    Prior(name="request_s", value=1e-3, sd=0.6, levels={"engine": 0.5}),
    Prior(name="arrival_s", value=0.03, sd=0.5),
    Prior(name="bunching", value=0.6, sd=0.6, levels={"engine": 0.5}),
    Prior(name="pool_share", value=0.8, sd=0.3, levels={"engine": 0.3}),
    Prior(name="steady_share", value=0.85, sd=0.5, levels={"engine": 0.4}),
    Prior(name="slo_share", value=0.9, sd=0.4),
    Prior(name="drain", value=1.5, sd=0.5),
)  # fmt: skip
LLAMA_CPP = (
    Prior(name="weight_efficiency", value=0.83, sd=0.5, levels={"backend": 0.4, "weights": 0.3}),
    Prior(name="cache_efficiency", value=0.6, sd=0.5),
    Prior(
        name="matrix_efficiency", value=0.3, sd=0.5,
        levels={"multiply": 0.4, "blas": 0.4, "build": 0.3, "mixture": 0.4},
    ),
    Prior(name="attention_efficiency", value=0.12, sd=0.6, levels={"attention": 0.5}),
    Prior(name="link_efficiency", value=0.5),
    Prior(name="step_s", value=5e-4, sd=0.6),
    Prior(name="layer_s", value=5e-5, sd=0.6, levels={"backend": 0.4}),
    Prior(name="sequence_s", value=1e-5),
    Prior(name="exchange_s", value=2e-4, sd=0.7),
    Prior(name="expert_cost", value=1.2, sd=0.5),
    Prior(name="routing_spread", value=0.5),
    Prior(name="unpack_flops", value=5.0, sd=0.7),
    Prior(name="request_s", value=0.0),
    Prior(name="arrival_s", value=0.01),
    Prior(name="bunching", value=0.5),
    Prior(name="pool_share", value=0.9),
    Prior(name="steady_share", value=0.9),
    Prior(name="slo_share", value=0.9),
    Prior(name="drain", value=1.0),
)  # fmt: skip
PRIORS: dict[Family, tuple[Prior, ...]] = {"serving": SERVING, "llama.cpp": LLAMA_CPP}


def _ids(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}-{number:05d}" for number in numbers)


EXCLUDED = (
    Excluded(
        ids=_ids("AIC", *range(5737, 5755)),
        because="512 users, yet less time per token than with 64 on the same server",
    ),
    Excluded(
        ids=_ids("GST", *range(385, 433)),
        because="H100 values that repeat the A100 page digit for digit (GST-00295..00342)",
    ),
    Excluded(
        ids=_ids("GST", *range(989, 995)),
        because="one device three times as fast as the same flags elsewhere on the page: the result of two devices",
    ),
    Excluded(
        ids=_ids("ARG", *range(484, 493), 1202, 1206, 1210),
        because="faster than reading all touched experts: identical prompts choose identical experts",
    ),
)
NOISE = {"ttft_ms": 0.35}
"""Assumed spread (ln) of a measurement around the truth; 0.18 for every other metric."""
PAIR_NOISE = 0.12
"""Assumed spread (ln) of the ratio of two lanes in one harness."""
GROUP_ROWS = 5.0
"""Independent measurements that a group of rows is worth (assumed)."""
STEP = 1e-4


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

    def places(self, cases: Sequence[Case]) -> dict[str, Array]:
        """For every free parameter and case the positions to add up; the last position holds a zero."""
        at = {name: place for place, name in enumerate(self.names)}
        none = len(self.names)
        return {
            prior.name: np.array(
                [
                    [at[prior.name]]
                    + [
                        next((at.get(f"{prior.name}~{entry}", none) for entry in case.classes if entry.startswith(level + "=")), none)  # noqa: E501
                        for level in prior.levels
                    ]
                    for case in cases
                ]
            ).T
            for prior in self.priors
            if prior.sd
        }

    def values(self, places: dict[str, Array], theta: Array, count: int) -> Values:
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
    places: list[dict[str, Array]]

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

    def only(self, keep: Array) -> Measured:
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
        residuals, first, jac=jacobian, max_nfev=8 if start else 40, x_scale=space.width, ftol=1e-4, xtol=1e-4, gtol=1e-4
    )
    return Solution(space, found.x, np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac))))


def soft(error: Array, knee: Array) -> Array:
    """Square near zero, linear beyond the knee (pseudo-Huber), as a residual."""
    capped = np.clip(error, -6, 6)
    return np.asarray(np.sign(capped) * knee * np.sqrt(2 * (np.sqrt(1 + (capped / knee) ** 2) - 1)))


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that differ only in their lane."""

    one: Array
    other: Array
    ratio: Array
    scale: Array

    def residuals(self, log: Array) -> Array:
        apart = log[self.one] - log[self.other] - self.ratio
        return np.asarray(np.clip(apart, -0.6, 0.6) * self.scale)


def lane_pairs(rows: Sequence[Described], measured: Measured) -> Pairs:
    """Each lane against the 16-bit one (or the first) of the same run; serving engines, first-token times left out."""
    runs: dict[tuple[object, ...], dict[str, list[int]]] = {}
    for place, one in enumerate(rows):
        row = one.row
        if row.metric != "ttft_ms" and row.engine != "llama.cpp":
            run = (row.engine, row.engine_version, row.model, row.accelerator, row.accelerators, row.tensor, row.replicas,
                   row.kv_dtype, row.prompt, row.output, row.users, row.load, row.metric, row.number("n_requests"))  # fmt: skip
            runs.setdefault(run, {}).setdefault(row.lane, []).append(place)
    found = []
    for lanes in runs.values():
        base = lanes.get("bf16") or lanes.get("fp16") or lanes.get("fp8") or next(iter(lanes.values()))
        for places in lanes.values():
            if places is not base:
                ratio = measured.log[places].mean() - measured.log[base].mean()
                counts = min(measured.weight[places].mean(), measured.weight[base].mean())
                found.append((places[0], base[0], ratio, math.sqrt(GROUP_ROWS * counts) / PAIR_NOISE))
    one, other, ratios, scales = zip(*found, strict=True) if found else ((), (), (), ())
    return Pairs(np.array(one, dtype=int), np.array(other, dtype=int), np.array(ratios), np.array(scales))
