"""The lanes, one file per family of formats. Adding a lane: a file here and its name in `LANES`."""

from __future__ import annotations

from catalog.model import Model, Tensor
from planner.lanes import gguf, lane
from planner.lanes.fp4 import MXFP4, NVFP4
from planner.lanes.fp8 import FP8
from planner.lanes.gguf import DEFAULT_TYPES, GGUF
from planner.lanes.int4 import AWQ, GPTQ, NF4, W4A16
from planner.lanes.int8 import W8A8, W8A16
from planner.lanes.lane import Lane, Method
from planner.lanes.sixteen_bit import BF16, FP16

LANES: tuple[Lane, ...] = (BF16, FP16, FP8, W8A8, W8A16, AWQ, GPTQ, W4A16, NVFP4, MXFP4, NF4, *GGUF)
BY_ID = {lane.id: lane for lane in LANES}
SEARCHED = tuple(lane for lane in LANES if lane is not NF4 and (lane.family != "gguf" or lane.id[5:] in DEFAULT_TYPES))


def tensor_bytes(tensor: Tensor, method: Method, model: Model) -> float:
    """Bytes of all `count` tensors of this shape when made by this method."""
    if method.matrix_bytes is None:
        return gguf.tensor_bytes(tensor, method.scheme, model)
    return lane.tensor_bytes(tensor, method.matrix_bytes, method.only)


def loaded_bytes(tensor: Tensor, method: Method, model: Model) -> float:
    """The same as an engine keeps them in memory."""
    if method.loaded_bytes is None:
        return tensor_bytes(tensor, method, model)
    return lane.tensor_bytes(tensor, method.loaded_bytes, method.only)


def whole_bytes(tensor: Tensor, method: Method) -> float:
    """Of them, what every rank holds of a matrix divided by its inputs: scales and biases of its rows."""
    if tensor.part == "expert.down_bias":
        return 2.0 * tensor.params
    by_inputs = tensor.part == "attention.o" or tensor.part.endswith(".down")
    kept = method.only and tensor.part.partition(".")[0] not in method.only
    return method.row_scale_bytes * tensor.rows * tensor.count if by_inputs and not kept else 0.0


__all__ = ["BY_ID", "LANES", "SEARCHED", "Lane", "Method", "loaded_bytes", "tensor_bytes", "whole_bytes"]
