"""When nothing fits: single changes that would make the request feasible, each planned and priced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan
from typing import Protocol

from msgspec.structs import replace

from planner.cost import HOURS_PER_MONTH
from planner.plan import WayOut
from planner.rank import Row
from planner.request import AnyHardware, Budget, Hardware, Quality, Request, Slo
from planner.rules.rule import Device
from planner.settle import Settled

COUNTS = (2, 4, 8, 16, 32, 64)
TOLERANCES = (3.0, 5.0, 10.0)
SHORTEST = 1024
"""Tokens of context below which nothing is offered."""


class Found(Protocol):
    """What a search leaves behind, as far as a way out needs it."""

    @property
    def request(self) -> Request: ...
    @property
    def settled(self) -> Settled: ...
    @property
    def devices(self) -> tuple[Device, ...]: ...
    @property
    def choice(self) -> Row | None: ...


Search = Callable[[Request], Found]
Change = tuple[str, Request]


def ways_out(found: Found, search: Search) -> tuple[WayOut, ...]:
    """The cheapest first. Of each kind of change the smallest that helps; changes that only help together are not
    offered."""
    made = []
    for kind in KINDS:
        for change, asked in kind(found):
            answer = search(asked).choice
            if answer is not None:
                made.append(_way(change, answer, found))
                break
    unknown = float("inf")
    made.sort(key=lambda way: unknown if way.price_usd_per_month_delta is None else way.price_usd_per_month_delta)
    return tuple(made)


def _more_devices(found: Found) -> Iterator[Change]:
    """The same accelerators in the next counts, until one suffices."""
    hardware = found.request.hardware
    asks = hardware.accelerators if hardware is not None and hardware.accelerators is not None else ()
    for count in COUNTS:
        more = tuple(replace(ask, count=max(ask.count, count)) for ask in asks)
        if more != asks and hardware is not None:
            names = " or ".join(dict.fromkeys(ask.id for ask in asks))
            yield f"up to {count} {names}", replace(found.request, hardware=replace(hardware, accelerators=more))


def _other_hardware(found: Found) -> Iterator[Change]:
    if found.request.hardware is not None and found.request.hardware.any is None:
        yield "rent whatever is cheapest", replace(found.request, hardware=Hardware(any=AnyHardware()))


def _looser_quality(found: Found) -> Iterator[Change]:
    for tolerance in TOLERANCES:
        if tolerance > found.settled.objectives.max_loss_pct:
            yield f"tolerate {tolerance:g} % loss", replace(found.request, quality=Quality(max_loss_pct=tolerance))


def _shorter_context(found: Found) -> Iterator[Change]:
    load = found.settled.load
    shorter = load.context // 2
    while shorter >= load.prompt.mean + load.output.mean and shorter >= SHORTEST:
        work = replace(found.request.workload, context_tokens_max=shorter)
        yield f"limit the context to {shorter:,} tokens", replace(found.request, workload=work)
        shorter //= 2


def _no_objectives(found: Found) -> Iterator[Change]:
    if found.settled.objectives.slo_s:
        yield "drop the latency objectives", replace(found.request, slo=Slo())


def _more_budget(found: Found) -> Iterator[Change]:
    if found.settled.objectives.usd_per_month is not None:
        yield "raise the budget", replace(found.request, budget=Budget())


def _lanes(found: Found) -> Iterator[Change]:
    if found.request.lanes is not None:
        yield "consider every lane", replace(found.request, lanes=None)


def _engines(found: Found) -> Iterator[Change]:
    """Every engine, each in its newest version."""
    if found.request.engines is not None:
        yield "consider every engine", replace(found.request, engines=None)
    if found.request.engine_versions:
        yield "plan for the newest engine versions", replace(found.request, engine_versions=None)


def _merged_adapters(found: Found) -> Iterator[Change]:
    lora = found.settled.load.lora
    if lora is not None and not lora.merged:
        work = replace(found.request.workload, lora=replace(lora, merged=True))
        yield "merge the adapter first", replace(found.request, workload=work)


def _freed_memory(found: Found) -> Iterator[Change]:
    """The same machine with nothing else on it."""
    hardware = found.request.hardware
    if hardware is None:
        return
    if hardware.reserved is not None:
        yield "reserve no memory", replace(found.request, hardware=replace(hardware, reserved=None))
    if hardware.inventory is not None and any(gpu.processes for gpu in hardware.inventory.gpus):
        gpus = tuple(replace(gpu, free_bytes=gpu.memory_bytes, processes=()) for gpu in hardware.inventory.gpus)
        idle = replace(hardware, inventory=replace(hardware.inventory, gpus=gpus))
        yield "stop the other processes", replace(found.request, hardware=idle)


def _way(change: str, answer: Row, found: Found) -> WayOut:
    pairing = answer.option.pairing
    count, cost = int(answer.at(answer.swept.devices)), answer.at(answer.swept.usd_per_month)
    base = _price_asked(found)
    delta = None if base is None or isnan(cost) else round(cost - base, 2)
    then = f"{pairing.lane.id} on {count} x {pairing.device.accelerator.id} with {pairing.engine.id}"
    return WayOut(
        change=change,
        then=then if isnan(cost) else f"{then}, {cost:,.0f} $ a month",
        price_usd_per_month_delta=delta,
        quality_delta_pct=-round(answer.option.loss.value, 3),
    )


def _price_asked(found: Found) -> float | None:
    """What the budget allows, or what all the devices that were named cost a month; None without a price."""
    limit = found.settled.objectives.usd_per_month
    if limit is not None:
        return limit
    prices = [device.usd_per_hour * device.most for device in found.devices if device.usd_per_hour is not None]
    return min(prices) * HOURS_PER_MONTH if prices else None


KINDS: tuple[Callable[[Found], Iterator[Change]], ...] = (
    _more_devices,
    _other_hardware,
    _looser_quality,
    _shorter_context,
    _no_objectives,
    _more_budget,
    _lanes,
    _engines,
    _merged_adapters,
    _freed_memory,
)
"""Adding a way out: a function that yields changes, the smallest first, and its name here."""
