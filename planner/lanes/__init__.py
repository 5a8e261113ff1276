"""The lanes, one file per family of formats. Adding a lane: a file here and its name in `LANES`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from catalog import tensors
from catalog.model import Model, Tensor
from planner.lanes import gguf, lane
from planner.lanes.fp4 import MXFP4, NVFP4
from planner.lanes.fp8 import FP8
from planner.lanes.gguf import DEFAULT_TYPES, GGUF
from planner.lanes.int4 import AWQ, GPTQ, NF4, W4A16
from planner.lanes.int8 import W8A8, W8A16
from planner.lanes.lane import Lane, Method, as_published, group_size, grouped
from planner.lanes.sixteen_bit import BF16, FP16

LANES: tuple[Lane, ...] = (BF16, FP16, FP8, W8A8, W8A16, AWQ, GPTQ, W4A16, NVFP4, MXFP4, NF4, *GGUF)
BY_ID = {lane.id: lane for lane in LANES}
SEARCHED = tuple(lane for lane in LANES if lane is not NF4 and (lane.family != "gguf" or lane.id[5:] in DEFAULT_TYPES))


def tensor_bytes(tensor: Tensor, method: Method, model: Model) -> float:
    """Bytes of all `count` tensors of this shape when made by this method; as stored where it was read made.

    Not for GGUF, whose types depend on the layer.
    """
    if tensor.stored_bytes is not None and is_read(method, model):
        return tensor.stored_bytes
    assert method.matrix_bytes is not None
    return lane.tensor_bytes(tensor, method, method.matrix_bytes)


def loaded_bytes(tensor: Tensor, method: Method, model: Model) -> float:
    """The same as an engine keeps it in memory."""
    stored = tensor_bytes(tensor, method, model)
    if method.loaded_bytes is None or method.matrix_bytes is None or stored >= 2.0 * tensor.params:
        return stored
    widened = lane.tensor_bytes(tensor, method, method.loaded_bytes)
    return stored + widened - lane.tensor_bytes(tensor, method, method.matrix_bytes)


def part_bytes(
    model: Model, method: Method, of: Callable[[Tensor, Method, Model], float] = tensor_bytes
) -> Mapping[str, float]:
    """Bytes of each part of a model when made by this method: in its files, or with `loaded_bytes` in memory."""
    if method.matrix_bytes is None:
        return gguf.part_bytes(model, method.scheme)
    sizes: dict[str, float] = defaultdict(float)
    for tensor in tensors.inventory(model):
        sizes[tensor.part] += of(tensor, method, model)
    return sizes


def whole_bytes(tensor: Tensor, method: Method) -> float:
    """Of them, what every rank holds of a matrix divided by its inputs: scales and biases of its rows."""
    if tensor.part == "expert.down_bias":
        return 2.0 * tensor.params
    by_inputs = tensor.part == "attention.o" or tensor.part.endswith(".down")
    scaled = by_inputs and lane.quantized(tensor, method)
    return method.row_scale_bytes * tensor.rows * tensor.count if scaled else 0.0


def is_read(method: Method, model: Model) -> bool:
    """Whether the model is a quantized checkpoint that somebody read, and the method its own: its files say then which
    layers stayed 16-bit and what its scales take."""
    own = BY_ID.get(model.quantization or "")
    return own is not None and any(each.scheme == method.scheme for each in own.methods)


__all__ = [
    "BY_ID", "LANES", "SEARCHED", "Lane", "Method", "as_published", "group_size", "grouped", "loaded_bytes",
    "part_bytes", "tensor_bytes", "whole_bytes",
]  # fmt: skip
