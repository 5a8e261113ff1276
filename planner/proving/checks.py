"""One threshold on what was measured: the noun of a verdict, and the rule by which it is made."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from planner.plan import Threshold
from planner.proving.bounds import Measured

Verdict = Literal["pass", "fail", "inconclusive"]


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One threshold on one text: what was measured, its one-sided 95 % bounds, and what follows."""

    text: str = ""
    statistic: str
    unit: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    relation: str
    limit: float
    samples: int
    samples_of: str
    verdict: Verdict
    further: int | None = None
    """Windows or items beside those there until it is resolved four times of five; None where nobody can say."""
    because: str


def check(found: Measured, threshold: Threshold, text: str = "") -> Check:
    """One threshold: its stated bound decides a pass, both beyond it a fail."""
    verdict = _verdict(found, threshold)
    needed = found.needs(threshold.value) if verdict == "inconclusive" else None
    further = None if needed is None else max(1, needed - found.samples)
    return Check(
        text=text,
        statistic=found.statistic,
        unit=found.unit,
        value=found.value,
        lower=found.lower,
        upper=found.upper,
        relation=threshold.relation,
        limit=threshold.value,
        samples=found.samples,
        samples_of=found.samples_of,
        verdict=verdict,
        further=further,
        because=_sentence(found, threshold, verdict, further),
    )


def _verdict(found: Measured, threshold: Threshold) -> Verdict:
    ends = [found.lower, found.upper]
    if threshold.relation == "<=":
        keeps = [end <= threshold.value for end in ends]
    else:
        keeps = [end >= threshold.value for end in ends]
    stated = {"lower": keeps[0], "upper": keeps[1], "value": all(keeps)}[threshold.bound]
    return "pass" if stated else "inconclusive" if any(keeps) else "fail"


def _sentence(found: Measured, threshold: Threshold, verdict: Verdict, further: int | None) -> str:
    unit = "" if found.unit == "1" else f" {found.unit}"
    seen = f"{found.statistic} {found.value:.4g} ({found.lower:.4g} to {found.upper:.4g}){unit}"
    held = f"{threshold.bound} bound {threshold.relation} {threshold.value:g}"
    if verdict != "inconclusive":
        return f"{seen}: {held} {'holds' if verdict == 'pass' else 'is broken by both bounds'}"
    if further is None:
        return f"{seen} straddles {held}: the estimate lies on it, more samples need not help"
    return f"{seen} straddles {held}: {further:,} more {found.samples_of} resolve it four times of five"
