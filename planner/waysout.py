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
MOST = 6


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


def ways_out(found: Found, search: Search) -> tuple[WayOut, ...]:
    """The cheapest first; a change that helps only together with another is not offered."""
    made = []
    for change, asked in _changes(found):
        answer = search(asked).choice
        if answer is not None:
            made.append(_way(change, answer, found))
    unknown = float("inf")
    made.sort(key=lambda way: unknown if way.price_usd_per_month_delta is None else way.price_usd_per_month_delta)
    return tuple(made[:MOST])


def _changes(found: Found) -> Iterator[tuple[str, Request]]:
    yield from _more_devices(found)
    yield from _other_hardware(found)
    yield from _looser_quality(found)
    yield from _shorter_context(found)
    yield from _no_objectives(found)
    yield from _more_budget(found)
    if found.request.lanes is not None:
        yield "consider every lane", replace(found.request, lanes=None)


def _more_devices(found: Found) -> Iterator[tuple[str, Request]]:
    """The same accelerators in the next counts, until one suffices."""
    hardware = found.request.hardware
    asks = hardware.accelerators if hardware is not None and hardware.accelerators is not None else ()
    for index, ask in enumerate(asks):
        for count in COUNTS:
            if count > ask.count:
                one = replace(ask, count=count)
                yield (
                    f"up to {count} {ask.id} instead of {ask.count}",
                    replace(found.request, hardware=Hardware(accelerators=(*asks[:index], one, *asks[index + 1 :]))),
                )


def _other_hardware(found: Found) -> Iterator[tuple[str, Request]]:
    if found.request.hardware is not None and found.request.hardware.any is None:
        yield "rent whatever is cheapest", replace(found.request, hardware=Hardware(any=AnyHardware()))


def _looser_quality(found: Found) -> Iterator[tuple[str, Request]]:
    limits = found.settled.objectives
    for tolerance in TOLERANCES:
        if tolerance > limits.max_loss_pct:
            yield f"tolerate {tolerance:g} % loss", replace(found.request, quality=Quality(max_loss_pct=tolerance))


def _shorter_context(found: Found) -> Iterator[tuple[str, Request]]:
    load = found.settled.load
    shorter = load.context // 2
    while shorter >= load.prompt.mean + load.output.mean and shorter >= 1024:
        work = replace(found.request.workload, context_tokens_max=shorter)
        yield f"limit the context to {shorter:,} tokens", replace(found.request, workload=work)
        shorter //= 2


def _no_objectives(found: Found) -> Iterator[tuple[str, Request]]:
    if found.settled.objectives.slo_s:
        yield "drop the latency objectives", replace(found.request, slo=Slo())


def _more_budget(found: Found) -> Iterator[tuple[str, Request]]:
    if found.settled.objectives.usd_per_month is not None:
        yield "raise the budget", replace(found.request, budget=Budget())


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
