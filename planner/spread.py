"""How far a memory estimate may be off: half of the 80 % interval of each part (`spread` in catalog/data/engines)."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.accelerator import Accelerator
from catalog.engine import Engine, Part
from catalog.model import Model
from catalog.units import GIB
from planner.lanes.gguf import UNSLOTH_BITS
from planner.lanes.lane import Lane
from planner.plan import Basis, Estimate
from planner.work import Layout


def tags(model: Model, lane: Lane, layout: Layout[float], device: Accelerator | None) -> frozenset[str]:
    """What widens an interval: parts of a model, groups and devices that few or no logs speak of."""
    other, group = device is not None and device.architecture != "hopper", layout.tensor * layout.data
    true = {
        "moe": model.moe is not None, "latent": model.mla is not None, "linear": model.linear is not None,
        "vision": model.extra_params > 0, "4-bit": lane.family.startswith("4-bit"),
        "i-quant": lane.id[5:].startswith("IQ"), "unsloth": lane.id[5:] in UNSLOTH_BITS,
        "tensor": group > 1, "wide": group > 4, "pipeline": layout.pipeline > 1,
        "device": other, "group elsewhere": other and group > 1,
        "shared": device is not None and device.kind == "unified", "host": device is not None and device.kind == "cpu",
    }  # fmt: skip
    return frozenset(name for name, holds in true.items() if holds)


@dataclass(frozen=True)
class Half:
    """Half of an interval in bytes, and whether it rests on logs."""

    bytes: float
    basis: Basis


def half(engine: Engine, version: str, part: Part, size: float, given: frozenset[str]) -> Half:
    """Of a part of `size` bytes; the widest row that fits decides."""
    rows = [row for row in engine.spread if row.part == part and row.exists(version)]
    widths = [
        (row.ln * size + row.gib * GIB, row.source.startswith("assumed"))
        for row in rows
        if not row.when or row.when in given
    ]
    width, assumed = max(widths, default=(0.0, False))
    return Half(width, "assumed" if assumed else "fitted")


def between(low: float, value: float, high: float, basis: Basis, unit: str) -> Estimate:
    """An estimate whose interval holds its value."""
    return Estimate(
        value=_short(value), low=_short(min(low, value)), high=_short(max(high, value)), basis=basis, unit=unit
    )


def _short(value: float) -> float:
    """Six digits say more than any estimate here knows, and keep plans readable."""
    return float(f"{value:.6g}")
