"""Which catalogue entry a device is. A name alone is not enough: a wrong entry is worse than none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from catalog.accelerator import Accelerator
from catalog.inventory import Gpu

SHOWN_LEAST, SHOWN_MOST = 0.9, 1.02
"""Shares of the memory as sold that drivers show: 0.92 (T4 with error correction) to 1.017 (GH200 of 144 GB)."""
SAME_POWER = 0.05
"""How far a default power limit may lie from the catalogue's to tell two entries of one name apart: assumed."""

Accelerators = Mapping[str, Accelerator]


class Match(Struct, frozen=True, kw_only=True):
    """A catalogue key, or the sentence why there is none."""

    key: str | None = None
    because: str | None = None


def entries_named(name: str, accelerators: Accelerators) -> tuple[Accelerator, ...]:
    """NVIDIA entries that a driver calls `name`; drivers before 465 left the vendor's name out."""
    return tuple(
        entry
        for entry in accelerators.values()
        if entry.vendor == "nvidia" and _bare(name) in {_bare(known) for known in entry.nvml_names}
    )


def _bare(name: str) -> str:
    return name.strip().removeprefix("NVIDIA ").casefold()


def gpu(device: Gpu, accelerators: Accelerators) -> Match:
    """By the driver's name, and memory, compute capability and default power limit, which tell variants apart."""
    named = entries_named(device.name, accelerators)
    if not named:
        return Match(because=f"the catalogue has no {device.name or 'device without a name'}")
    if device.memory_bytes is None:
        return Match(because=f"not looked up in the catalogue: without its memory, a {device.name} may be a variant")
    alike = [entry for entry in named if _fits(device, entry)]
    if len(alike) > 1:
        alike = [entry for entry in alike if _same_power(device, entry)] or alike
    if len(alike) == 1:
        return Match(key=alike[0].id)
    what = f"{device.name} with {device.memory_bytes / 2**30:.1f} GiB, compute capability {device.compute_capability}"
    doubt = f"may be {_either(alike)}" if alike else f"is not {_either(named)}"
    return Match(because=f"{what} {doubt} of the catalogue")


def _fits(device: Gpu, entry: Accelerator) -> bool:
    if entry.memory is None or device.memory_bytes is None:
        return False
    share = device.memory_bytes / entry.memory
    known = device.compute_capability or entry.compute_capability
    return SHOWN_LEAST <= share <= SHOWN_MOST and known == entry.compute_capability


def _same_power(device: Gpu, entry: Accelerator) -> bool:
    if device.power_default_w is None or entry.tdp is None:
        return False
    return abs(device.power_default_w / entry.tdp - 1) <= SAME_POWER


def _either(entries: Iterable[Accelerator]) -> str:
    return " or ".join(entry.id for entry in entries)


def apple(chip: str, gpu_cores: int | None, accelerators: Accelerators) -> Match:
    """`Apple M3 Max` and its GPU cores: some chips are sold with two counts, and have an entry for each."""
    stem = "-".join(chip.lower().split())
    exact = [stem, *([f"{stem}-{gpu_cores}c"] if gpu_cores else [])]
    for key in exact:
        if key in accelerators and accelerators[key].vendor == "apple":
            return Match(key=key)
    variants = [entry for key, entry in accelerators.items() if re.fullmatch(rf"{re.escape(stem)}-\d+c", key)]
    if variants:
        cores = f"{gpu_cores} GPU cores" if gpu_cores else "an unknown number of GPU cores"
        return Match(because=f"{chip} with {cores} is neither {_either(variants)} of the catalogue")
    return Match(because=f"the catalogue has no {chip}")


def cpu(name: str, accelerators: Accelerators) -> Match:
    """A server CPU by the words of its name: `AMD EPYC 9654 96-Core Processor` is epyc-9654, and so is a 9654P."""
    words = {re.sub(r"\(\w+\)", "", word).lower().rstrip("+") for word in name.split()}
    words |= {word.removesuffix("p") for word in words if "epyc" in words}
    found = [entry for entry in accelerators.values() if entry.kind == "cpu" and set(entry.id.split("-")[:2]) <= words]
    if len(found) == 1:
        return Match(key=found[0].id)
    if found:
        return Match(because=f"{name} is {_either(found)}: its memory decides, and cannot be read")
    return Match(because=f"the catalogue has no {name}")
