"""How far a memory prediction may be off: 80 % intervals from its parts (catalog/data/truth/memory.toml)."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from catalog.engine import Dated
from catalog.load import DATA
from catalog.units import GIB
from planner import startup
from planner.logs import Described, backend, build

FILE = DATA / "truth" / "memory.toml"
Part = Literal["weights", "activation", "outside", "graphs", "claim", "pages", "file", "cache", "compute", "process"]


class Excluded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that are scored but not fitted to."""

    ids: tuple[str, ...]
    reason: str


class Spread(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Half of the 80 % interval of one part, for some versions and, with `when`, for rows of one kind."""

    engine: Literal["vllm", "llama.cpp"]
    part: Part
    when: str = ""
    """A tag of planner.logs.Described; empty for every row."""
    ln: float = 0.0
    """Relative."""
    gib: float = 0.0
    """Absolute, GiB."""
    source: str
    """`assumed: …` where too few models have rows."""


class Beside(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    excluded: tuple[Excluded, ...]
    spread: tuple[Spread, ...]

    @property
    def unfitted(self) -> frozenset[str]:
        """Ids of the excluded rows."""
        return frozenset(name for entry in self.excluded for name in entry.ids)


@cache
def beside(path: Path = FILE) -> Beside:
    """Read the file once."""
    return msgspec.toml.decode(path.read_bytes(), type=Beside)


def interval(found: Described, predicted: float) -> tuple[float, float]:
    """The ends of the 80 % interval, in the unit of the row's metric, with half of the last digit that is printed."""
    row = found.row
    relative = (_vllm if row.engine == "vllm" else _llamacpp)(found, predicted)
    digit = {"GiB": 0.005, "x": 0.005, "MiB": 0.005, "tokens": 8.0, "bytes": 256.0}.get(row.unit, 0.0)
    low, high = predicted * math.exp(-relative), predicted * math.exp(relative)
    return max(0.0, low - digit), high + digit


def bytes_off(found: Described, part: Part, size: float) -> float:
    """Half of the interval of a part of `size` bytes."""
    rows = [row for row in beside().spread if row.engine == found.row.engine and row.part == part]
    version = found.version if found.row.engine == "vllm" else str(build(found.row))
    fits = [row for row in rows if row.exists(version) and (not row.when or row.when in found.tags)]
    return max((row.ln * size + row.gib * GIB for row in fits), default=0.0)


def pool_off(found: Described) -> float:
    """Half of the interval of vLLM's pool, bytes: its parts are subtracted from the claim."""
    log = found.log
    subtracted = log.graphs if log.cache < log.claimed - log.weights - log.activation - log.outside else 0.0
    parts: dict[Part, float] = {
        "weights": log.weights, "activation": log.activation, "outside": log.outside, "claim": log.claimed,
    }  # fmt: skip
    parts |= {"graphs": subtracted} if subtracted else {}
    return math.hypot(*(bytes_off(found, part, size) for part, size in parts.items()))


def _vllm(found: Described, predicted: float) -> float:
    log, metric = found.log, found.row.metric
    alone: dict[str, tuple[Part, float]] = {
        "weights_gib": ("weights", log.weights), "activation_peak_gib": ("activation", log.activation),
        "non_torch_gib": ("outside", log.outside), "cuda_graph_gib": ("graphs", log.graphs),
    }  # fmt: skip
    if metric in alone:
        part, size = alone[metric]
        return bytes_off(found, part, size) / size
    paged = 0.0 if metric == "kv_cache_gib" else bytes_off(found, "pages", log.cache)
    return min(1.5, math.hypot(pool_off(found), paged) / max(log.cache, 0.02 * log.claimed))


def _llamacpp(found: Described, predicted: float) -> float:
    made, metric = found.buffers, found.row.metric
    if metric.startswith("gguf_file"):
        return bytes_off(found, "file", made.file) / made.file
    alone: dict[str, tuple[Part, float]] = {
        "model_buffer_mib": ("file", made.model), "kv_mib": ("cache", made.cache),
        "compute_buffer_mib": ("compute", made.compute),
    }  # fmt: skip
    if metric in alone:
        part, size = alone[metric]
        return bytes_off(found, part, size) / size
    shared = "shared" in found.tags
    process = startup.process_bytes(found.engine, backend(found.row), fused=found.fused) if shared else 0.0
    parts: dict[Part, float] = {"file": made.model, "cache": made.cache, "compute": made.compute}
    parts |= {"process": process} if shared else {}
    return math.hypot(*(bytes_off(found, part, size) for part, size in parts.items())) / (predicted * 2**20)
