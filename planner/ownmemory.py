"""What the user's own engines said of their memory while they started, in plans of the same deployment.

A size replaces its estimate where machine, model, lane and engine version are those of the log, and every setting that
its law depends on is the same: weights on as many devices, a graph or a profiled step of as many slots and tokens.
Anything else keeps its law: what a measured term has beside it is not known to scale with it. Whether an engine starts
is still counted by the laws alone, on which other settings are compared. Bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct

from catalog.observation import Observation
from catalog.units import GIB
from planner.plan import Estimate
from planner.spread import between

MIB = 2.0**20
TERMS = {
    "weights_gib": ("vllm", "weight_bytes", GIB), "model_buffer_mib": ("llama.cpp", "weight_bytes", MIB),
    "activation_peak_gib": ("vllm", "activation_bytes", GIB),
    "compute_buffer_mib": ("llama.cpp", "activation_bytes", MIB),
}  # fmt: skip
"""Metric -> whose log prints it, the estimate that it is beside, bytes of its unit."""
PRINTED_TO = 0.005
"""Half of the last digit that both engines print, in the unit of the line."""


class Deployed(Struct, frozen=True, kw_only=True):
    """A candidate's replica, as far as its memory depends on it."""

    accelerator: str
    devices: int
    tensor: int
    engine: str
    version: str
    lane: str
    model: str
    kv_dtype: str
    context: float
    """Tokens of one sequence."""
    slots: float
    chunk: float


def known(observations: Sequence[Observation]) -> dict[tuple[str, ...], tuple[Observation, ...]]:
    """Sizes by machine, engine with its version, lane and model."""
    found: dict[tuple[str, ...], list[Observation]] = {}
    for row in observations:
        if row.metric in TERMS and TERMS[row.metric][0] == row.engine:
            version = row.engine_version.partition(" ")[0]
            found.setdefault((row.accelerator, row.engine, version, row.lane, row.model), []).append(row)
    return {key: tuple(rows) for key, rows in found.items()}


def measured(
    rows: Mapping[tuple[str, ...], tuple[Observation, ...]], of: Deployed, made: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """The estimates that logs of this very deployment replace, and the pool that is left beside them."""
    near = rows.get((of.accelerator, of.engine, of.version, of.lane, of.model), ())
    sizes: dict[str, list[float]] = {}
    for row in near:
        _, name, unit = TERMS[row.metric]
        if _same(row, of, name):
            sizes.setdefault(name, []).append(row.value * unit)
    off = PRINTED_TO * (GIB if of.engine == "vllm" else MIB)
    moved = {
        name: between(max(size - off, 0.0), size, size + off, "measured", "B")
        for name, found in sizes.items()
        for size in [statistics.median(found)]
    }
    return moved | _left(made, moved)


def _same(row: Observation, of: Deployed, name: str) -> bool:
    """Whether everything that decides the term is as it was logged. llama.cpp's sizes are summed over its devices."""
    if (
        row.accelerators != of.devices
        or (row.tensor or 1) != of.tensor
        or (of.engine == "llama.cpp" and of.devices > 1)
    ):
        return False
    if name == "weight_bytes":
        return True
    if (row.sequences, row.batched_tokens) != (of.slots, of.chunk):
        return False
    if of.engine == "vllm":
        return True
    return row.flash_attention == "1" and row.kv_dtype == of.kv_dtype and row.context == of.context * of.slots


def _left(made: Mapping[str, Estimate], moved: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The pool, larger or smaller by what others take less or more."""
    if not moved:
        return {}
    pool, less = made["kv_pool_bytes"], sum(made[name].value - each.value for name, each in moved.items())
    return {"kv_pool_bytes": between(pool.low + less, pool.value + less, pool.high + less, pool.basis, "B")}
