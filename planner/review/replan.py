"""The same question asked again with one thing changed. Pure: requests and catalogues are values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import MappingProxyType

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from catalog.load import Catalog
from catalog.price import Offer
from planner import explain, refusals, search
from planner import request as requests
from planner.plan import Candidate, Plan, Refused
from planner.request import AnyHardware, Hardware, Request
from planner.rules import RULES

MOST = 4096
"""Devices; the request's own largest count."""
ORDER = {rule.code: place for place, rule in enumerate(RULES)}
"""Rules in the order in which a plan asks them: a later one speaks of a candidate that came further."""


class Decision(Struct, frozen=True, kw_only=True):
    """As much of a plan as a comparison needs."""

    choice: Candidate | None
    refused: tuple[Refused, ...]

    @property
    def because(self) -> str:
        """Why nothing fits: the reason of the family that came furthest; "" when something does."""
        if self.choice is not None or not self.refused:
            return ""
        nearest = max(self.refused, key=lambda family: ORDER[family.finding.rule])
        return f"{nearest.lane} on {nearest.accelerator}: {nearest.finding.because}"


Planning = Callable[[Request, Catalog], Decision]


def decide(request: Request, catalog: Catalog) -> Decision:
    """Plan without derivation and ways out. Raises what `search.plan` raises."""
    found = search.search(request, catalog)
    return Decision(
        choice=explain.candidate(found.choice, found.fits) if found.choice else None,
        refused=() if found.choice else refusals.refused(found.options, found.unplaced, found.swept, found.settled),
    )


def asked(plan: Plan) -> Request:
    """The request that a plan repeats."""
    return requests.decode(msgspec.json.encode(plan.request))


def is_any(request: Request) -> bool:
    """Whether any accelerator will do."""
    return request.hardware is None or request.hardware.accelerators is None


def kept(request: Request, catalog: Catalog, choice: Candidate) -> tuple[Request, Catalog]:
    """Only the choice's lane and engine, on its accelerator and, where it is rented, its instance."""
    name = choice.pools[0].accelerator
    only = MappingProxyType({name: catalog.accelerator(name)})
    narrowed = replace(request, lanes=(choice.lane,), engines=(choice.engine,))
    if is_any(request):
        offers = tuple(offer for offer in catalog.offers if _same(offer, choice)) or catalog.offers
        return narrowed, dataclasses.replace(catalog, accelerators=only, offers=offers)
    asks = (request.hardware.accelerators if request.hardware else None) or ()
    hardware = Hardware(accelerators=tuple(ask for ask in asks if ask.id == name))
    return replace(narrowed, hardware=hardware), dataclasses.replace(catalog, accelerators=only)


def rented(catalog: Catalog, choice: Candidate) -> Offer | None:
    """The offer that the choice is priced at; None for a price of one's own, or an offer that is gone."""
    return next((offer for offer in catalog.offers if _same(offer, choice)), None)


def _same(offer: Offer, choice: Candidate) -> bool:
    named = choice.offer if isinstance(choice.offer, dict) else {}
    if offer.accelerator != choice.pools[0].accelerator:
        return False
    return all(getattr(offer, name) == named.get(name) for name in ("provider", "instance", "region", "market"))


def unlimited(request: Request) -> Request:
    """As many devices as it takes, whatever they cost."""
    hardware = request.hardware or Hardware(any=AnyHardware())
    if hardware.accelerators is not None:
        asks = tuple(replace(ask, count=MOST) for ask in hardware.accelerators)
        return replace(request, hardware=replace(hardware, accelerators=asks), budget=None)
    widest = replace(hardware.any or AnyHardware(), max_accelerators=MOST)
    return replace(request, hardware=replace(hardware, any=widest), budget=None)


def scaled(request: Request, factor: float) -> Request:
    """The load times `factor`: the rate, the users (whole ones), or the requests of a batch."""
    work = request.workload
    if work.users is not None:
        return replace(request, workload=replace(work, users=_whole(work.users * factor)))
    if work.batch is not None:
        batch = replace(work.batch, requests=_whole(work.batch.requests * factor))
        return replace(request, workload=replace(work, batch=batch))
    mean = None if work.qps_mean is None else work.qps_mean * factor
    return replace(request, workload=replace(work, qps=(work.qps or 0.0) * factor, qps_mean=mean))


def _whole(value: float) -> int:
    """Rounded up, and forgiving the last bits of a product that should be whole."""
    return math.ceil(round(value, 6))


def load_of(request: Request) -> tuple[float, str]:
    """How much is asked, and what it counts."""
    work = request.workload
    if work.users is not None:
        return float(work.users), "users"
    if work.batch is not None:
        return float(work.batch.requests), "requests in the batch"
    return work.qps or 0.0, "requests/s"


def repriced(request: Request, catalog: Catalog, accelerator: str | None, factor: float) -> tuple[Request, Catalog]:
    """Every price of one accelerator (of all where None) times `factor`: the catalogue's and the request's own."""

    def touched(name: str) -> bool:
        return accelerator in (None, name)

    offers = tuple(
        replace(offer, usd_per_hour=offer.usd_per_hour * factor) if touched(offer.accelerator) else offer
        for offer in catalog.offers
    )
    asks = request.hardware.accelerators if request.hardware else None
    if request.hardware is not None and asks is not None:
        own = tuple(
            replace(ask, usd_per_hour=ask.usd_per_hour * factor) if ask.usd_per_hour and touched(ask.id) else ask
            for ask in asks
        )
        request = replace(request, hardware=replace(request.hardware, accelerators=own))
    return request, dataclasses.replace(catalog, offers=offers)
