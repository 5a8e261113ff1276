"""llama.cpp's buffers, device by device and in the host's memory, for any share of layers and experts on devices.

Placement as in llama.cpp's `src/llama-model.cpp` (load_tensors): of the layers and the output the last `gpu_layers` go
to devices, in runs as long as the split says; embeddings stay with the host; experts of the first layers may. Bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from catalog import tensors
from catalog.model import Model
from planner import memory
from planner.lanes import gguf
from planner.lanes.mixture import Named
from planner.lanes.named import arrangement, state
from planner.memory import Accounting
from planner.startup import padded, unfused
from planner.work import Layout, Shape

HOST = -1
"""The place that is no device."""
INDEX_BYTES = 8.0
"""Place of a transposed value in the cache: 64-bit (llama-kv-cache.cpp build_input_v_idxs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What lies where. Flags of llama-server in brackets."""

    shares: tuple[float, ...] = (1.0,)
    """One number per device [--tensor-split]; empty without devices."""
    layers: int | None = None
    """Layers on devices, the output counted as one [--n-gpu-layers]; None: all."""
    cpu_experts: int = 0
    """First layers whose experts stay with the host [--n-cpu-moe]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What decides the cache and the graph."""

    context: float
    """Tokens of all slots together [--ctx-size]."""
    slots: int = 1
    """[--parallel]"""
    chunk: float = 512.0
    """[--ubatch-size]"""
    cell_bytes: float = 2.0
    fused: bool = True
    """Flash attention."""
    outputs: float = math.inf
    """Sequences whose logits are wanted at once: llama-server's slots; of every token, as llama-fit-params counts."""

    @property
    def cells(self) -> float:
        """Of one slot: what one of its tokens can see. An explicit number of slots divides the cache among them."""
        return padded(self.context / self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """What one place holds."""

    model: float
    cache: float
    compute: float

    @property
    def total(self) -> float:
        return self.model + self.cache + self.compute

    @classmethod
    def sum(cls, each: Sequence[Buffers]) -> Buffers:
        """Places that share one memory."""
        model, cache = sum(one.model for one in each), sum(one.cache for one in each)
        return cls(model=model, cache=cache, compute=sum(one.compute for one in each))


class Offload:
    """One model in one file type, split once; its buffers at any start."""

    def __init__(self, model: Model, kind: str, shape: Shape[float], fixed: Accounting[float], split: Split) -> None:
        self.model, self.shape, self.fixed, self.split = model, shape, fixed, split
        self.places = placement(model, split)
        self.weights = _weights(model, kind, split, self.places)

    def buffers(self, start: Start) -> list[Buffers]:
        """One per device, the host's last."""
        cache = _cache(self.model, start, self.places)
        return [
            Buffers(
                model=self.weights.get(place, 0.0),
                cache=cache.get(place, 0.0),
                compute=_compute(self.shape, self.fixed, start, _place_of(place, self.places, self.split)),
            )
            for place in (*range(len(self.split.shares)), HOST)
        ]


def placement(model: Model, split: Split) -> list[int]:
    """Device of every layer and, last, of the output; HOST for those that stay."""
    count = model.layers + 1
    asked = count if split.layers is None else min(split.layers, count)
    if not split.shares or not asked:
        return [HOST] * count
    total, first = sum(split.shares), count - asked
    ends = [end / total for end in accumulate(split.shares)]
    device = [bisect_right(ends, (layer - first) / asked) for layer in range(first, count)]
    return [HOST] * first + [min(each, len(ends) - 1) for each in device]


def _weights(model: Model, kind: str, split: Split, places: list[int]) -> dict[int, float]:
    sizes: dict[int, float] = {}
    for tensor, block in gguf.stored(model, kind):
        if tensor.part in gguf.BESIDE:
            continue
        size = tensor.bytes_as(block)
        place = _place(tensor, split, places)
        sizes[place] = sizes.get(place, 0.0) + size
        if model.tied and tensor.part == "embedding" and places[-1] != HOST:
            sizes[places[-1]] = sizes.get(places[-1], 0.0) + size
    return sizes


def _place(tensor: Named, split: Split, places: list[int]) -> int:
    if tensor.part == "embedding":
        return HOST
    stays = "_exps." in tensor.name and 0 <= tensor.layer < split.cpu_experts
    return HOST if stays else places[tensor.layer]


def _cache(model: Model, start: Start, places: list[int]) -> dict[int, float]:
    """Keys and values lie with their layer."""
    window = padded(min(start.cells, tensors.window_tokens(model) + start.chunk))
    each = {
        "full": start.slots * start.cells * tensors.values_per_full_layer(model) * start.cell_bytes,
        "window": start.slots * window * tensors.window_group(model).cached * start.cell_bytes,
        "linear": float(start.slots * state(model.linear).bytes) if model.linear else 0.0,
        "experts": 0.0,
    }
    sizes: dict[int, float] = {}
    for kind, place in zip(arrangement(model) or ("full",) * model.layers, places[:-1], strict=True):
        sizes[place] = sizes.get(place, 0.0) + each[kind]
    return sizes


def _compute(shape: Shape[float], fixed: Accounting[float], start: Start, at: Place) -> float:
    """The worst-case graph of a place: logits where the output is, layers where there are any, inputs on the host."""
    stated = fixed if start.fused else replace(unfused(fixed), graph_index_bytes=INDEX_BYTES)
    chunk, layout = min(start.chunk, start.context), Layout(tensor=1.0, pipeline=at.pipeline)
    inputs = memory.llamacpp_host_bytes(shape, layout, stated, start.cells, chunk) if at.host else 0.0
    if at.host and at.experts:
        inputs = max(inputs, memory.llamacpp_host_experts_bytes(shape, stated, start.cells, chunk))
    if not at.layers and not at.output:
        return inputs
    seen = replace(shape, vocab=shape.vocab if at.output else 0.0)
    if not at.layers:
        seen = replace(seen, heads=0.0, heads_width=0.0, ffn=0.0, experts_per_token=0.0)
    graph = memory.llamacpp_graph_bytes(seen, layout, stated, (start.cells, chunk, min(start.outputs, chunk)))
    passed = fixed.graph_copies * fixed.logit_bytes * chunk * shape.hidden if at.later else 0.0
    return max(inputs, graph + passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a graph has to do on one device or on the host."""

    host: bool
    layers: bool
    output: bool
    experts: bool
    """Of other places' layers."""
    pipeline: float
    """Devices that work on several micro-batches at once: all, where nothing but the embedding stays with the host
    (llama-context.cpp)."""
    later: bool
    """A device of such a pipeline that takes over another's hidden states."""


def _place_of(number: int, places: list[int], split: Split) -> Place:
    piped = len(split.shares) > 1 and HOST not in places and not split.cpu_experts
    return Place(
        host=number == HOST,
        layers=number in places[:-1],
        output=places[-1] == number,
        experts=split.cpu_experts > 0,
        pipeline=float(len(split.shares)) if piped else 1.0,
        later=piped and number > 0,
    )
