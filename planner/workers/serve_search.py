"""The highest rate that a server sustains: doubled or halved until the answer changes, then bisected.

Imports nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

CLOSE = 1.1
"""Two rates this near are not told apart by trials of some tens of requests (assumed)."""
LEAST, MOST = 1e-3, 1e4


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One rate tried."""

    rate: float
    holds: bool
    because: str = ""
    """What broke first."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """Between which rates the limit lies; None where the time ran out before a rate held, or before one broke."""

    at_least: float | None
    below: float | None
    trials: tuple[Trial, ...]

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def search(first: float, carry: Callable[[float], Trial], left: Callable[[], float]) -> Found:
    """`carry` tries one rate; `left` = seconds that remain of the budget. A trial that has begun is ended."""
    trials: list[Trial] = []
    low, high, rate = 0.0, math.inf, first
    while LEAST <= rate <= MOST and high / max(low, 1e-12) > CLOSE and (not trials or left() > 0):
        trial = carry(rate)
        trials.append(trial)
        low, high = (max(low, rate), high) if trial.holds else (low, min(high, rate))
        rate = following(low, high)
    return Found(at_least=low or None, below=None if math.isinf(high) else high, trials=tuple(trials))


def following(low: float, high: float) -> float:
    """The next rate to try: twice, half, or the geometric mean."""
    if math.isinf(high):
        return 2 * low
    return high / 2 if low == 0 else math.sqrt(low * high)
