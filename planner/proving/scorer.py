"""What a user's own scorer printed of both sides, paired and judged in its own unit."""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import Struct

from catalog.errors import BadInput
from planner.plan import Threshold
from planner.proving import bounds
from planner.proving.bounds import Measured, Numbers
from planner.proving.checks import Check, check


class Scores(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `scores.json`: one number for each answer, or one for all."""

    schema: int
    command: tuple[str, ...]
    exit_code: int
    files: dict[str, str]
    log: str
    items: tuple[str, ...]
    values: tuple[float, ...]


def read(data: bytes, name: str) -> Scores:
    """One side's numbers. Raises BadInput naming the file where it holds none."""
    try:
        found = msgspec.json.decode(data, type=Scores)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not a file of scores: {fault}", name) from None
    if not found.items or len(found.values) not in (1, len(found.items)):
        raise BadInput(f"{len(found.values)} numbers for {len(found.items)} answers", name)
    return found


def judged(baseline: Scores, candidate: Scores, threshold: Threshold) -> Check:
    """The mean difference with its bounds; without an interval where a side is one number.

    Raises BadInput where the sides are no pairs.
    """
    if baseline.command != candidate.command or baseline.files != candidate.files:
        raise BadInput("the two sides were not scored by the same command")
    if baseline.items != candidate.items or len(baseline.values) != len(candidate.values):
        raise BadInput("the two sides' answers are not the same items")
    ours, theirs = (np.asarray(side.values, dtype=np.float64) for side in (baseline, candidate))
    if len(ours) == 1:
        return _single(float(ours[0]), float(theirs[0]), threshold, len(baseline.items))
    means = f"; mean {float(ours.mean()):.4g} of the baseline, {float(theirs.mean()):.4g} of the candidate"
    measured = difference(threshold.statistic, *_by_item(baseline.items, ours, theirs))
    if measured is None:
        return _open(
            threshold, len(ours), f"every answer of both sides is worth {float(ours[0]):.4g}: nothing could show"
        )
    found = check(measured, threshold)
    return msgspec.structs.replace(found, because=found.because + means)


def difference(name: str, base: Numbers, other: Numbers) -> Measured | None:
    """The mean difference of paired scores in their own unit, by Agresti and Min as for scores from 0 to 1: the unit is
    stretched over all that was seen. None where only one value was."""
    both = np.concatenate([base, other])
    low, wide = float(both.min()), float(both.max() - both.min())
    if wide <= 0:
        return None
    found = bounds.paired_difference(name, (base - low) / wide, (other - low) / wide)
    own = {end: getattr(found, end) / 100 * wide for end in ("value", "lower", "upper")}
    return found.swapped(unit="own", needs=lambda limit: found.needs(100 * limit / wide), **own)


def _by_item(items: tuple[str, ...], *sides: Numbers) -> tuple[Numbers, ...]:
    """Means of several answers to one item: only items are independent."""
    _, place = np.unique(np.asarray(items), return_inverse=True)
    return tuple(np.asarray(np.bincount(place, side) / np.bincount(place)) for side in sides)


def _single(ours: float, theirs: float, threshold: Threshold, answers: int) -> Check:
    because = f"{ours:.4g} of the baseline, {theirs:.4g} of the candidate: one number has no interval"
    said = f"{because}; a scorer that prints one for each answer has"
    return msgspec.structs.replace(_open(threshold, answers, said), value=theirs - ours)


def _open(threshold: Threshold, answers: int, because: str) -> Check:
    return Check(
        statistic=threshold.statistic, unit="own", relation=threshold.relation, limit=threshold.value,
        samples=answers, samples_of="items", verdict="inconclusive", because=because,
    )  # fmt: skip
