"""Requests that arrive at a replica: drawn from a load with a seed, or given one by one.

Uniform numbers are the raw stream of PCG64, which NumPy promises to keep; every distribution is our own inverse of it,
so the same seed gives the same bytes with any version of NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from catalog.errors import BadInput
from planner.trace import Array

Counts = NDArray[np.int64]
TABLE = 4096
"""Points of the tabulated distributions: their quantiles are right to four digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """In order of arrival; seconds from the start, and tokens."""

    arrival: Array
    prompt: Counts
    output: Counts

    def __len__(self) -> int:
        return len(self.arrival)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A load to draw requests from."""

    rate: float
    """Requests/s; infinite: all at once."""
    burstiness: float
    """1 / squared coefficient of variation of the gaps between arrivals, which are gamma distributed; 1 = Poisson."""
    prompt: float
    """Mean tokens of log-normal lengths …"""
    prompt_sigma: float
    """… and the standard deviation of their logarithm."""
    output: float
    output_sigma: float
    context: int
    """Longest prompt and output together: what would be longer is cut, as the engine does."""


def draw(load: Draw, count: int, seed: int) -> Requests:
    """`count` requests. The same seed with another rate gives the same requests, closer together or further apart."""
    gaps = gamma(uniforms(count, seed, 0), load.burstiness) / load.rate
    prompt = lognormal(uniforms(count, seed, 1), load.prompt, load.prompt_sigma)
    output = lognormal(uniforms(count, seed, 2), load.output, load.output_sigma)
    prompt = np.minimum(prompt, load.context - 1)
    return Requests(arrival=np.cumsum(gaps), prompt=prompt, output=np.minimum(output, load.context - prompt))


def given(arrival: Array, prompt: Counts, output: Counts) -> Requests:
    """A recorded run, in any order. Raises BadInput for rows that cannot be."""
    wrong = ~(np.isfinite(arrival) & (arrival >= 0) & (prompt >= 1) & (output >= 1))
    if wrong.any():
        raise BadInput("expected an arrival of 0 s or more and at least 1 token each way", f"$[{int(wrong.argmax())}]")
    order = np.argsort(arrival, kind="stable")
    return Requests(arrival=arrival[order], prompt=prompt[order], output=output[order])


def uniforms(count: int, seed: int, stream: int) -> Array:
    """`count` numbers between 0 and 1, one in each of `count` equal intervals, in an order of chance.

    Samples spread like this have the mean of the distribution almost exactly, so that a run of a few thousand requests
    offers the load that was asked for.
    """
    raw = np.random.PCG64([seed, stream]).random_raw(2 * count)
    inside = (raw[count:] >> np.uint64(11)) * 2.0**-53
    order = np.argsort(raw[:count], kind="stable")
    return np.clip((order + inside) / count, 1e-12, 1 - 1e-12)


def lognormal(uniform: Array, mean: float, sigma: float) -> Counts:
    """Whole tokens, at least 1, of a log-normal length with this mean and standard deviation of the logarithm."""
    lengths = mean * np.exp(sigma * np.interp(uniform, *_normal()) - sigma * sigma / 2)
    return np.maximum(np.rint(lengths), 1).astype(np.int64)


@cache
def _normal() -> tuple[Array, Array]:
    """The standard normal distribution as a table: probabilities, and their quantiles."""
    z = np.linspace(-7.2, 7.2, TABLE)
    return np.array([math.erfc(-each / math.sqrt(2)) / 2 for each in z.tolist()]), z


def gamma(uniform: Array, shape: float) -> Array:
    """Quantiles of a gamma distribution with mean 1 and squared coefficient of variation 1/`shape`."""
    if shape == 1:
        return -np.log1p(-uniform)
    top = shape + 12 * math.sqrt(shape) + 40
    least = (math.log(1e-13) + math.lgamma(shape + 1)) / shape  # where the series is its first term
    x = np.exp(np.linspace(max(least, math.log(min(shape, 1.0) * 1e-6)), math.log(top), TABLE))
    below, law = _gamma_below(x, shape), np.log(uniform)
    smallest = np.exp((law + math.lgamma(shape + 1)) / shape)
    tabled = np.exp(np.interp(law, np.log(below), np.log(x)))
    return np.asarray(np.where(uniform < below[0], smallest, tabled) / shape)


def _gamma_below(x: Array, shape: float) -> Array:
    """The regularized lower incomplete gamma function, by its power series (all terms are positive)."""
    term = np.ones_like(x)
    total = np.ones_like(x)
    for n in range(1, int(x[-1] + 12 * math.sqrt(x[-1]) + 40)):
        term = term * (x / (shape + n))
        total += term
    known = np.exp(shape * np.log(x) - x - math.lgamma(shape + 1)) * total
    return np.maximum.accumulate(np.minimum(known, 1.0))
