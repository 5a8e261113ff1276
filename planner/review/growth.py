"""Eight quarters ahead: the load grows, the same request is planned again, month by month.

Two answers side by side: the choice kept (more replicas of its very configuration), which says when the next device is
due, and the whole request decided anew each quarter, which says when another choice becomes the better one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from catalog.load import Catalog
from planner.plan import Candidate
from planner.request import Request
from planner.review.content import Growth, Limit, Month, Quarter
from planner.review.replan import Planning, decide, kept, load_of, narrowed, scaled

QUARTERS = 8
MONTHS = 3 * QUARTERS
DEFAULT_PCT = 20.0
"""Per quarter (assumed): a load that doubles within a year."""


def growth(request: Request, catalog: Catalog, choice: Candidate, pct: float, planning: Planning) -> Growth:
    """Plan the load of each month 0 to 24; within a quarter it grows by the same factor every month."""
    months = tuple(_months(request, catalog, choice, pct, planning))
    quarters = tuple(_quarter(number, request, catalog, pct, planning) for number in range(QUARTERS + 1))
    return Growth(
        pct_per_quarter=pct,
        load_name=load_of(request)[1],
        months=months,
        quarters=quarters,
        choice_limit=next((_reached(month) for month in months if month.because), None),
        request_limit=_request_limit(quarters, request, catalog, pct, planning),
    )


def at_month(request: Request, month: int, pct: float) -> Request:
    """The request under the load of one month."""
    return scaled(request, (1 + pct / 100) ** (month / 3))


def _months(request: Request, catalog: Catalog, choice: Candidate, pct: float, planning: Planning) -> Iterator[Month]:
    """Beyond what the request allows the need still shows, with the rule that refuses it."""
    only, facts = narrowed(request, catalog, choice)
    for number in range(MONTHS + 1):
        now = at_month(only, number, pct)
        same = kept(planning(now, facts), choice)
        yield Month(
            number=number,
            load=load_of(now)[0],
            devices=same.devices if same else None,
            usd_per_month=same.usd_per_month if same else None,
            because=same.because if same else "today's catalogue no longer plans this configuration",
        )


def _reached(month: Month) -> Limit:
    return Limit(month=month.number, because=month.because)


def _quarter(number: int, request: Request, catalog: Catalog, pct: float, planning: Planning) -> Quarter:
    now = at_month(request, 3 * number, pct)
    return Quarter(number=number, load=load_of(now)[0], choice=decide(planning(now, catalog)).choice)


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
    return Limit(month=month, because=decide(planning(at_month(request, month, pct), catalog)).because)
