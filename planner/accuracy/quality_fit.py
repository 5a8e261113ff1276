"""The law of losses fitted to the evidence: maximum a posteriori of a regression with Student-t errors. Needs SciPy.

Sources are weighted, not rows: a source of n rows counts as twice the root of n. Every effect is drawn towards none by
how far the effects of its level spread; slopes are drawn towards what the mechanism leads to expect.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from catalog.errors import BadInput
from catalog.load import Catalog
from catalog.quality_parameters import Effect, Hardness, Level, SeverityParameters, Slope
from planner import measured, severity
from planner.measured import Described

Array = NDArray[np.float64]


class Prior(Struct, frozen=True):
    """Where a slope starts, how far it may move, and why."""

    value: float
    sd: float
    because: str


SLOPES = {
    "size": Prior(-0.2, 0.3, "larger models lose less (Qwen2, Red Hat cards from 0.5B to 405B)"),
    "below_four_bits": Prior(0.8, 0.4, "a bit less doubles the rounding error"),
    "above_four_bits": Prior(-0.35, 0.2, "a bit more halves it; from eight bits benchmarks see nothing"),
    "rounded": Prior(0.3, 0.3, "calibration wins part of the loss back"),
    "trained": Prior(-0.3, 0.3, "training with quantization recovers a third (torchao, median 36 %)"),
    "imatrix": Prior(-0.23, 0.05, "six files with and without one (Q0288 to Q0332): -0.40 to -0.14 paired"),
    "finer_groups": Prior(-0.05, 0.05, "smaller groups are never worse (GPTQ, 3 bits: perplexity 8.07 to 6.61)"),
    "four_bit_activations": Prior(0.2, 0.3, "activations are rounded besides"),
    "power_of_two": Prior(0.5, 0.4, "scales that are powers of two waste half a bit"),
    "length": Prior(0.0, 0.3, "errors may add up over long documents"),
    "length_nf4": Prior(0.0, 0.5, "NF4 collapsed on one model's long documents"),
    "hard": Prior(0.2, 0.4, "long chains of reasoning fail at their weakest step"),
    "cache": Prior(-1.0, 0.7, "a quantized cache against four-bit weights"),
    "cache_bits": Prior(0.4, 0.2, "a bit less doubles the rounding error"),
    "cache_length": Prior(0.2, 0.3, "errors of the cache grow with what is attended to"),
    "perplexity_below": Prior(0.0, 0.5, "perplexity is no score: its own slope"),
    "perplexity_above": Prior(0.0, 0.2, "perplexity is no score: its own slope"),
    "perplexity_size": Prior(0.0, 0.3, "perplexity is no score: its own slope"),
}
LEVELS = {
    "kind": 0.3, "way": 0.3, "family": 0.3, "architecture": 0.2, "model": 0.2, "kind+family": 0.2, "kind+size": 0.2,
    "size+family": 0.2, "source": 0.3,
}  # fmt: skip
"""Spread of the effects of each level (assumed; left-out errors are flat around them)."""
BASE = Prior(0.4, 1.0, "four bits at eight billion parameters lose one or two percent")
SHARES = {"noise": 0.7, "floor": 0.5, "share": 0.5}
"""Where the three parts of the spread start; each may move by half a logarithm."""
FREEDOM = 4.0
"""Degrees of freedom of the errors (assumed; left-out errors do not tell 3 from 8)."""
BELIEVING = 1000.0
"""Degrees of freedom that the search begins with: every row is believed. Where many sources agree on what the law did
not expect, the law follows; begun with heavy tails it would stay and call them all outliers."""
ROWS_COUNT = 0.5
"""A source's rows weigh n^-0.5 each: they share a laboratory, a harness and mostly a model."""
GAIN = 2.0
"""Independent measurements that the first row of a source is worth (assumed)."""
LEAST, MOST = -6.0, 5.0
"""Bounds of the logarithm of an expected loss."""
SHARES_SD = 0.5
"""How far the logarithms of the parts of the spread may move."""
STEP = 1e-4
"""Of the second differences, in logarithms."""
FLAT = 1e-3
"""Length of the gradient at which the search ends and Newton's last steps begin."""
LAST = 2
"""Steps of Newton's method at the end; each squares what is left."""
SETTLED = 1e-9
"""Length of the gradient above which there is no mode."""


