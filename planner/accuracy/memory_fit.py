"""The memory constants fitted to start-up logs: linear least squares on one term after the other.

The shipped constants are data; this fits them anew to some of the rows, so that what is left out can be predicted.
Only terms whose rows remain are fitted; which are not is said. Formula shapes stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from msgspec.structs import replace

from catalog.engine import Engine
from catalog.load import Catalog
from catalog.units import GIB
from planner import memory
from planner.accuracy import logs
from planner.accuracy.logs import MIB, Described, Refitted
from planner.lanes.gguf import UNSLOTH_BITS
from planner.trace import Array


@dataclass(frozen=True)
class Measured:
    """A row of the table with its value."""

    found: Described
    value: float


Constants = dict[str, float]
LEAST_ROWS = 4
"""Rows below which a term of three numbers keeps its shipped constants."""


def refit(rows: Iterable[Measured], catalog: Catalog) -> Refitted:
    """Both engines with every constant that these rows identify."""
    known = list(rows)
    engine, llamacpp = catalog.engine("vllm"), catalog.engine("llama.cpp")
    newer, older = _of(known, "0.19", "0.20"), _of(known, "0.8", "0.14")
    engine = laid(engine, "99", "0.19", newest(newer))
    engine = laid(engine, "0.14", "0.8", older_ones(older))
    engine = laid(engine, "0.8", "0", {**_outside(_of(known, "0", "0.8"), "outside_bytes", one=True)})
    own = [
        row
        for row in _metric(known, "total_vram_mib")
        if row.found.tags >= {"shared"} and not row.found.tags & {"unsloth"}
    ]
    return Refitted(engine, replace(llamacpp, constants=llamacpp.constants | processes(own)), scales(known))


def laid(engine: Engine, until: str, since: str, constants: Constants) -> Engine:
    """The engine with these constants for the versions from `since` to before `until`."""
    epoch = type(engine.accounting[0])(
        since=since, until=until, constants=constants, source="fitted to part of the rows"
    )
    general = [each for each in engine.accounting if not each.except_capabilities]
    some = [each for each in engine.accounting if each.except_capabilities]
    return replace(engine, accounting=(*general, epoch, *some))


def newest(rows: Sequence[Measured]) -> Constants:
    """Sampler, forward pass, graphs, and what lies outside the allocator, as the newest logged version has them."""
    found = sampler(rows)
    found |= forward(rows)
    found |= graphs([row for row in rows if row.found.row.metric == "cuda_graph_gib"])
    return found | outside(rows)


def sampler(rows: Sequence[Measured]) -> Constants:
    """Three numbers over the rows whose peak is the sampler's."""
    peaks = [row for row in _metric(rows, "activation_peak_gib") if _samples(row.found)]
    if len(peaks) < LEAST_ROWS:
        return {}
    shapes = [(one.found.shape, one.found.use) for one in peaks]
    columns = [[use.slots * model.vocab, use.chunk * model.hidden, 1e6] for model, use in shapes]
    logit, hidden, fixed = _solved(columns, [one.value * GIB - _lasting(one.found) for one in peaks], peaks)
    return {"logit_bytes": logit, "sampler_hidden_bytes": hidden, "sampler_bytes": fixed * 1e6}


def forward(rows: Sequence[Measured]) -> Constants:
    """The constant of the forward pass, over the rows whose peak it is."""
    peaks = [row for row in _metric(rows, "activation_peak_gib") if not _samples(row.found)]
    rest = [one.value * GIB - one.found.log.activation for one in peaks]
    return {"forward_bytes": _own(peaks[0].found).forward_bytes + fmean(rest)} if peaks else {}


def graphs(rows: Sequence[Measured]) -> Constants:
    """Three numbers over all graphs."""
    if len(rows) < LEAST_ROWS:
        return {}
    columns = [[1e6, one.found.shape.layers / one.found.layout.pipeline,
                one.found.shape.heads_width / one.found.layout.tensor] for one in rows]  # fmt: skip
    fixed, layer, head = _solved(columns, [one.value * GIB for one in rows], rows)
    return {"graph_bytes": fixed * 1e6, "graph_layer_bytes": layer, "graph_head_bytes": head}


