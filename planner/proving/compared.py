"""Every lane of one request proved on one machine: what each came to, and which lanes nothing beats. Pure data."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from planner.plan import Candidate, Estimate
from planner.proving.checks import Check, Verdict
from planner.proving.receipt import Ended, Receipt

DIVERGENCE, TASK = "kld_mean", "paired_difference"
"""The statistics that are shown: of tokens, and of answers."""


class Lane(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lane: as planned, and as measured where it was run."""

    lane: str
    engine: str
    recipe: str
    planned: dict[str, Estimate] = {}
    """Of the plan's estimates: weight_bytes, loss_pct, tpot_p95_s, requests_per_s_max, price_usd_per_month."""
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
    receipt: str = ""
    """Its path below the folder."""
    undominated: bool = False
    """No other lane that was measured has fewer bytes and a smaller divergence."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Lanes in the planner's order, and those that cannot be planned with the reason."""

    schema: int = 1
    plan_id: str
    model: str
    lanes: tuple[Lane, ...]
    refused: dict[str, str]


PLANNED = ("weight_bytes", "loss_pct", "tpot_p95_s", "requests_per_s_max", "price_usd_per_month")


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
    )


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


def front(lanes: Iterable[Lane]) -> tuple[str, ...]:
    """Lanes that no other beats in bytes and in divergence, the smallest first; of equal ones all."""
    placed = sorted((found, lane.lane) for lane in lanes if (found := point(lane)) is not None)
    return tuple(
        lane
        for (size, loss), lane in placed
        if not any(other != (size, loss) and other[0] <= size and other[1] <= loss for other, _ in placed)
    )
