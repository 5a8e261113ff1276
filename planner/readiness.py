"""How long a replica takes until it serves: warm, with the checkpoint on its disk and its kernels compiled; cold, with
nothing there yet.

Counted from the start of the process. A machine that has to be rented first and an image that has to be pulled come
on top. The constants are data (`starts` in catalog/data/engines); every formula takes a float, an array or a traced
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic

from catalog.engine import Engine, Start
from catalog.units import GIB
from planner.lanes import BY_ID, part_bytes
from planner.plan import Basis, Estimate
from planner.rooms import Terms, held_bytes
from planner.rules.rule import Pairing
from planner.spread import between
from planner.trace import N, Num, Unit, largest, step

DOUBT = 4.0
"""Factor either way by which a disk or a network that nobody stated may be faster or slower (assumed)."""
RATE: Unit = {"byte": 1, "s": -1}
UNITS: dict[str, Unit] = {
    "fetched_bytes": {"byte": 1}, "file_bytes": {"byte": 1}, "device_bytes": {"byte": 1}, "network": RATE, "disk": RATE,
    "copy": RATE, "layers": {}, "graphs": {},
}  # fmt: skip
"""Units by field; all others are seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Generic[N]):
    """What decides the start of one replica: bytes, byte/s, seconds."""

    fetched_bytes: N
    """Over the network at a cold start; 0 where the machine has no way to the hub."""
    file_bytes: N
    """Read from the disk at every start."""
    device_bytes: N
    """What one process puts on its device."""
    layers: N
    """Of one stage."""
    graphs: N
    """CUDA graphs to capture."""
    network: N
    disk: N
    copy: N
    """From the page cache to the device, of one process."""
    process: N
    """Imports, configuration, worker processes."""
    compile: N
    """torch.compile, of one layer …"""
    cached: N
    """… and what it still takes when its cache is there."""
    profile: N
    """Memory profiling and warm-up."""
    capture: N
    """One graph of one layer."""


@step
def download_s(start: Starting[N]) -> N:
    """The checkpoint comes over the network once per machine."""
    return start.fetched_bytes / start.network


@step
def load_s(start: Starting[N]) -> N:
    """Ranks map one file and each copies its part: the slower of reading the file and filling the device."""
    return largest(start.file_bytes / start.disk, start.device_bytes / start.copy)


@step
def capture_s(start: Starting[N]) -> N:
    """Every CUDA graph is recorded layer by layer."""
    return start.graphs * start.layers * start.capture


@step
def warm_s(start: Starting[N]) -> N:
    """The checkpoint is on the disk, compiled kernels are in their cache."""
    compiled = start.layers * start.cached
    return start.process + load_s(start) + compiled + start.profile + capture_s(start)


@step
def cold_s(start: Starting[N]) -> N:
    """A machine that has the image and nothing else. The file is read back: nobody knows whether the host's memory
    still holds it."""
    compiled = start.layers * start.compile
    return download_s(start) + start.process + load_s(start) + compiled + start.profile + capture_s(start)


def graphs(engine: Engine, slots: float) -> float:
    """CUDA graphs that vLLM captures for that many slots: piecewise ones up to twice as many tokens, and whole ones
    for decoding (vllm 0.33 config/vllm.py: sizes 1, 2, 4, by 8 to 256, by 16 to 512)."""
    if engine.id != "vllm":
        return 0.0
    return _sizes(min(2 * slots, 512.0)) + _sizes(min(slots, 512.0))


def _sizes(most: float) -> float:
    small = sum(size <= most for size in (1, 2, 4))
    return small + min(most, 256.0) // 8 + max(most - 256.0, 0.0) // 16


def checkpoint_bytes(pairing: Pairing) -> float:
    """Of the files that are opened: the 16-bit original where the engine quantizes while it loads."""
    if pairing.own is not None and pairing.own.weight_bytes is not None:
        return pairing.own.weight_bytes
    method = BY_ID["bf16"].methods[0] if pairing.method.recipe.online else pairing.method
    return sum(part_bytes(pairing.model, method).values())


