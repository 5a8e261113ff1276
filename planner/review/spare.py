"""N+1: one more replica of the choice's layout, and what the others carry when one fails."""

from __future__ import annotations

from catalog.load import Catalog
from planner import cost
from planner.plan import Candidate
from planner.request import Request
from planner.review.content import Spare
from planner.review.replan import is_any, rented


def spare(request: Request, catalog: Catalog, choice: Candidate) -> Spare:
    """Replicas are equal and share the load, so N - 1 of them carry their part of the highest rate."""
    pool = choice.pools[0]
    each = pool.count // pool.replicas
    price = _price(request, catalog, choice, pool.count + each)
    now = choice.estimates.get("price_usd_per_month")
    return Spare(
        replicas=pool.replicas,
        devices_per_replica=each,
        usd_per_month=price,
        extra_usd_per_month=None if price is None or now is None else price - now.value,
        available=_available(request, pool.accelerator),
        share_left=_left(choice, choice.estimates["requests_per_s_max"].value),
        share_left_at_bad_end=_left(choice, choice.estimates["requests_per_s_max"].low),
    )


def _left(choice: Candidate, highest: float) -> float:
    """The share of the planned rate that N - 1 replicas serve; `highest` is the rate of all N, requests/s."""
    replicas, planned = choice.pools[0].replicas, choice.estimates["requests_per_s"].value
    return min(highest * (replicas - 1) / replicas / planned, 1.0)


def _price(request: Request, catalog: Catalog, choice: Candidate, devices: int) -> float | None:
    """$/month of that many devices: instances that are rented are rented whole."""
    each = choice.offer.get("usd_per_hour") if isinstance(choice.offer, dict) else None
    size = 1
    if is_any(request):
        offer = rented(catalog, choice)
        if offer is None:
            return None
        size = offer.count
    if each is None:
        return None
    paid = cost.paid_devices(float(devices), float(size))
    return cost.price_usd_per_month(cost.price_usd_per_hour(paid, float(each)), cost.HOURS_PER_MONTH)


def _available(request: Request, accelerator: str) -> int | None:
    hardware = request.hardware
    if hardware is not None and hardware.inventory is not None:
        return None
    if hardware is not None and hardware.accelerators is not None:
        return max((ask.count for ask in hardware.accelerators if ask.id == accelerator), default=None)
    return hardware.any.max_accelerators if hardware is not None and hardware.any is not None else None
