"""Which kernel each kind of layer gets: speed and memory follow it, not the name of the lane."""

from __future__ import annotations

from catalog import tensors
from catalog.model import Tensor
from planner.lanes.lane import quantized
from planner.rules.rule import Pairing

LAYERS = {
    "attention": ("attention",),
    "linear attention": ("linear",),
    "mlp": ("mlp", "shared"),
    "experts": ("expert",),
    "head": ("head",),
}
"""Kinds of layers that people tell apart: the first word of their tensors' parts."""


def by_layer(pairing: Pairing) -> dict[str, str]:
    """Kind of layer to kernel, of the kinds that the model has."""
    held = tensors.inventory(pairing.model)
    made = {}
    for layer, words in LAYERS.items():
        own = [tensor for tensor in held if tensor.part.partition(".")[0] in words and tensor.columns > 1]
        if own or (layer == "head" and pairing.model.tied):
            made[layer] = _kernel(pairing, layer, own)
    return made


def _kernel(pairing: Pairing, layer: str, own: list[Tensor]) -> str:
    """The lane's kernel where its recipe shrinks these tensors, else the engine's 16-bit one; llama.cpp has one."""
    kernel, method = pairing.kernel, pairing.method
    if kernel is None:
        return ""
    sixteen = method.matrix_bytes is not None and not any(quantized(tensor, method) for tensor in own)
    if sixteen and pairing.lane.family != "16-bit":
        return _sixteen_bit(pairing)
    return kernel.experts_kernel or kernel.name if layer == "experts" else kernel.name


def _sixteen_bit(pairing: Pairing) -> str:
    device = pairing.device.accelerator
    rows = (pairing.engine.kernel(lane, lane, device) for lane in ("bf16", "fp16"))
    return next((row.name for row in rows if row is not None and row.refuse is None), "16-bit")
