"""From which running batch on one way of serving is slower than another on the same devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from planner.trace import Array

FEWEST, MOST = 1.0, 1024.0
"""Running sequences that are looked at: one, and vLLM's largest default."""
LOOKS = 41
"""Batches that are looked at, evenly in their logarithm, and again between the two where the sign changes: 0.5 %."""
Rate = Callable[[Any], Any]
"""Requests/s at a running batch, or at an array of them."""


def slower_from(ours: Rate, theirs: Rate) -> float | None:
    """The batch from which on `ours` stays the slower one; 1 where it always is, None where it is not at 1,024."""
    looks = np.geomspace(FEWEST, MOST, LOOKS)
    first = _stays(looks, ours, theirs)
    if first in (0, LOOKS):
        return FEWEST if first == 0 else None
    closer = np.geomspace(looks[first - 1], looks[first], LOOKS)
    return float(closer[min(_stays(closer, ours, theirs), LOOKS - 1)])


def _stays(batches: Array, ours: Rate, theirs: Rate) -> int:
    """Index of the first batch from which on `ours` is slower at every one; their number where the last is not."""
    faster = np.flatnonzero(np.broadcast_to(ours(batches) >= theirs(batches), batches.shape))
    return int(faster[-1]) + 1 if faster.size else 0