@dataclass(frozen=True)
class Design:
    """Rows as a matrix of slopes and classes, with the prior of each column."""

    names: tuple[str, ...]
    matrix: Array
    prior: Array
    sd: Array
    loss: Array
    noise: Array
    weight: Array
    counted: dict[str, int]
    """Sources that speak of each class."""

    @classmethod
    def of(cls, rows: Sequence[Described], losses: Sequence[float]) -> Design:
        entries = [_entries(row) for row in rows]
        speak: dict[str, set[str]] = defaultdict(set)
        for row, entry in zip(rows, entries, strict=True):
            for name in entry:
                speak[name].add(row.source)
        effects = sorted(name for name in speak if "=" in name)
        names = ("base", *SLOPES, *effects)
        at = {name: place for place, name in enumerate(names)}
        matrix = np.zeros((len(rows), len(names)))
        for place, entry in enumerate(entries):
            for name, value in entry.items():
                matrix[place, at[name]] = value
        counts: dict[str, int] = defaultdict(int)
        for row in rows:
            counts[row.source] += 1
        return cls(
            names=names,
            matrix=matrix,
            prior=np.array([BASE.value, *(each.value for each in SLOPES.values()), *(0.0 for _ in effects)]),
            sd=np.array([BASE.sd, *(each.sd for each in SLOPES.values()), *(_level_sd(name) for name in effects)]),
            loss=np.array(losses),
            noise=np.array([row.noise for row in rows]),
            weight=np.array([GAIN * counts[row.source] ** -ROWS_COUNT for row in rows]),
            counted={name: len(sources) for name, sources in speak.items()},
        )


@lru_cache(maxsize=4096)
def _entries(row: Described) -> dict[str, float]:
    classes = dict.fromkeys((*severity.classes(row.what, row.where), f"source={row.source}"), 1.0)
    return {"base": 1.0, **severity.terms(row.what, row.where), **classes}


def _level_sd(name: str) -> float:
    return LEVELS[name.partition("=")[0]]


@dataclass(frozen=True)
class Fitted:
    """Everything that the fit found, by column of the design."""

    design: Design
    theta: Array
    noise: float
    floor: float
    share: float

    @property
    def shares(self) -> Array:
        """Logarithms of the parts of the spread."""
        return np.log([self.noise, self.floor, self.share])


def fit(rows: Sequence[Described], losses: Sequence[float]) -> Fitted:
    """The mode of the posterior; deterministic. Raises BadInput where the search finds none.

    The gradient is exact and the search ends where nothing moves, so that the digits that are written are those of the
    mode.
    """
    from scipy.optimize import minimize

    design = Design.of(rows, losses)
    posterior = _Posterior(design)
    away = np.zeros(len(design.names) + len(SHARES))
    for freedom in (BELIEVING, FREEDOM):
        found = minimize(
            posterior.cost, away, (freedom,), jac=posterior.gradient, hessp=posterior.bend, method="trust-ncg", tol=FLAT
        )
        away = found.x
    away = posterior.settled(away, FREEDOM)
    if not math.sqrt(np.sum(posterior.gradient(away, FREEDOM) ** 2)) < SETTLED:
        raise BadInput(f"the fit of losses does not settle on these rows: {found.message}", "evidence.csv")
    noise, floor, share = (float(value) for value in np.exp(posterior.parts(away)[1]))
    return Fitted(design, design.prior + design.sd * away[: len(design.names)], noise, floor, share)


class _Posterior:
    """What unknowns cost, counted in widths of their priors from the priors' middles: those of the design, and the
    logarithms of the parts of the spread.

    A row has a dozen of some four hundred columns, so products go through a sparse matrix: plain loops on one core,
    which neither wait for threads nor round differently with their number.
    """

    def __init__(self, design: Design) -> None:
        from scipy.sparse import csr_array

        self.design, self.count = design, len(design.names)
        self.matrix, self.base = csr_array(design.matrix * design.sd), design.matrix @ design.prior
        self.turned, self.start = csr_array(self.matrix.T), np.log(np.array(list(SHARES.values())))
        self.bent: tuple[Array, float, Array] | None = None

    def parts(self, away: Array) -> tuple[Array, Array]:
        """Logarithms of the loss of each row, and of the parts of the spread."""
        return self.base + self.matrix @ away[: self.count], self.start + SHARES_SD * away[self.count :]

    def cost(self, away: Array, freedom: float) -> float:
        cost = _cost(*self.parts(away), self.design, freedom)
        return float(np.sum(self.design.weight * cost) + 0.5 * np.sum(away**2))

    def gradient(self, away: Array, freedom: float) -> Array:
        return away + self._gathered(_slopes(*self.parts(away), self.design, freedom))

    def bend(self, away: Array, along: Array, freedom: float) -> Array:
        """What the gradient gains along a direction."""
        if self.bent is None or self.bent[1] != freedom or not np.array_equal(self.bent[0], away):
            self.bent = (away, freedom, _bends(*self.parts(away), self.design, freedom))
        rows = np.empty((1 + len(SHARES), len(self.base)))
        rows[0], rows[1:] = self.matrix @ along[: self.count], SHARES_SD * along[self.count :, None]
        return along + self._gathered(np.sum(self.bent[2] * rows[:, None, :], axis=0))

    def settled(self, away: Array, freedom: float) -> Array:
        """The same after Newton's last steps, which ask for no difference of costs: those drown in rounding."""
        from scipy.sparse.linalg import LinearOperator, cg

        for _ in range(LAST):
            here = away
            bend = LinearOperator((len(here), len(here)), matvec=partial(self._bend_of, here, freedom), dtype=float)
            away = here + cg(bend, -self.gradient(here, freedom), rtol=1e-5)[0]
        return away

    def _bend_of(self, away: Array, freedom: float, along: Array) -> Array:
        return self.bend(away, along, freedom)

    def _gathered(self, slopes: Array) -> Array:
        by_theta = self.turned @ (self.design.weight * slopes[0])
        return np.append(by_theta, SHARES_SD * np.sum(slopes[1:] * self.design.weight, axis=1))


