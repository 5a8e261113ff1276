"""Gates on paired tasks: a tolerance in points, and whether a benchmark has the items to resolve them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from msgspec import Struct

from catalog.gates import Benchmark, Gates, Grade, Limit
from planner import power
from planner.effort import Clock
from planner.plan import Estimate, Gate, Threshold, Trial

FULL_SCORE = 100.0
TOOL = "lm-eval --log_samples on both sides, then McNemar or a paired bootstrap"
OWN_TOOL = "both sides' answers to the same prompts, then McNemar or a paired bootstrap"
Lengths = tuple[float, float, float]
"""Mean prompt and answer of the workload, and the served context; tokens."""


class Wanted(Struct, frozen=True, kw_only=True):
    """A tolerance, the class of limits that applies, and why."""

    tolerance_pct: float
    grade: Grade
    covered: bool
    """False: the tolerance is wider than every class."""
    because: str
    least_points: float

    @classmethod
    def of(cls, gates: Gates, tolerance: float) -> Wanted:
        """The strictest class that covers the tolerance, or the widest where none does."""
        found = gates.covering(tolerance)
        if found is not None:
            because = f"{found.id} (to {found.up_to_pct:g} %) is the strictest class that covers {tolerance:g} %"
        else:
            because = f"no class covers {tolerance:g} %: {gates.tolerances[-1].id} is the widest"
        return cls(
            tolerance_pct=tolerance,
            grade=(found or gates.tolerances[-1]).id,
            covered=found is not None,
            because=because,
            least_points=gates.scoring.least_points,
        )

    def thresholds(self, limits: Sequence[Limit]) -> Iterator[Threshold]:
        """The class's own limits; nothing where it sets none."""
        for limit in limits:
            value = limit.at(self.grade)
            if value is not None:
                yield threshold(limit, value, self.because)

    def differences(self, limits: Sequence[Limit], baseline: float | None) -> Iterator[Threshold]:
        """Limits of a paired difference in points: the tolerance, and never more than the class allows."""
        for limit in limits:
            score = FULL_SCORE if baseline is None else baseline
            points, why = self.tolerance_pct * score / 100, f"{self.tolerance_pct:g} % of {_typical(baseline)}"
            own = limit.at(self.grade)
            if self.covered and own is not None and -own < points:
                points, why = -own, f"{self.because}: fewer points than {why}"
            yield threshold(limit, -max(points, self.least_points), why)

    def shares(self, limits: Sequence[Limit]) -> Iterator[Threshold]:
        """Limits of a recovery in percent: the class's, and for the mean the tolerance where that is wider than all."""
        for limit in limits:
            own, kept = limit.at(self.grade), FULL_SCORE - self.tolerance_pct
            if limit.statistic != "mean_recovery":
                if own is not None and self.covered:
                    yield threshold(limit, own, self.because)
            elif own is not None and (self.covered or own <= kept):
                yield threshold(limit, own, f"{self.because}; a bound on long documents needs the room")
            else:
                yield threshold(limit, kept, self.because)


def _typical(baseline: float | None) -> str:
    if baseline is None:
        return "a full score: nobody knows what the original scores on your own items"
    return f"{baseline:g}, the median score of unquantized models there"


def threshold(limit: Limit, value: float, because: str) -> Threshold:
    """A limit at one value."""
    return Threshold(
        statistic=limit.statistic,
        unit=limit.unit,
        bound=limit.bound,
        relation=limit.relation,
        value=float(f"{value:.6g}"),
        because=because,
        source=limit.source,
    )


def task_gate(given: tuple[Gates, Clock], wanted: Wanted, family: str, lengths: Lengths, *, far: bool) -> Gate:
    """The gate of one family; `far`: long documents at the served length, which have limits of their own."""
    gates, clock = given
    rows = gates.measuring(family)
    made = [_proof(gates, wanted, row, far=far) for row in rows]
    thresholds, trial = made[0]
    return Gate(
        id="long_context" if far else f"task:{family}",
        decides=True,
        context_tokens=int(lengths[2]) if family == "long_context" else None,
        thresholds=thresholds,
        tolerance_pct=wanted.tolerance_pct,
        tolerance_class=wanted.grade,
        benchmarks=tuple(trial for _, trial in made),
        samples=trial.samples,
        samples_of="answers",
        tool=OWN_TOOL if rows[0].items is None else TOOL,
        expected_s=_expected(clock, rows[0], trial.answers, lengths),
        because=trial.because,
    )


def _proof(gates: Gates, wanted: Wanted, row: Benchmark, *, far: bool) -> tuple[tuple[Threshold, ...], Trial]:
    """What a benchmark has to show, and whether it can."""
    scoring = gates.scoring
    if far:
        thresholds = tuple(wanted.shares(gates.of("long_context")))
        points = (FULL_SCORE - thresholds[0].value) * (row.baseline or FULL_SCORE) / 100
    else:
        thresholds = tuple(wanted.differences(gates.of("task"), row.baseline))
        points = -thresholds[0].value
    samples = power.paired(scoring.discordant_share, points / 100)
    return thresholds, trial(row, points, samples, scoring.most_repeats)


def trial(row: Benchmark, points: float, samples: int, most: int) -> Trial:
    """A benchmark that needs so many paired answers; `most` = answers to one item."""
    repeats = None if row.items is None else math.ceil(samples / row.items)
    conclusive = repeats is None or repeats <= most
    answers = samples if row.items is None or repeats == 1 else row.items * min(repeats or 1, most)
    return Trial(
        name=row.name,
        items=row.items,
        samples=samples,
        repeats=repeats,
        answers=answers,
        conclusive=conclusive,
        because=_because(row, points, samples, (repeats, most)) + (f"; {row.note}" if row.note else ""),
        source=", ".join(filter(None, (row.source, _rows(row)))),
    )


def _because(row: Benchmark, points: float, samples: int, repeats: tuple[int | None, int]) -> str:
    needed, most = repeats
    resolved = f"{samples:,} paired answers resolve {points:.3g} points"
    if row.items is None or needed is None:
        return f"{resolved}: with fewer of your own it is inconclusive by design"
    if needed == 1:
        return f"{resolved}; it has {row.items:,} items"
    if needed <= most:
        return f"{resolved}; its {row.items:,} items once are inconclusive by design: {needed} sampled answers to each"
    return (
        f"{resolved}; inconclusive by design: its {row.items:,} items would need {needed} answers each, {most} at most"
    )


def _rows(row: Benchmark) -> str:
    return f"score: median of evidence.csv {row.rows[0]} to {row.rows[-1]}, {len(row.rows)} rows" if row.rows else ""


def _expected(clock: Clock, row: Benchmark, answers: int, lengths: Lengths) -> Estimate:
    """Tokens as the benchmark's; the workload's where it says none; prompts as long as served for long documents."""
    prompt, output, served = lengths
    own = served if row.answer_tokens is not None else prompt
    return clock.answering(answers, row.prompt_tokens or own, row.answer_tokens or output)
