"""What every lane says of itself: which tensors it shrinks, to how many bytes, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from catalog.model import Tensor
from planner.plan import Recipe

KEPT_16_BIT = ("embedding", "head", "norm", "router", "vision", "mtp")
"""Parts that every safetensors recipe of ours leaves in 16 bits (engines.md §3: lm_head ignored, routers ignored)."""

MatrixBytes = Callable[[int, int], float]
"""Bytes of one (rows = outputs, columns = inputs) weight matrix with its scales."""


class Method(Struct, frozen=True, kw_only=True):
    """One way to make a lane: the recipe and what a matrix then weighs."""

    recipe: Recipe
    matrix_bytes: MatrixBytes | None
    """As stored; None where the layer decides too (GGUF)."""
    tool: str
    """llm-compressor, vllm (quantized while loading), llama-quantize, none (as published)."""
    scheme: str
    """The tool's own name for it: FP8_DYNAMIC, W4A16, fp8_per_channel, Q4_K_M."""
    only: tuple[str, ...] = ()
    """Tensor parts that are quantized; empty for every matrix but KEPT_16_BIT."""
    loaded_bytes: MatrixBytes | None = None
    """As vLLM keeps it, where that differs from the file."""
    row_scale_bytes: float = 0.0
    """Bytes of scales per output row: ranks that split a matrix by its inputs hold all of them each."""
    expert_multiple: int = 1
    """A rank's slice of an expert's width is padded to a multiple of this."""


class Lane(Struct, frozen=True, kw_only=True):
    """A family of formats. The first method is made when nothing published fits."""

    id: str
    family: Literal["16-bit", "8-bit float", "8-bit integer", "4-bit integer", "4-bit float", "gguf"]
    bits: float
    """Nominal bits per weight, for people and for simplicity in ties."""
    methods: tuple[Method, ...]
    asks: str = ""
    """One sentence: when this lane is the right one."""

    def method(self, recipe: str) -> Method | None:
        """The method of that recipe name."""
        return next((method for method in self.methods if method.recipe.name == recipe), None)


def tensor_bytes(tensor: Tensor, matrix_bytes: MatrixBytes, only: tuple[str, ...]) -> float:
    """Bytes of all `count` tensors of this shape in a safetensors lane."""
    kept = tensor.part in KEPT_16_BIT or (only and tensor.part.partition(".")[0] not in only)
    if kept or tensor.columns == 1:
        return 2.0 * tensor.params
    return tensor.count * matrix_bytes(tensor.rows, tensor.columns)


def made(name: str, algorithm: str, symmetric: bool | None = None, group_size: int | None = None) -> Recipe:
    """A post-training recipe."""
    return Recipe(name=name, algorithm=algorithm, symmetric=symmetric, group_size=group_size)


def blocks(length: int, block: int) -> int:
    """How many blocks of `block` cover `length`."""
    return -(-length // block)