def _cost(eta: Array, shares: Array, design: Design, freedom: float = FREEDOM) -> Array:
    """Negative log likelihood of each row, without constants."""
    _, scale, off = _apart(eta, shares, design)
    return np.asarray((freedom + 1) / 2 * np.log1p(off**2 / freedom) + np.log(scale))


def _slopes(eta: Array, shares: Array, design: Design, freedom: float) -> Array:
    """What the cost of each row gains with its logarithm of the loss, and with those of the shares of the spread."""
    loss, scale, off = _apart(eta, shares, design)
    noise, floor, share = np.exp(shares)
    pull = (freedom + 1) * off / (freedom + off**2)
    wider = (1 - pull * off) / scale**2
    by_shares = wider * np.stack([(noise * design.noise) ** 2, np.full_like(loss, floor**2), (share * loss) ** 2])
    by_eta = np.where((eta > LEAST) & (eta < MOST), by_shares[2] - pull * loss / scale, 0.0)
    return np.vstack([by_eta, by_shares])


def _bends(eta: Array, shares: Array, design: Design, freedom: float) -> Array:
    """How these slopes change with each of the four, by differences."""
    return np.stack(
        [
            _slopes(eta + step[0], shares + step[1:], design, freedom)
            - _slopes(eta - step[0], shares - step[1:], design, freedom)
            for step in STEP * np.eye(1 + len(SHARES))
        ]
    ) / (2 * STEP)


def _apart(eta: Array, shares: Array, design: Design) -> tuple[Array, Array, Array]:
    """Expected loss and scale of each row in percent, and how many scales the measured loss is off."""
    loss = np.exp(np.clip(eta, LEAST, MOST))
    noise, floor, share = np.exp(shares)
    scale = np.sqrt((noise * design.noise) ** 2 + floor**2 + (share * loss) ** 2)
    return loss, scale, (design.loss - loss) / scale


def deviations(found: Fitted) -> Array:
    """Standard deviations after the fit, from the curvature of the rows and of the priors."""
    design, step = found.design, 1e-2
    eta = design.matrix @ found.theta
    below, here, above = (_cost(eta + off, found.shares, design) for off in (-step, 0.0, step))
    weight = design.weight * np.maximum((above - 2 * here + below) / step**2, 0.0)
    information = design.matrix.T @ (weight[:, None] * design.matrix) + np.diag(design.sd**-2)
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))


def parameters(
    found: Fitted, rows: Sequence[Described], evidence: str = "", sd: Array | None = None
) -> SeverityParameters:
    """The fit as the catalogue keeps it. Effects of sources are left out: the next source is another one.

    `evidence` = digest of the rows; without `sd` the deviations, which no estimate needs, are written as zero.
    """
    sd = np.zeros(len(found.theta)) if sd is None else sd
    columns = dict(zip(found.design.names, zip(found.theta, sd, strict=True), strict=True))
    slopes = tuple(
        Slope(name=name, value=float(columns[name][0]), sd=float(columns[name][1]), prior=prior.value,
              prior_sd=prior.sd, because=prior.because)
        for name, prior in SLOPES.items()
    )  # fmt: skip
    effects = tuple(
        Effect(of=name, value=float(value), sd=float(off), sources=found.design.counted[name])
        for name, (value, off) in columns.items()
        if "=" in name and not name.startswith("source=")
    )
    return SeverityParameters(
        source="evidence.csv: published scores beside their own unquantized baseline; each row names its source",
        rows=len(rows),
        sources=len({row.source for row in rows}),
        evidence=evidence,
        base=float(columns["base"][0]),
        floor=found.floor,
        share=found.share,
        freedom=FREEDOM,
        noise=found.noise,
        slope=slopes,
        level=tuple(Level(name=name, sd=spread) for name, spread in LEVELS.items()),
        effect_=effects,
        hardness=hardness(rows),
    )


def hardness(rows: Sequence[Described]) -> tuple[Hardness, ...]:
    """The share of hard benchmarks per family: the mean over sources of the share within each."""
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        shares[row.where.family][row.source].append(row.where.hard)
    means = {
        family: float(np.mean([np.mean(values) for values in sources.values()])) for family, sources in shares.items()
    }
    return tuple(Hardness(family=family, share=share) for family, share in sorted(means.items()) if share)


def refit(catalog: Catalog) -> SeverityParameters:
    """The parameters that this catalogue's evidence gives."""
    rows, losses = measured.of_catalog(catalog)
    found = fit(rows, losses)
    return parameters(found, rows, measured.digest(catalog), deviations(found))
