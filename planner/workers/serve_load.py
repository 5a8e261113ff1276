"""A load as requests: when each is due, what it asks, how long its answer is. Seeded; tokens and seconds.

Lengths are log-normal by mean and 95th percentile, gaps between arrivals gamma with shape `burstiness` (1: Poisson).
Imports nothing of ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

P95 = 1.6448536269514722
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """A log-normal distribution; without a 95th percentile every length is the mean."""

    mean: float
    p95: float

    def drawn(self, count: int, chance: np.random.Generator) -> NDArray[np.int64]:
        """So many lengths, at least one token each."""
        ratio = math.log(max(self.p95, self.mean) / self.mean)
        sigma = P95 - math.sqrt(max(P95**2 - 2 * ratio, 0.0))
        values = chance.lognormal(math.log(self.mean) - sigma**2 / 2, sigma, count)
        return np.maximum(np.rint(values), 1).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent to one replica. `rate` in requests/s, or `users` that each wait for their answer, or all at once."""

    rate: float = 0.0
    users: int = 0
    burstiness: float = 1.0
    prompt: Lengths
    output: Lengths
    shared_prefix: int = 0
    context: int
    vocabulary: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request: due so many seconds after the beginning; 0 where a user sends it as soon as they can."""

    due: float
    prompt: list[int]
    output: int


def asks(load: Load, count: int, part: int) -> list[Ask]:
    """So many requests; `part` tells apart repeats of one seed, which share nothing but the prefix."""
    chance = np.random.default_rng([load.seed, part])
    due = arrivals(load, count, chance)
    output = np.minimum(load.output.drawn(count, chance), load.context - 1)
    prompt = np.minimum(load.prompt.drawn(count, chance), load.context - output)
    prefix = words(load, min(load.shared_prefix, load.context - 1), np.random.default_rng([load.seed, 2**31]))
    made = []
    for at, asked, answer in zip(due, prompt, output, strict=True):
        own = words(load, max(int(asked) - len(prefix), 1), chance)
        made.append(Ask(due=float(at), prompt=[*prefix, *own][: int(asked)] or own, output=int(answer)))
    return made


def arrivals(load: Load, count: int, chance: np.random.Generator) -> Array:
    """Seconds from the beginning; the first gap counts, so that the mean rate is the asked one."""
    if load.rate <= 0:
        return np.zeros(count)
    gaps = chance.gamma(load.burstiness, 1 / (load.rate * load.burstiness), count)
    return np.cumsum(gaps)


def words(load: Load, count: int, chance: np.random.Generator) -> list[int]:
    """Token ids from the upper nine tenths of the vocabulary: marks such as the end of a text have low ids, mostly."""
    low = load.vocabulary // 10
    return [int(word) for word in chance.integers(low, load.vocabulary, count)]
