"""The request's hardware as a list of alternatives, each with memory, count and price."""

from __future__ import annotations

from msgspec.structs import replace

from catalog.accelerator import Accelerator
from catalog.errors import BadInput
from catalog.load import Catalog
from catalog.price import Offer
from catalog.units import GIB
from planner import machine, owned
from planner.request import AcceleratorAsk, AnyHardware, Hardware, Request
from planner.rules.rule import Device

ANY = AnyHardware()


def devices(request: Request, catalog: Catalog) -> tuple[Device, ...]:
    """The probed ones, the named ones, or every one that the catalogue can price when any will do."""
    hardware = request.hardware or Hardware()
    if hardware.inventory is not None:
        found = machine.devices(hardware.inventory, catalog)
    elif hardware.accelerators is not None:
        found = tuple(_named(ask, index, catalog) for index, ask in enumerate(hardware.accelerators))
    else:
        asked = hardware.any or ANY
        found = tuple(device for each in catalog.accelerators.values() for device in _rented(each, asked, catalog))
    kept = hardware.reserved.memory_gib * GIB if hardware.reserved else 0.0
    return tuple(_without(device, kept) for device in found) if kept else found


def _without(device: Device, kept: float) -> Device:
    """The device without `kept` bytes, which something else keeps."""
    if device.memory is None:
        return device
    return replace(device, free=max(0.0, (device.memory if device.free is None else device.free) - kept))


def _named(ask: AcceleratorAsk, index: int, catalog: Catalog) -> Device:
    """One alternative of the request; without a price of its own it is priced at the cheapest offer per device."""
    try:
        accelerator = catalog.accelerator(ask.id)
    except BadInput as fault:
        raise BadInput(fault.message, f"$.hardware.accelerators[{index}].id") from None
    if ask.interconnect == "pcie":
        accelerator = replace(accelerator, link=None, link_bandwidth=None)
    own, source = _own_price(ask, accelerator, f"$.hardware.accelerators[{index}]")
    offers = _offers(accelerator, ANY, catalog) if own is None else []
    offer = min(offers, key=_cheapest, default=None)
    return Device(
        accelerator=accelerator,
        most=ask.count,
        memory=_memory(accelerator, ask),
        per_node=ask.per_node or accelerator.per_node,
        usd_per_hour=offer.usd_per_accelerator_hour if offer else own,
        price_source=offer.source if offer else source,
        offer=offer,
        doubtful_usd_per_hour=_doubtful(accelerator, catalog) if offer is None and own is None else None,
        ask=ask,
    )


def _own_price(ask: AcceleratorAsk, accelerator: Accelerator, path: str) -> tuple[float | None, str]:
    """($/h of one device as the request has it, where that comes from)."""
    if ask.owned is not None:
        hourly = owned.usd_per_hour(ask.owned, accelerator, f"{path}.owned")
        return hourly, owned.source(ask.owned, accelerator)
    return ask.usd_per_hour, "" if ask.usd_per_hour is None else "the request"


def _rented(accelerator: Accelerator, asked: AnyHardware, catalog: Catalog) -> list[Device]:
    """One alternative per instance size: tensor parallel stays within an instance, and whole instances are paid."""
    best: dict[int, Offer] = {}
    for offer in sorted(_offers(accelerator, asked, catalog), key=_cheapest):
        best.setdefault(offer.count, offer)
    return [
        Device(
            accelerator=accelerator,
            most=asked.max_accelerators,
            memory=accelerator.usable_memory,
            per_node=min(accelerator.per_node, size),
            per_instance=size,
            usd_per_hour=offer.usd_per_accelerator_hour,
            price_source=offer.source,
            offer=offer,
        )
        for size, offer in sorted(best.items())
        if size <= asked.max_accelerators
    ]


def _memory(accelerator: Accelerator, ask: AcceleratorAsk) -> float | None:
    """Bytes of one device: as the request says, else as the driver reports, else as sold."""
    stated = ask.memory_gib or (ask.host_ram_gib if accelerator.kind == "cpu" else None)
    return stated * GIB if stated else accelerator.usable_memory


def _offers(accelerator: Accelerator, asked: AnyHardware, catalog: Catalog) -> list[Offer]:
    """Offers of the asked market, providers and regions; those of confidence C never count."""
    return [
        offer
        for offer in catalog.offers_by_accelerator.get(accelerator.id, ())
        if offer.confidence != "C"
        and offer.market == asked.market
        and (not asked.providers or offer.provider in asked.providers)
        and (not asked.regions or offer.region in asked.regions)
    ]


def _cheapest(offer: Offer) -> tuple[float, int, str, str]:
    """The lowest price per device first, larger instances at the same price; names make it the same every time."""
    return offer.usd_per_accelerator_hour, -offer.count, offer.provider, offer.instance


def _doubtful(accelerator: Accelerator, catalog: Catalog) -> float | None:
    offers = catalog.offers_by_accelerator.get(accelerator.id, ())
    return min((o.usd_per_accelerator_hour for o in offers if o.confidence == "C"), default=None)
