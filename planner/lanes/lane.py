"""What every lane says of itself: which tensors it shrinks, to how many bytes, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from catalog import tensors
from catalog.model import Model, Tensor
from planner.plan import Recipe

KEPT_16_BIT = ("embedding", "head", "norm", "router", "vision", "mtp")
"""Parts that every safetensors recipe of ours leaves in 16 bits (engines.md §3: lm_head ignored, routers ignored)."""

MatrixBytes = Callable[[int, int, int], float]
"""Bytes of one weight matrix with its scales: of rows (outputs), columns (inputs), and the inputs
that share a scale."""
GROUPS = (128, 64, 32)
"""Group sizes that the WNA16 kernels of vLLM take, the cheapest first, which is that of compressed-tensors' presets."""
WHOLE_ROW = 0
"""The group of methods whose scales do not depend on one."""


class Method(Struct, frozen=True, kw_only=True):
    """One way to make a lane: the recipe and what a matrix then weighs."""

    recipe: Recipe
    matrix_bytes: MatrixBytes | None
    """What the tool writes; None where the layer decides too (GGUF)."""
    tool: str
    """llm-compressor, vllm (quantized while loading), llama-quantize, none (as published)."""
    scheme: str
    """The tool's own name for it: FP8_DYNAMIC, W4A16, fp8_per_channel, Q4_K_M."""
    published: MatrixBytes | None = None
    """The layout of other tools' checkpoints of this recipe; None where it is the same …"""
    published_loaded: MatrixBytes | None = None
    """… and as vLLM keeps those, where that differs from the file."""
    groups: tuple[int, ...] = ()
    """Group sizes to choose from, the usual one first; empty where the format leaves no choice."""
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


def tensor_bytes(tensor: Tensor, method: Method, matrix_bytes: MatrixBytes) -> float:
    """Bytes of all `count` tensors of this shape in a safetensors lane."""
    if not quantized(tensor, method):
        return 2.0 * tensor.params
    return tensor.count * matrix_bytes(tensor.rows, tensor.columns, method.recipe.group_size or WHOLE_ROW)


def quantized(tensor: Tensor, method: Method) -> bool:
    """Whether the method shrinks this tensor."""
    kept = tensor.part in KEPT_16_BIT or (method.only and tensor.part.partition(".")[0] not in method.only)
    return not kept and tensor.columns > 1


def grouped(method: Method, model: Model) -> Method:
    """The method with the largest group size that divides every matrix it shrinks; unchanged where none does."""
    size = group_size(method, model)
    return method if size is None else replace(method, recipe=replace(method.recipe, group_size=size))


def group_size(method: Method, model: Model) -> int | None:
    """The usual group size, or the largest smaller one that divides the inputs of every quantized matrix; None where
    none divides (llm-compressor refuses a rest), or the format leaves no choice."""
    widths = {each.columns for each in tensors.inventory(model) if quantized(each, method)}
    return next((size for size in method.groups if all(width % size == 0 for width in widths)), None)


def as_published(method: Method) -> Method:
    """The method as other tools' checkpoints are laid out."""
    if method.published is None:
        return method
    return replace(method, matrix_bytes=method.published, loaded_bytes=method.published_loaded)


def made(name: str, algorithm: str, symmetric: bool | None = None, group_size: int | None = None) -> Recipe:
    """A post-training recipe."""
    return Recipe(name=name, algorithm=algorithm, symmetric=symmetric, group_size=group_size)


def blocks(length: int, block: int) -> int:
    """How many blocks of `block` cover `length`."""
    return -(-length // block)
