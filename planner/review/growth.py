"""Eight quarters ahead: the load grows, the same request is planned again, month by month.

Two answers side by side: the choice kept (its lane, engine and accelerator), which says when the next device is due,
and the whole request decided anew each quarter, which says when another choice becomes the better one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from catalog.load import Catalog
from planner.plan import Candidate
from planner.request import Request
from planner.review.content import Growth, Limit, Month, Quarter
from planner.review.replan import Decision, Planning, kept, load_of, scaled, unlimited

QUARTERS = 8
MONTHS = 3 * QUARTERS
DEFAULT_PCT = 20.0
"""Per quarter (assumed): a load that doubles within a year."""


def growth(request: Request, catalog: Catalog, choice: Candidate, pct: float, planning: Planning) -> Growth:
    """Plan the load of each month 0 to 24; within a quarter it grows by the same factor every month."""
    months = tuple(_months(request, catalog, choice, pct, planning))
    quarters = tuple(_quarter(number, request, catalog, pct, planning) for number in range(QUARTERS + 1))
    outgrown = next((month.number for month in months if not month.within), None)
    own = None if outgrown is None else _limit(outgrown, *kept(request, catalog, choice), pct, planning)
    return Growth(
        pct_per_quarter=pct,
        load_name=load_of(request)[1],
        months=months,
        quarters=quarters,
        choice_limit=own,
        request_limit=_request_limit(quarters, request, catalog, pct, planning),
    )


def at_month(request: Request, month: int, pct: float) -> Request:
    """The request under the load of one month."""
    return scaled(request, (1 + pct / 100) ** (month / 3))


def _months(
    request: Request, catalog: Catalog, choice: Candidate, pct: float, planning: Planning
) -> Iterator[Month]:
    """Once the request's own limits are reached they are lifted, so that the need beyond them shows."""
    only, facts = kept(request, catalog, choice)
    within = True
    for number in range(MONTHS + 1):
        now = at_month(only, number, pct)
        decision = planning(now, facts) if within else Decision(choice=None, refused=())
        within = decision.choice is not None
        if not within:
            decision = planning(unlimited(now), facts)
        yield _month(number, now, decision.choice, within=within)


def _month(number: int, request: Request, choice: Candidate | None, *, within: bool) -> Month:
    price = choice.estimates.get("price_usd_per_month") if choice else None
    return Month(
        number=number,
        load=load_of(request)[0],
        devices=choice.pools[0].count if choice else None,
        usd_per_month=price.value if price else None,
        within=within,
    )


def _quarter(number: int, request: Request, catalog: Catalog, pct: float, planning: Planning) -> Quarter:
    now = at_month(request, 3 * number, pct)
    return Quarter(number=number, load=load_of(now)[0], choice=planning(now, catalog).choice)


def _request_limit(
    quarters: Iterable[Quarter], request: Request, catalog: Catalog, pct: float, planning: Planning
) -> Limit | None:
    """The exact month, looked for within the first quarter that ends without an answer."""
    empty = next((quarter.number for quarter in quarters if quarter.choice is None), None)
    if empty is None:
        return None
    for month in range(max(3 * empty - 2, 0), 3 * empty):
        if planning(at_month(request, month, pct), catalog).choice is None:
            return _limit(month, request, catalog, pct, planning)
    return _limit(3 * empty, request, catalog, pct, planning)


def _limit(month: int, request: Request, catalog: Catalog, pct: float, planning: Planning) -> Limit:
    return Limit(month=month, because=planning(at_month(request, month, pct), catalog).because)
