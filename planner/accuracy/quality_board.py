"""How far predicted recoveries are from measured ones: the scorer behind `lanewise accuracy quality`.

Sources are weighted, not rows: an error is the mean over sources of the mean within each. A cell is the median of a
source's rows in one family of lanes: what a planner has to get right, the noise of single benchmarks averaged away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median

from msgspec import Struct

ALPHA = 0.2
"""Share that an 80 % interval leaves outside."""
TOLERANCES = (1.0, 2.0, 3.0, 5.0)
"""Percent lost that a user may allow."""
SIZES = ("up to 1B", "1-4.5B", "4.5-15B", "15-50B", "50-120B", "above 120B")
"""Names of the buckets of `severity.bucket`."""
CONTEXTS = ((8192, "up to 8K"), (32768, "to 32K"), (65536, "to 64K"), (131072, "to 128K"), (2**62, "above 128K"))
"""Tokens, and the name of the contexts up to there."""
UNSTATED = "not stated"
"""Where the source says "short" or nothing."""


class Score(Struct, frozen=True, kw_only=True):
    """One measurement with its estimate, recoveries in percent."""

    id: str
    source: str
    lane: str
    """Family of lanes."""
    method: str
    """The lane as the source spells it."""
    kind: str
    """Formats whose losses the law pools."""
    family: str
    size: str
    context: str
    measured: float
    predicted: float = 0.0
    """The median."""
    likely: float = 0.0
    """What is kept with three chances of four."""
    low: float = 0.0
    """The bad end of the 80 % interval."""
    high: float = 0.0


Key = Callable[[Score], str]


def lane(score: Score) -> str:
    return score.lane


def method(score: Score) -> str:
    return score.method


class Cell(Struct, frozen=True, kw_only=True):
    """A source's rows of one lane: medians of each number."""

    source: str
    lane: str
    rows: int
    measured: float
    predicted: float
    likely: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


class Gate(Struct, frozen=True, kw_only=True):
    """Verdicts at one tolerance, as shares of all cells."""

    tolerance: float
    false_safe: float
    """Passed, and lost more."""
    false_alarm: float
    """Held back, and lost no more."""


class Board(Struct, frozen=True, kw_only=True):
    """What one way to estimate reaches."""

    rows: int
    sources: int
    error: float
    """Mean over sources of the mean absolute error, points of recovery."""
    bias: float
    """Mean over sources of predicted minus measured: above zero promises too much."""
    cells: int
    coverage: float
    """Share of source x lane cells whose median lies in the 80 % interval."""
    cell_score: float
    """Interval score (Winkler) of the cells, points: width, and ten times what a cell lies outside."""
    row_score: float
    """The same of rows, as a mean over sources."""


def board(scores: Sequence[Score], by: Key = lane) -> Board:
    """The numbers of these estimates; cells are source x `by`."""
    found = cells(scores, by)
    return Board(
        rows=len(scores),
        sources=len({one.source for one in scores}),
        error=over_sources(scores, lambda one: abs(one.predicted - one.measured)),
        bias=over_sources(scores, lambda one: one.predicted - one.measured),
        cells=len(found),
        coverage=fmean(one.inside for one in found),
        cell_score=fmean(interval_score(one.measured, one.low, one.high) for one in found),
        row_score=over_sources(scores, lambda one: interval_score(one.measured, one.low, one.high)),
    )


def over_sources(scores: Iterable[Score], value: Callable[[Score], float]) -> float:
    """Mean over sources of the mean within each."""
    within: dict[str, list[float]] = defaultdict(list)
    for one in scores:
        within[one.source].append(value(one))
    return fmean(fmean(values) for values in within.values())


def interval_score(measured: float, low: float, high: float) -> float:
    """Winkler's: the width, and what was missed weighs 2 / alpha."""
    return (high - low) + 2 / ALPHA * (max(0.0, low - measured) + max(0.0, measured - high))


def cells(scores: Iterable[Score], by: Key = lane) -> list[Cell]:
    """One cell per source and lane, in that order."""
    rows: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for one in scores:
        rows[one.source, by(one)].append(one)
    return [_cell(key, rows[key]) for key in sorted(rows)]


def _cell(key: tuple[str, str], rows: Sequence[Score]) -> Cell:
    def middle(name: str) -> float:
        return float(median(getattr(one, name) for one in rows))

    return Cell(
        source=key[0], lane=key[1], rows=len(rows), measured=middle("measured"), predicted=middle("predicted"),
        likely=middle("likely"), low=middle("low"), high=middle("high"),
    )  # fmt: skip


def gate(found: Sequence[Cell], tolerance: float, bound: Callable[[Cell], float]) -> Gate:
    """Verdicts of `bound` (a recovery in percent) at a tolerance in percent lost."""
    pairs = [(100 - bound(one) <= tolerance, 100 - one.measured <= tolerance) for one in found]
    return Gate(
        tolerance=tolerance,
        false_safe=fmean(safe and not kept for safe, kept in pairs),
        false_alarm=fmean(kept and not safe for safe, kept in pairs),
    )


def gates(found: Sequence[Cell], bound: Callable[[Cell], float]) -> tuple[Gate, ...]:
    """The same at every tolerance."""
    return tuple(gate(found, tolerance, bound) for tolerance in TOLERANCES)


class Residual(Struct, frozen=True, kw_only=True):
    """One class of rows: errors in points of recovery, means over sources."""

    name: str
    rows: int
    sources: int
    error: float
    bias: float
    inside: float
    """Share of rows in the 80 % interval, mean over sources."""


def residuals(scores: Sequence[Score], by: Key, order: Sequence[str] = ()) -> list[Residual]:
    """One line per class, in this order, others by their names."""
    classes: dict[str, list[Score]] = defaultdict(list)
    for one in scores:
        classes[by(one)].append(one)
    names = [*(name for name in order if name in classes), *sorted(classes.keys() - set(order))]
    return [_residual(name, classes[name]) for name in names]


def _residual(name: str, scores: Sequence[Score]) -> Residual:
    return Residual(
        name=name,
        rows=len(scores),
        sources=len({one.source for one in scores}),
        error=over_sources(scores, lambda one: abs(one.predicted - one.measured)),
        bias=over_sources(scores, lambda one: one.predicted - one.measured),
        inside=over_sources(scores, lambda one: float(one.low <= one.measured <= one.high)),
    )


def context_of(tokens: float) -> str:
    """The bucket of a context; 0 is none stated."""
    return next(name for bound, name in CONTEXTS if tokens <= bound) if tokens else UNSTATED
