"""Names and shapes of stored tensors, grouped into the parts of the catalogue.

Stored tensors may be fused (query, key and value in one; gate and up in one), stacked (all experts in one) or packed
(several numbers to a word); what comes out are plain matrices, outputs x inputs. Scales, zero points and the like are
no tensors of ours: their bytes count with the matrix that they describe.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Literal

import msgspec
from msgspec import Struct

from catalog.model import Model, Tensor
from catalog.tensors import full_group

DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""The number formats of safetensors."""


class Stored(Struct, frozen=True):
    """One tensor as a file lists it: outputs before inputs, stacked experts first."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> float | None:
        """None for block formats, whose sizes are not those of safetensors."""
        bits = DTYPE_BITS.get(self.dtype)
        return None if bits is None else prod(self.shape) * bits / 8


class Packing(Struct, frozen=True, kw_only=True):
    """How 32-bit words hold small integers: GPTQ packs along a matrix's inputs, AWQ along its outputs."""

    bits: int = 4
    along: Literal["inputs", "outputs"] = "inputs"

    @property
    def factor(self) -> int:
        """Numbers per word."""
        return 32 // self.bits


class Matrix(Struct, frozen=True, kw_only=True):
    """`count` plain matrices (vectors: one column) of one layer."""

    part: str
    rows: int
    columns: int
    dtype: str
    count: int = 1
    layer: int | None = None
    stored: float | None = None
    """Bytes of all `count` and of what describes them."""


LAYER = re.compile(r"(?:layers|blk|h)\.(\d+)\.")
COMPANIONS = re.compile(
    r"(\.scales|qzeros|g_idx|(weight|input|[qkv])(_global)?_scale(_2|_inv)?|weight_(shape|zero_point|g_idx)|_scales"
    r"|absmax|quant_map|quant_state\..*|inv_freq)$"
)
"""Numbers that describe packed weights, and rotary tables."""
PARTS = tuple(
    (re.compile(f"(?:{pattern})$"), part)
    for pattern, part in (
        (r"embed_tokens|word_embeddings|wte|token_embd|embeddings", "embedding"),
        (r"lm_head|^output", "head"),
        (r"indexer\.\w+|indexer\.\w+_\w+", "attention.index"),
        (r"q_a_proj|kv_a_proj_with_mqa|attn_q_a|attn_kv_a_mqa", "attention.latent"),
        (r"q_b_proj|kv_b_proj|attn_q_b|attn_kv_b|attn_k_b|attn_v_b", "attention.up"),
        (r"qkv_proj|attn_qkv", "attention.qkv"),
        (r"(linear_attn|mixer)\.(in_proj\w*|out_proj)|ssm_(in|out|alpha|beta|ba)|attn_gate", "linear"),
        (r"(attn|attention|mixer)\.q_proj|attn_q", "attention.q"),
        (r"(attn|attention|mixer)\.k_proj|attn_k", "attention.k"),
        (r"(attn|attention|mixer)\.v_proj|attn_v", "attention.v"),
        (r"(attn|attention|mixer)\.(o_proj|out_proj)|attn_output", "attention.o"),
        (r"shared_expert_gate|router|ffn_gate_inp(_shexp)?", "router"),
        (r"(mlp|block_sparse_moe|moe|feed_forward|mixer)\.gate(\.wg)?", "router"),
        (r"shared_(experts?|mlp)\.gate_proj|ffn_gate_shexp", "shared.gate"),
        (r"shared_(experts?|mlp)\.up_proj|ffn_up_shexp", "shared.up"),
        (r"shared_(experts?|mlp)\.down_proj|ffn_down_shexp", "shared.down"),
        (r"experts\.(\d+\.)?(gate_proj|w1)|ffn_gate_exps", "expert.gate"),
        (r"experts\.(\d+\.)?(up_proj|w3)|ffn_up_exps", "expert.up"),
        (r"experts\.(\d+\.)?(down_proj|w2)|ffn_down_exps", "expert.down"),
        (r"experts\.(\d+\.)?gate_up_proj|ffn_gate_up_exps", "expert.gate_up"),
        (r"fc[12]_latent_proj", "shared.latent"),
        (r"gate_up_proj", "mlp.gate_up"),
        (r"gate_proj|ffn_gate", "mlp.gate"),
        (r"up_proj|fc_in|ffn_up", "mlp.up"),
        (r"down_proj|fc_out|ffn_down", "mlp.down"),
    )
)
"""First match decides, on the name without its last word (`.weight`, `.qweight` …)."""
VISION = re.compile(
    r"(^|\.)(visual|vision_\w+|multi_modal_projector|mm_projector|patch_merge\w*|embed_vision|audio_\w+)\."
)
EXTRA_TOKENS = re.compile(r"(^|\.)(mtp\w*|nextn|eh_proj|enorm|hnorm|shared_head)\.")
LAST_WORD = re.compile(r"(_blocks|\.[a-z_]*weight[a-z_]*)$")


def group(stored: Iterable[Stored], model: Model, packing: Packing | None = None) -> tuple[Tensor, ...]:
    """The tensors of a checkpoint by part, shape and format."""
    stored = tuple(stored)
    beside = companions(stored)
    alike: dict[tuple[str, int, int, str], list[Matrix]] = defaultdict(list)
    for tensor in stored:
        for matrix in matrices(tensor, model, packing or Packing(), beside):
            alike[matrix.part, matrix.rows, matrix.columns, matrix.dtype].append(matrix)
    return tuple(
        Tensor(
            part=part,
            rows=rows,
            columns=columns,
            count=sum(matrix.count for matrix in found),
            layers=len({matrix.layer for matrix in found if matrix.layer is not None}),
            dtype=dtype,
            stored_bytes=together(found),
        )
        for (part, rows, columns, dtype), found in alike.items()
    )


