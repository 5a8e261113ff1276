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
from planner import arrivals, decode, explain, refusals
from planner.plan import Candidate, Plan, Refused
from planner.request import AcceleratorAsk, Hardware, Request
from planner.rules import MEASURED, RULES
from planner.search import Found
from planner.sweep import Swept

ORDER = {rule.code: place for place, rule in enumerate(RULES)}
"""Rules in the order in which a plan asks them: a later one speaks of a candidate that came further."""


Planning = Callable[[Request, Catalog], Found]
"""What plans: `search.search`."""


class Decision(Struct, frozen=True, kw_only=True):
    """As much of a plan as a comparison needs."""

    choice: Candidate | None
    because: str
    """Why nothing fits, by the family that came furthest; "" when something does."""


def decide(found: Found) -> Decision:
    """What a search decides, without derivation and ways out."""
    if found.choice is not None:
        return Decision(choice=explain.candidate(found.choice, found.fits, found.gates), because="")
    gone = refusals.refused(found.options, found.unplaced, found.swept, found.settled)
    if not gone:
        return Decision(choice=None, because="no lane runs on this hardware")
    nearest = max(gone, key=_closeness)
    return Decision(choice=None, because=f"{nearest.lane} on {nearest.accelerator}: {nearest.finding.because}")


def _closeness(family: Refused) -> tuple[int, float]:
    """How far a family came: the later the rule and the fewer the devices it would need, the closer."""
    return ORDER[family.finding.rule], -float(family.finding.facts.get("devices", 0.0))


class Kept(Struct, frozen=True, kw_only=True):
    """The choice's own configuration under another load: as many replicas as it takes."""

    devices: int
    usd_per_month: float | None
    because: str
    """Why the request no longer allows it; "" while it does."""


def kept(found: Found, choice: Candidate) -> Kept | None:
    """The row of the very layout, cache format and token budget of the choice; None where it no longer
    meets the objectives at any load, or is no longer planned."""
    for block in found.swept:
        for index in range(block.devices.size):
            if _is(block, index, choice) and block.served[index]:
                price = float(block.usd_per_month[index])
                return Kept(
                    devices=int(block.devices[index]),
                    usd_per_month=None if math.isnan(price) else float(f"{price:.6g}"),
                    because=_refusal(block, index, found),
                )
    return None


def _is(block: Swept, index: int, choice: Candidate) -> bool:
    """Whether a row is the choice's configuration."""
    rows, pool = block.rows, choice.pools[0]
    option = rows.options[int(rows.option[index])]
    pairing, data = option.pairing, int(rows.data[index])
    expert = int(rows.tensor[index]) * data if rows.expert[index] else 1
    return (
        (pairing.lane.id, pairing.method.recipe, pairing.engine.id, pairing.device.accelerator.id, option.cached.dtype)
        == (choice.lane, choice.recipe, choice.engine, pool.accelerator, choice.kv_cache_dtype)
        and (int(rows.tensor[index]), int(rows.pipeline[index]), data, expert)
        == (pool.tensor_parallel, pool.pipeline_parallel, pool.data_parallel, pool.expert_parallel)
        and int(rows.chunk[index]) == pool.settings.max_num_batched_tokens
    )


def _refusal(block: Swept, index: int, found: Found) -> str:
    """The first thing that the rules hold against one row."""
    if block.feasible[index] and block.affordable[index]:
        return ""
    case = refusals.measured(block, index, found.settled)
    return next((said.because for rule in MEASURED if (said := rule(case)) is not None), "it is no longer feasible")


def asked(plan: Plan) -> Request:
    """The request that a plan repeats."""
    return decode.decode(msgspec.json.encode(plan.request))


def is_any(request: Request) -> bool:
    """Whether any accelerator will do."""
    hardware = request.hardware
    return hardware is None or (hardware.accelerators is None and hardware.inventory is None)


def narrowed(request: Request, catalog: Catalog, choice: Candidate) -> tuple[Request, Catalog]:
    """Only the choice's lane and engine, on its accelerator and, where it is rented, its instance: a shorter search."""
    name = choice.pools[0].accelerator
    same = replace(request, lanes=(choice.lane,), engines=(choice.engine,))
    hardware = request.hardware
    if hardware is not None and hardware.inventory is not None:
        return same, catalog
    only = MappingProxyType({name: catalog.accelerator(name)})
    if is_any(request):
        offers = tuple(offer for offer in catalog.offers if _same(offer, choice)) or catalog.offers
        return same, dataclasses.replace(catalog, accelerators=only, offers=offers)
    own = hardware or Hardware()
    asks = tuple(ask for ask in own.accelerators or () if ask.id == name)
    return replace(same, hardware=replace(own, accelerators=asks)), dataclasses.replace(catalog, accelerators=only)


def rented(catalog: Catalog, choice: Candidate) -> Offer | None:
    """The offer that the choice is priced at; None for a price of one's own, or an offer that is gone."""
    return next((offer for offer in catalog.offers if _same(offer, choice)), None)


def _same(offer: Offer, choice: Candidate) -> bool:
    named = choice.offer if isinstance(choice.offer, dict) else {}
    if offer.accelerator != choice.pools[0].accelerator:
        return False
    return all(getattr(offer, name) == named.get(name) for name in ("provider", "instance", "region", "market"))


def scaled(request: Request, factor: float) -> Request:
    """The load times `factor`: the rate, the users (whole ones), the requests of a batch, or a trace's speed."""
    work = request.workload
    if isinstance(work.trace, tuple):
        faster = tuple(replace(row, arrival_s=row.arrival_s / factor) for row in work.trace)
        return replace(request, workload=replace(work, trace=faster))
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
    if isinstance(work.trace, tuple):
        return arrivals.described(work.trace).peak, "requests/s"
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
        own = tuple(_repriced(ask, factor) if touched(ask.id) else ask for ask in asks)
        request = replace(request, hardware=replace(request.hardware, accelerators=own))
    return request, dataclasses.replace(catalog, offers=offers)


def _repriced(ask: AcceleratorAsk, factor: float) -> AcceleratorAsk:
    """The request's own price times `factor`; of what was bought, capital and power alike."""
    if ask.owned is not None:
        bought = ask.owned
        dearer = {"capital_usd": bought.capital_usd * factor, "usd_per_kwh": bought.usd_per_kwh * factor}
        return replace(ask, owned=replace(bought, **dearer))
    return replace(ask, usd_per_hour=ask.usd_per_hour * factor) if ask.usd_per_hour else ask
