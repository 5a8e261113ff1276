"""Every lane of one request proved on one machine: what each came to, and which lanes nothing beats. Pure data.

Bytes, nat, seconds, requests/s, tokens/s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from planner.plan import Candidate, Estimate
from planner.proving.checks import Check, Verdict
from planner.proving.judge_speed import Serving
from planner.proving.receipt import Ended, Receipt

DIVERGENCE, TASK = "kld_mean", "paired_difference"
"""The statistics that are shown: of tokens, and of answers."""
SPEEDS = ("ttft_p50_s", "tpot_p50_s")
"""Of the load's claims."""
TOKENS, RATE, PACE = "output_tokens_per_s", "requests_per_s_max", "tpot_p50_s"


class Span(Struct, frozen=True, kw_only=True):
    """A measured number with its interval; None: an end that nobody saw."""

    value: float
    low: float | None
    high: float | None


class Lane(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lane: as planned, and as measured where it was run."""

    lane: str
    engine: str
    recipe: str
    planned: dict[str, Estimate] = {}
    """Of the plan's estimates: those of PLANNED."""
    ended: Ended | None = None
    """None where it was not run."""
    verdict: Verdict | None = None
    because: str = ""
    bytes: float | None = None
    """Of the candidate's files."""
    divergence: Check | None = None
    """Mean KL divergence on the text where it is largest."""
    task: Check | None = None
    """The paired difference of the task where it is worst."""
    served: str = ""
    """What serving came to, in the receipt's word; empty where it was not asked for."""
    unserved: str = ""
    """Why it is not "measured"."""
    elsewhere: str = ""
    """Why its speeds were measured on another machine than they were planned for; empty on the planned one."""
    speeds: dict[str, Span] = {}
    """Measured at the workload: ttft_p50_s, tpot_p50_s, output_tokens_per_s, requests_per_s_max (held)."""
    receipt: str = ""
    """Its path below the folder."""
    undominated: bool = False
    """No other lane that was measured has fewer bytes, a smaller divergence and, where every one was served, less time
    per token."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Lanes in the planner's order, and those that cannot be planned with the reason."""

    schema: int = 1
    plan_id: str
    model: str
    lanes: tuple[Lane, ...]
    refused: dict[str, str]


PLANNED = ("weight_bytes", "loss_pct", *SPEEDS, "tpot_p95_s", RATE, "price_usd_per_month")


def planned(candidate: Candidate) -> Lane:
    """A lane before it is run."""
    return Lane(
        lane=candidate.lane,
        engine=f"{candidate.engine} {candidate.engine_version}",
        recipe=candidate.recipe.name,
        planned={name: candidate.estimates[name] for name in PLANNED if name in candidate.estimates},
    )


def proved(candidate: Candidate, receipt: Receipt, size: float | None, path: str) -> Lane:
    """A lane as its receipt has it; `size` = bytes of its files, None where they were not made."""
    before = planned(candidate)
    checks = [check for gate in receipt.gates if gate.measured for check in gate.checks]
    return Lane(
        lane=before.lane,
        engine=before.engine,
        recipe=before.recipe,
        planned=before.planned,
        ended=receipt.ended,
        verdict=receipt.verdict,
        because=receipt.because,
        bytes=size,
        divergence=_most(checks, DIVERGENCE),
        task=_least(checks, TASK),
        receipt=path,
        **_served(receipt.served),
    )


def _served(made: Serving | None) -> dict[str, Any]:
    """What serving adds to a row."""
    if made is None:
        return {}
    return {"served": made.outcome, "unserved": made.because, "elsewhere": made.elsewhere, "speeds": speeds(made)}


def speeds(made: Serving) -> dict[str, Span]:
    """What was measured of them."""
    found = {
        claim.name: Span(value=claim.measured, low=claim.measured_low, high=claim.measured_high)
        for claim in made.claims
        if claim.name in SPEEDS and claim.measured is not None
    }
    if made.output_tokens_per_s:
        low, high = made.output_tokens_per_s_low, made.output_tokens_per_s_high
        found[TOKENS] = Span(value=made.output_tokens_per_s, low=low, high=high)
    rates = made.sustained
    best = None if rates is None else rates.at_least or rates.below
    if rates is not None and best is not None:
        found[RATE] = Span(value=best, low=rates.at_least, high=rates.below)
    return found


def _most(checks: Iterable[Check], statistic: str) -> Check | None:
    found = [(check.value, check) for check in checks if check.statistic == statistic and check.value is not None]
    return max(found, key=lambda each: each[0])[1] if found else None


def _least(checks: Iterable[Check], statistic: str) -> Check | None:
    found = [(check.value, check) for check in checks if check.statistic == statistic and check.value is not None]
    return min(found, key=lambda each: each[0])[1] if found else None


def point(lane: Lane) -> tuple[float, float] | None:
    """(bytes, divergence in nat) of a lane of which both were measured."""
    if lane.bytes is None or lane.divergence is None or lane.divergence.value is None:
        return None
    return lane.bytes, lane.divergence.value


def pace(lane: Lane) -> tuple[float, float] | None:
    """(median seconds per token at the workload, divergence in nat) of a lane of which both were measured."""
    if PACE not in lane.speeds or lane.divergence is None or lane.divergence.value is None:
        return None
    return lane.speeds[PACE].value, lane.divergence.value


def paced(lanes: Iterable[Lane]) -> bool:
    """Whether every lane that has a size and a divergence was served too: else speeds compare some of them only."""
    shown = [lane for lane in lanes if point(lane) is not None]
    return bool(shown) and all(pace(lane) is not None for lane in shown)


def front(lanes: Iterable[Lane]) -> tuple[str, ...]:
    """Lanes that no other beats in all that is compared, the smallest first; of equal ones all."""
    shown = tuple(lanes)
    with_pace = paced(shown)
    placed = sorted(
        ((*found, lane.speeds[PACE].value) if with_pace else found, lane.lane)
        for lane in shown
        if (found := point(lane)) is not None
    )
    return tuple(lane for own, lane in placed if not any(beats(other, own) for other, _ in placed))


def beats(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
    """Nowhere more, and somewhere less."""
    return other != own and all(theirs <= ours for theirs, ours in zip(other, own, strict=True))