def together(found: list[Matrix]) -> float | None:
    """Bytes of all of them; None where one is unknown."""
    sizes = [matrix.stored for matrix in found if matrix.stored is not None]
    return sum(sizes) if len(sizes) == len(found) else None


def companions(stored: Iterable[Stored]) -> dict[str, float]:
    """Bytes of scales, zero points and the like by the name of what they describe."""
    sizes: dict[str, float] = defaultdict(float)
    for tensor in stored:
        if COMPANIONS.search(tensor.name):
            described = COMPANIONS.sub("", tensor.name).removesuffix(".").removesuffix(".weight")
            sizes[described] += tensor.bytes or 0.0
    return sizes


def matrices(tensor: Stored, model: Model, packing: Packing, beside: Mapping[str, float]) -> Iterator[Matrix]:
    """The plain matrices that a stored tensor holds; none for the companions of packed weights.

    `beside` = bytes of companions by name.
    """
    if COMPANIONS.search(tensor.name) or not tensor.shape:
        return
    part = part_of(tensor, model)
    count, rows, columns, dtype = plain(tensor, part, packing)
    if part.startswith("expert.") and count > 1 and transposed(part, rows, columns, model):
        rows, columns = columns, rows
    matrix = Matrix(part=part, rows=rows, columns=columns, dtype=dtype, count=count, layer=layer_of(tensor.name))
    if tensor.bytes is not None:
        whole = tensor.bytes + beside.get(LAST_WORD.sub("", tensor.name), 0.0)
        matrix = msgspec.structs.replace(matrix, stored=whole)
    yield from split(matrix, model)


def layer_of(name: str) -> int | None:
    """The layer's index, None outside the layers."""
    found = LAYER.search(name)
    return int(found[1]) if found else None


def part_of(tensor: Stored, model: Model) -> str:
    """The part by the tensor's name; vectors are norms and biases; unknown matrices are `rest`."""
    name, layer = tensor.name, layer_of(tensor.name)
    if VISION.search(name):
        return "vision"
    if EXTRA_TOKENS.search(name) or (layer is not None and layer >= model.layers):
        return "mtp"
    if len(tensor.shape) == 1 or "norm" in name or "conv1d" in name or name.endswith("bias"):
        return "norm"
    stem = LAST_WORD.sub("", name)
    return next((part for pattern, part in PARTS if pattern.search(stem)), "rest")


def plain(tensor: Stored, part: str, packing: Packing) -> tuple[int, int, int, str]:
    """(count, outputs, inputs, format) with packing undone; vectors and their kin have one column."""
    name, shape, dtype = tensor.name, tensor.shape, tensor.dtype
    if part == "norm":
        return 1, prod(shape), 1, dtype
    if name.endswith("_blocks"):  # MXFP4: experts x outputs x blocks x 16 bytes of two numbers each
        return shape[0], shape[1], prod(shape[2:]) * 2, "F4"
    count = prod(shape[:-2]) if part.startswith("expert.") else 1
    rows, columns = (shape[-2], shape[-1]) if part.startswith("expert.") else (shape[0], prod(shape[1:]))
    if name.endswith(".qweight"):
        return count, *unpacked(rows, columns, packing), f"I{packing.bits}"
    if name.endswith("weight_packed"):
        factor = packing.factor if dtype == "I32" else 2
        return count, rows, columns * factor, f"I{packing.bits}" if dtype == "I32" else "F4"
    if dtype == "U8" and name.endswith(".weight"):
        return count, rows, columns * 2, "F4"
    return count, rows, columns, dtype


def unpacked(rows: int, columns: int, packing: Packing) -> tuple[int, int]:
    """Outputs and inputs of a GPTQ or AWQ matrix, both stored inputs first."""
    if packing.along == "inputs":
        return columns, rows * packing.factor
    return columns * packing.factor, rows


def transposed(part: str, rows: int, columns: int, model: Model) -> bool:
    """Whether stacked experts are stored inputs first: the hidden width stands where the other one belongs."""
    width = (model.moe.latent if model.moe else None) or model.hidden
    here, there = (rows, columns) if part == "expert.down" else (columns, rows)
    return here != width and there == width


def split(matrix: Matrix, model: Model) -> Iterator[Matrix]:
    """The parts of a fused matrix, along its outputs; any other as it is."""
    family, _, name = matrix.part.partition(".")
    if name == "gate_up":
        for half in ("gate", "up"):
            yield slice_of(matrix, f"{family}.{half}", matrix.rows // 2)
    elif name == "qkv":
        yield from split_attention(matrix, model)
    else:
        yield matrix


def split_attention(matrix: Matrix, model: Model) -> Iterator[Matrix]:
    """Query, key and value by the model's heads; a fused matrix of other width belongs to linear attention."""
    heads = full_group(model)
    widths = (model.heads * heads.key, heads.kv_heads * heads.key, heads.kv_heads * heads.value)
    if sum(widths) != matrix.rows:
        yield msgspec.structs.replace(matrix, part="linear")
        return
    for name, rows in zip("qkv", widths, strict=True):
        yield slice_of(matrix, f"attention.{name}", rows)


def slice_of(matrix: Matrix, part: str, rows: int) -> Matrix:
    """Some outputs of a fused matrix, with their share of its bytes."""
    stored = None if matrix.stored is None else matrix.stored * rows / matrix.rows
    return msgspec.structs.replace(matrix, part=part, rows=rows, stored=stored)
