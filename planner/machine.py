"""A probed machine as alternatives to plan on: devices with what is free on them now.

Equal devices are one alternative per level of free memory, because a replica needs the same on each of its devices.
A MIG slice is a device of its own with its share of the whole; nothing spans slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from catalog.accelerator import Accelerator
from catalog.errors import BadInput
from catalog.inventory import Gpu, Inventory, Slice
from catalog.load import Catalog
from catalog.units import BytesPerSecond, FlopPerSecond
from planner.rules.rule import Device

LEVEL = 0.02
"""Devices whose free memory differs by less than this share of the whole count as equally free."""
MIG_COMPUTE = 7
"""Compute slices of a whole device (NVIDIA MIG user guide: 3g is three sevenths)."""
RATES = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")


def devices(inventory: Inventory, catalog: Catalog) -> tuple[Device, ...]:
    """What the machine can serve on. Raises BadInput when the catalogue knows none of it."""
    found = [*_gpus(inventory, catalog), *_slices(inventory, catalog), *_host(inventory, catalog)]
    if not found:
        raise BadInput(f"{nothing_known(inventory)}: name the accelerators", "$.hardware.inventory")
    return tuple(found)


def nothing_known(inventory: Inventory) -> str:
    """What the probe found and the catalogue does not know, or why it found nothing, in a sentence."""
    unknown = [gpu.name for gpu in inventory.gpus if gpu.accelerator is None]
    if unknown:
        return f"the catalogue does not know {', '.join(dict.fromkeys(unknown))}"
    return "; ".join(inventory.problems) or "the probe found no accelerator that the catalogue knows"


def left_out(inventory: Inventory, catalog: Catalog) -> tuple[str, ...]:
    """Names of devices that take no part because the catalogue does not know them."""
    return tuple(gpu.name for gpu in inventory.gpus if gpu.accelerator not in catalog.accelerators)


def _gpus(inventory: Inventory, catalog: Catalog) -> Iterator[Device]:
    """Equal devices together, those that wait for a reset apart; those in MIG mode serve by their slices alone."""
    groups: dict[tuple[str, float, bool], list[Gpu]] = {}
    for gpu in inventory.gpus:
        if gpu.accelerator and gpu.accelerator in catalog.accelerators and not gpu.mig:
            memory = gpu.memory_bytes or catalog.accelerators[gpu.accelerator].usable_memory or 0.0
            groups.setdefault((gpu.accelerator, memory, bool(gpu.needs_reset)), []).append(gpu)
    for (name, memory, _), gpus in groups.items():
        accelerator = _linked(catalog.accelerators[name], gpus)
        for free, having in levels(gpus, memory):
            yield _device(accelerator, memory, free, having, inventory, catalog)


def levels(gpus: Sequence[Gpu], memory: float) -> Iterator[tuple[float | None, tuple[Gpu, ...]]]:
    """The devices that have at least so much free, for every level that differs: the most devices last."""
    ordered = sorted(gpus, key=lambda gpu: (-_free(gpu, memory), gpu.index))
    for count, gpu in enumerate(ordered, start=1):
        following = ordered[count] if count < len(ordered) else None
        if following is None or _free(gpu, memory) - _free(following, memory) > LEVEL * memory:
            yield gpu.free_bytes, tuple(sorted(ordered[:count], key=lambda each: each.index))


def _free(gpu: Gpu, memory: float) -> float:
    return memory if gpu.free_bytes is None else gpu.free_bytes


def _linked(accelerator: Accelerator, gpus: Sequence[Gpu]) -> Accelerator:
    """Without the fast link where the driver reports none between these devices."""
    links = [link for gpu in gpus for link in gpu.links]
    if not links or any(link.kind == "nvlink" for link in links):
        return accelerator
    return replace(accelerator, link=None, link_bandwidth=None)


def _slices(inventory: Inventory, catalog: Catalog) -> Iterator[Device]:
    """MIG instances of equal profile and freedom together."""
    groups: dict[tuple[str, str], list[tuple[Gpu, Slice]]] = {}
    for gpu in inventory.gpus:
        for each in gpu.slices if gpu.accelerator in catalog.accelerators else ():
            groups.setdefault((gpu.accelerator or "", each.profile), []).append((gpu, each))
    for (name, profile), members in groups.items():
        whole, (gpu, first) = catalog.accelerators[name], members[0]
        memory = first.memory_bytes or 0.0
        free = [each.free_bytes for _, each in members if each.free_bytes is not None]
        part = sliced(whole, first, gpu.memory_bytes or whole.usable_memory or memory)
        gpus = tuple({each.index: each for each, _ in members}.values())
        made = _device(part, memory, min(free, default=None), gpus, inventory, catalog)
        pins = tuple(each.uuid for _, each in members)
        yield replace(made, most=len(members), per_node=1, slice=profile, pins=pins)


def sliced(whole: Accelerator, part: Slice, memory: float) -> Accelerator:
    """A slice's rates: compute by its compute slices, bandwidth by its memory (NVIDIA MIG user guide)."""
    compute = (part.compute_slices or int(part.profile[0])) / MIG_COMPUTE
    reads = min(1.0, (part.memory_bytes or 0.0) / memory)
    rates = {name: FlopPerSecond(rate * compute) for name in RATES if (rate := getattr(whole, name)) is not None}
    return replace(
        whole,
        id=f"{whole.id}:{part.profile}",
        name=f"{whole.name} MIG {part.profile}",
        bandwidth=BytesPerSecond(whole.bandwidth * reads),
        link=None,
        link_bandwidth=None,
        achieved_bf16=None,
        achieved_fp8=None,
        sms=round(whole.sms * compute) if whole.sms else None,
        **rates,
    )


def _host(inventory: Inventory, catalog: Catalog) -> Iterator[Device]:
    """The CPU, or the chip whose GPU shares its memory."""
    host = inventory.host
    if not host.accelerator or host.accelerator not in catalog.accelerators or host.ram_bytes is None:
        return
    accelerator = catalog.accelerators[host.accelerator]
    if any(gpu.accelerator == accelerator.id for gpu in inventory.gpus):
        return
    limits = [host.ram_available_bytes, host.gpu_working_set_bytes if accelerator.kind == "unified" else None]
    free = min((limit for limit in limits if limit is not None), default=None)
    yield _device(accelerator, host.ram_bytes, free, (), inventory, catalog)


def _device(
    accelerator: Accelerator,
    memory: float,
    free: float | None,
    gpus: tuple[Gpu, ...],
    inventory: Inventory,
    catalog: Catalog,
) -> Device:
    """One's own devices cost what their hire would, where that is known: nothing is free of cost."""
    offers = [offer for offer in catalog.offers_by_accelerator.get(accelerator.id, ()) if offer.confidence != "C"]
    offer = min(
        (each for each in offers if each.market == "on_demand"),
        key=lambda each: (each.usd_per_accelerator_hour, each.name),
        default=None,
    )
    count = max(1, len(gpus))
    return Device(
        accelerator=accelerator,
        most=count,
        memory=memory,
        per_node=count,
        usd_per_hour=offer.usd_per_accelerator_hour if offer else None,
        price_source=offer.source if offer else "",
        offer=offer,
        free=free,
        machine=inventory,
        gpus=gpus,
        pins=tuple(str(gpu.index) for gpu in gpus),
    )
