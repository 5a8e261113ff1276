"""What the user measured, beside what is known from others: the estimate moves towards it.

Deviations from the law, in units of its spread, are taken as correlated: those of one laboratory, of one model in one
lane there, and of one family of tasks on it. The best linear estimate of the asked deviation follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from planner.measured import Described
from planner.severity import Setting, Severity, Treatment, name_of

LABORATORY = 0.2
"""Of two deviations measured by the same hands; left-out residuals of the published rows: 0.15 to 0.4 within a source,
0.0 between sources."""
CHECKPOINT = 0.1
"""More, where model and recipe are the same (published rows: 0.17 to 0.3 together)."""
FAMILY = 0.6
"""More, where the family of tasks is the same too (assumed: a family holds tasks that were not measured)."""


class Own(Struct, frozen=True, kw_only=True):
    """One own measurement as a deviation from the law."""

    what: Treatment
    where: Setting
    deviation: float
    """In units of the law's spread."""
    error: float
    """Variance of the measurement, in the same units."""

    @classmethod
    def of(cls, row: Described, loss: float, law: Severity, noise: float) -> Own:
        """`loss` in percent; `noise` = share of a benchmark's own error that a paired comparison keeps."""
        deviation, error = (loss - law.loss) / law.spread, (noise * row.noise / law.spread) ** 2
        return cls(what=row.what, where=row.where, deviation=deviation, error=error)


def moved(own: Sequence[Own], what: Treatment, where: Setting, law: Severity) -> tuple[float, float, float]:
    """Median and spread in percent, and the share of the unknown that own measurements settle (0 without any)."""
    near = [each for each in own if (each.what.kind == "kv") == (what.kind == "kv")]
    if not near:
        return law.loss, law.spread, 0.0
    beside = np.array([_correlation(each.what, each.where, what, where) for each in near])
    among = np.array([[_correlation(a.what, a.where, b.what, b.where) for b in near] for a in near])
    among += np.diag([each.error for each in near])
    weights = np.linalg.solve(among + 1e-9 * np.eye(len(near)), beside)
    settled = float(weights @ beside)
    middle = law.loss + law.spread * float(weights @ np.array([each.deviation for each in near]))
    return middle, law.spread * math.sqrt(max(0.0, 1 - settled)), settled


def _correlation(what: Treatment, where: Setting, other: Treatment, there: Setting) -> float:
    same = what.way == other.way and name_of(where.model) == name_of(there.model)
    return LABORATORY + CHECKPOINT * same + FAMILY * (same and where.family == there.family)
