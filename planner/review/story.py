"""A review of a plan: what it decided is read off, what comes next is planned again."""

from __future__ import annotations

import math

from catalog.errors import BadInput
from catalog.load import Catalog
from planner.plan import Assumption, Plan
from planner.review import growth, reading, sensitivity, spare
from planner.review.content import Review
from planner.review.replan import Planning, asked
from planner.search import search

LARGEST_GROWTH = 200.0
"""Percent per quarter: over eight quarters the load becomes 6,561 times what it is."""


def review(plan: Plan, catalog: Catalog, growth_pct: float | None = None, planning: Planning = search) -> Review:
    """The decision is the plan's own; growth, N+1 and sensitivity are planned with `catalog`.

    `growth_pct` is per quarter. Raises BadInput for a growth that is none, and what planning raises.
    """
    pct = checked(growth_pct)
    request = asked(plan)
    choice = plan.choice
    return Review(
        plan=plan,
        today=catalog.digest,
        objectives=reading.objectives(plan),
        families=reading.families(plan),
        memory=reading.memory(plan),
        alternatives=reading.alternatives(plan),
        refusals=reading.refusals(plan),
        growth=growth.growth(request, catalog, choice, pct, planning) if choice else None,
        spare=spare.spare(request, catalog, choice) if choice else None,
        flips=sensitivity.flips(plan, request, catalog, planning),
        assumptions=(*plan.assumptions, *_own(growth_pct, pct)),
    )


def checked(growth_pct: float | None) -> float:
    """Percent per quarter; the default where none is given. Raises BadInput."""
    pct = growth.DEFAULT_PCT if growth_pct is None else growth_pct
    if not (math.isfinite(pct) and 0 <= pct <= LARGEST_GROWTH):
        raise BadInput(f"expected growth from 0 to {LARGEST_GROWTH:g} percent a quarter, got {pct:g}", "growth")
    return pct


def _own(given: float | None, pct: float) -> tuple[Assumption, ...]:
    """What the review itself assumes."""
    even = "the load grows by the same factor every month of a quarter"
    because = f"a load that doubles within a year; {even}" if given is None else f"as asked; {even}"
    return (Assumption(path="growth", value=f"{pct:g} % per quarter", because=because),)
