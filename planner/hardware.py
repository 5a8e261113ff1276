"""The request's hardware as a list of alternatives, each with memory, count and price."""

from __future__ import annotations

from catalog.accelerator import Accelerator
from catalog.errors import BadInput
from catalog.load import Catalog
from catalog.price import Offer
from planner.request import AcceleratorAsk, AnyHardware, Request
from planner.rules.rule import Device

GIB = 2**30
ANY = AnyHardware()


def devices(request: Request, catalog: Catalog) -> tuple[Device, ...]:
    """The named accelerators, or every one that the catalogue can price when any will do."""
    hardware = request.hardware
    if hardware is not None and hardware.accelerators is not None:
        return tuple(_named(ask, index, catalog) for index, ask in enumerate(hardware.accelerators))
    asked = hardware.any if hardware is not None and hardware.any is not None else ANY
    priced = (_priced(device, asked, catalog) for device in catalog.accelerators.values())
    return tuple(device for device in priced if device is not None)


def _named(ask: AcceleratorAsk, index: int, catalog: Catalog) -> Device:
    try:
        accelerator = catalog.accelerator(ask.id)
    except BadInput as fault:
        raise BadInput(fault.message, f"$.hardware.accelerators[{index}].id") from None
    offer = cheapest(accelerator, ANY, catalog) if ask.usd_per_hour is None else None
    return Device(
        accelerator=accelerator,
        most=ask.count,
        memory=_memory(accelerator, ask),
        per_node=ask.per_node or accelerator.per_node,
        usd_per_hour=offer.usd_per_accelerator_hour if offer else ask.usd_per_hour,
        price_source=offer.source if offer else "the request" if ask.usd_per_hour is not None else "",
        offer=offer,
        doubtful_usd_per_hour=_doubtful(accelerator, catalog) if offer is None and ask.usd_per_hour is None else None,
        ask=ask,
    )


def _priced(accelerator: Accelerator, asked: AnyHardware, catalog: Catalog) -> Device | None:
    offer = cheapest(accelerator, asked, catalog)
    if offer is None:
        return None
    return Device(
        accelerator=accelerator,
        most=asked.max_accelerators,
        memory=accelerator.usable_memory,
        per_node=min(accelerator.per_node, max(1, offer.count)),
        usd_per_hour=offer.usd_per_accelerator_hour,
        price_source=offer.source,
        offer=offer,
    )


def _memory(accelerator: Accelerator, ask: AcceleratorAsk) -> float | None:
    """Bytes of one device: as the request says, else as the driver reports, else as sold."""
    stated = ask.memory_gib or (ask.host_ram_gib if accelerator.kind == "cpu" else None)
    return stated * GIB if stated else accelerator.usable_memory


def cheapest(accelerator: Accelerator, asked: AnyHardware, catalog: Catalog) -> Offer | None:
    """The lowest trusted price per device in the asked market; offers of confidence C never count.

    Larger instances are preferred at the same price, because tensor parallel groups need one node.
    """
    offers = [
        offer
        for offer in catalog.offers_by_accelerator.get(accelerator.id, ())
        if offer.confidence != "C"
        and offer.market == asked.market
        and (not asked.providers or offer.provider in asked.providers)
        and (not asked.regions or offer.region in asked.regions)
    ]
    return min(offers, key=lambda o: (o.usd_per_accelerator_hour, -o.count, o.provider, o.instance), default=None)


def _doubtful(accelerator: Accelerator, catalog: Catalog) -> float | None:
    offers = catalog.offers_by_accelerator.get(accelerator.id, ())
    return min((o.usd_per_accelerator_hour for o in offers if o.confidence == "C"), default=None)