def starting(pairing: Pairing, terms: Terms[float], slots: float) -> Starting[float] | None:
    """The start of one replica; None where nothing is known of the engine's."""
    rows = _rows(pairing)
    if not rows:
        return None
    files, alone = checkpoint_bytes(pairing), pairing.engine.id == "llama.cpp"
    here = pairing.settled.request.air_gapped
    parts = {name: rows[name].value if name in rows else 0.0 for name in PARTS}
    return Starting(
        fetched_bytes=0.0 if here else files,
        file_bytes=files,
        device_bytes=files if alone else held_bytes(terms),
        layers=terms.shape.layers / terms.layout.pipeline,
        graphs=graphs(pairing.engine, slots),
        network=pairing.settled.network,
        disk=pairing.settled.disk,
        copy=GIB / rows["copy"].value,
        **parts,
    )


PARTS = ("process", "compile", "cached", "profile", "capture")
"""Rows of the data whose value is a field of `Starting` as it stands; `copy` is seconds per GiB there."""


def _rows(pairing: Pairing) -> Mapping[str, Start]:
    return pairing.engine.start_rows(pairing.device.accelerator)


def estimates(pairing: Pairing, terms: Terms[float], slots: float) -> dict[str, Estimate]:
    """`ready_s` warm and `ready_cold_s`; nothing where nothing is known of the engine's starts."""
    start = starting(pairing, terms, slots)
    if start is None:
        return {}
    ends, basis = _ends(pairing, start), _basis(pairing)
    made = {}
    for name, formula in (("ready_s", warm_s), ("ready_cold_s", cold_s)):
        value = formula(start)
        below = math.hypot(*(max(value - formula(fast), 0.0) for fast, _ in ends))
        above = math.hypot(*(max(formula(slow) - value, 0.0) for _, slow in ends))
        made[name] = between(max(value - below, 0.0), value, value + above, basis, "s")
    return made


def _ends(pairing: Pairing, start: Starting[float]) -> list[tuple[Starting[float], Starting[float]]]:
    """The start with one part at the fast and at the slow end of its interval, for every part: they vary alone."""
    made = []
    for name, row in _rows(pairing).items():
        fast, slow = (GIB / row.low, GIB / row.high) if name == "copy" else (row.low, row.high)
        made.append((replace(start, **{name: fast}), replace(start, **{name: slow})))
    for name in pairing.settled.guessed:
        rate = getattr(start, name)
        made.append((replace(start, **{name: rate * DOUBT}), replace(start, **{name: rate / DOUBT})))
    return made


def _basis(pairing: Pairing) -> Basis:
    cited = all(not row.source.startswith("assumed") for row in _rows(pairing).values())
    return "published" if cited and not pairing.settled.guessed else "assumed"


def derived(pairing: Pairing, terms: Terms[float], slots: float) -> list[Num]:
    """Both times with their steps."""
    start = starting(pairing, terms, slots)
    if start is None:
        return []
    told = Starting(
        **{
            name: Num(getattr(start, name), UNITS.get(name, {"s": 1}), name=f"start_{name}", source=source)
            for name, source in _sources(pairing).items()
        }
    )
    warm, cold = warm_s(told), cold_s(told)
    warm.name, cold.name = "ready_s", "ready_cold_s"
    return [warm, cold]


def _sources(pairing: Pairing) -> dict[str, str]:
    rows, model = _rows(pairing), pairing.model.id
    rates = {
        name: "assumed: nobody stated it" if name in pairing.settled.guessed else "the request"
        for name in ("network", "disk")
    }
    files = f"tensor shapes of {model}: files as {'bf16' if pairing.method.recipe.online else pairing.lane.id}"
    away = "air-gapped: nothing is downloaded" if pairing.settled.request.air_gapped else files
    return {
        "fetched_bytes": away,
        "file_bytes": files,
        "device_bytes": files,
        "layers": "the model's layers over pipeline stages",
        "graphs": "vllm 0.33 config/vllm.py capture sizes, for the planned slots",
        **rates,
        **{name: rows[name].source if name in rows else "no such part" for name in ("copy", *PARTS)},
    }