def outside(rows: Sequence[Measured]) -> Constants:
    """Medians for one device, for a group, and for a pipeline without groups."""
    found = _outside(rows, "outside_bytes", one=True)
    lines = _metric(rows, "non_torch_gib")
    groups = [row for row in lines if row.found.layout.tensor > 1]
    stages = [row for row in lines if row.found.layout.tensor == 1 and row.found.layout.pipeline > 1]
    alone = found.get("outside_bytes", _own(rows[0].found).outside_bytes if rows else 0.0)
    if groups:
        rest = [row.value * GIB - row.found.log.outside for row in groups]
        own = _own(groups[0].found)
        found["group_bytes"] = own.group_bytes + own.outside_bytes - alone + median(rest)
    if stages:
        found["stage_bytes"] = median([row.value * GIB for row in stages]) - alone
    return found


def older_ones(rows: Sequence[Measured]) -> Constants:
    """The sampler of the sorting versions, and what lies outside the allocator."""
    peaks = [row for row in _metric(rows, "activation_peak_gib") if _samples(row.found)]
    each = [_logit(row) for row in peaks]
    return ({"logit_bytes": fmean(each)} if each else {}) | outside(rows)


def processes(rows: Sequence[Measured]) -> Constants:
    """What a process on a shared memory holds beside its buffers, by backend; without flash attention on top."""
    made: Constants = {}
    for name in ("vulkan", "hip", "rocwmma"):
        fused = [_beside(row) for row in rows if logs.backend(row.found.row) == name and row.found.fused]
        if fused:
            made[f"process_{name}_bytes"] = median(fused)
    for name in ("vulkan", "hip"):
        plain = [_beside(row) for row in rows if logs.backend(row.found.row) == name and not row.found.fused]
        if plain and f"process_{name}_bytes" in made:
            made[f"unfused_{name}_bytes"] = median(plain) - made[f"process_{name}_bytes"]
    return made


def scales(rows: Iterable[Measured]) -> dict[str, float]:
    """Mean size of Unsloth's files over ours, by type."""
    found: dict[str, list[float]] = {}
    for row in rows:
        kind = row.found.row.lane[5:]
        if kind in UNSLOTH_BITS and row.found.row.metric.startswith("gguf_file"):
            found.setdefault(kind, []).append(math.log(row.value / logs.value(row.found)))
    return {kind: math.exp(fmean(each)) for kind, each in found.items()}


def _of(rows: Sequence[Measured], since: str, until: str) -> list[Measured]:
    vllm = [row for row in rows if row.found.row.engine == "vllm" and row.value > 0]
    before = logs.memory_before
    return [row for row in vllm if before(row.found.version, until) and not before(row.found.version, since)]


def _metric(rows: Iterable[Measured], metric: str) -> list[Measured]:
    return [row for row in rows if row.found.row.metric == metric]


def _own(found: Described) -> memory.Accounting[float]:
    return memory.accounting(found.engine, found.capability, found.version, found.lane.id)


def _samples(found: Described) -> bool:
    """Whether the sampler makes the printed peak: on one stage, with more bytes than the forward pass."""
    fixed, use = _own(found), found.use
    logits = memory.logits_bytes(found.shape, fixed, use.slots, use.chunk)
    drawn = logits + memory.sampler_bytes(found.shape, fixed, use.chunk)
    return use.layout.pipeline == 1 and drawn > memory.forward_bytes(found.shape, use.layout, fixed, use.chunk)


def _lasting(found: Described) -> float:
    return memory.lasting_bytes(found.shape, found.use.layout, _own(found), found.use.chunk)


def _logit(row: Measured) -> float:
    found, use = row.found, row.found.use
    rest = _lasting(found) + memory.sampler_bytes(found.shape, _own(found), use.chunk)
    return (row.value * GIB - rest) / (use.slots * found.shape.vocab)


def _outside(rows: Sequence[Measured], name: str, *, one: bool) -> Constants:
    lines = _metric(rows, "non_torch_gib")
    alone = [row.value * GIB for row in lines if (row.found.layout.tensor * row.found.layout.pipeline == 1) is one]
    return {name: median(alone)} if alone else {}


def _beside(row: Measured) -> float:
    made = row.found.buffers
    return row.value * MIB - made.file - made.cache - made.compute


def _solved(columns: list[list[float]], values: list[float], rows: Sequence[Measured]) -> list[float]:
    """Least squares of relative errors."""
    scale = np.array([row.value * GIB for row in rows])
    left: Array = np.array(columns, dtype=float) / scale[:, None]
    return [float(x) for x in np.linalg.lstsq(left, np.array(values) / scale, rcond=None)[0]]


Fold = Callable[[Described], str]
"""What is left out together."""


def geometry(found: Described) -> str:
    """Models of one shape are one model: a fine-tune is not unseen."""
    model = found.model
    return f"{model.layers} x {model.hidden}, {model.heads} heads, {model.vocab} words"


def device(found: Described) -> str:
    return found.row.accelerator
