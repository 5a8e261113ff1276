"""GGUF: llama.cpp's file types, as mixtures of block formats chosen tensor by tensor.

The rules are those of llama.cpp's `llama-quant.cpp` for dense and mixture-of-experts decoders; a test holds them to
llama.cpp's own numbers. Sizes of "UD-" types are averages of measured files, because each file has its own mixture.
"""

from __future__ import annotations

from catalog.lane import GGUF_TYPES
from catalog.model import Model, Tensor
from planner.lanes.lane import Lane, Method
from planner.plan import Recipe

BLOCK = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22),
    "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176),
    "Q6_K": (256, 210), "IQ1_S": (256, 50), "IQ1_M": (256, 56), "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74),
    "IQ2_S": (256, 82), "IQ3_XXS": (256, 98), "IQ3_S": (256, 110), "IQ4_XS": (256, 136), "IQ4_NL": (32, 18),
    "MXFP4": (32, 17),
}  # fmt: skip
"""Weights per block and bytes per block of every block format (ggml-common.h)."""

NARROW = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What a block of 256 becomes when a row is no multiple of 256; i-quants become IQ4_NL."""

BASE = {
    "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "Q5_K_M": "Q5_K", "Q5_K_S": "Q5_K", "Q3_K_L": "Q3_K", "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K", "Q2_K_S": "Q2_K", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S",
}  # fmt: skip
UNSLOTH_BITS = {
    "UD-Q2_K_XL": 3.2, "UD-Q3_K_XL": 4.0, "UD-Q4_K_XL": 4.93, "UD-Q5_K_XL": 6.02, "UD-Q6_K_XL": 7.1, "UD-Q8_K_XL": 10.6,
}  # fmt: skip
"""Mean bits per weight of published files: Q4, Q5 and Q8 measured on one to three models, the others assumed."""


def tensor_bytes(tensor: Tensor, kind: str, model: Model) -> float:
    """Bytes of all `count` tensors of this shape in a file of type `kind`."""
    if tensor.columns == 1 or tensor.part == "router":
        return 4.0 * tensor.params
    if kind in UNSLOTH_BITS:
        return tensor.params * UNSLOTH_BITS[kind] / 8
    if not tensor.layers:
        return tensor.count * matrix_bytes(outside_format(tensor.part, kind, model), tensor.rows, tensor.columns)
    per_layer = tensor.count / tensor.layers
    formats = (layer_format(tensor.part, kind, model, index, tensor.layers) for index in range(tensor.layers))
    return per_layer * sum(matrix_bytes(block, tensor.rows, tensor.columns) for block in formats)


def matrix_bytes(block: str, rows: int, columns: int) -> float:
    """Bytes of one matrix; a row that is no multiple of the block falls back to a smaller block, then to F16."""
    if columns % BLOCK[block][0]:
        block = NARROW.get(block, "IQ4_NL")
    if columns % BLOCK[block][0]:
        block = "F16"
    weights, size = BLOCK[block]
    return rows * columns / weights * size


def outside_format(part: str, kind: str, model: Model) -> str:
    """The block format of the embedding and the output matrix."""
    base = BASE.get(kind, kind)
    if base in ("F16", "BF16", "Q8_0", "MXFP4"):
        return "Q8_0" if base == "MXFP4" else base
    if part == "head" or (part == "embedding" and model.tied):
        return "Q5_K" if kind.startswith(("IQ1", "IQ2")) or kind == "IQ3_XXS" else "Q6_K"
    if kind in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
        return "Q2_K"
    return "IQ3_S" if kind in ("IQ2_S", "IQ2_M", "IQ3_XXS") else base


def layer_format(part: str, kind: str, model: Model, index: int, layers: int) -> str:
    """The block format of one layer's tensor: llama.cpp keeps the sensitive ones finer."""
    base = BASE.get(kind, kind)
    if base in ("F16", "BF16", "Q8_0"):
        return base
    if base == "MXFP4":
        return "MXFP4" if part.startswith("expert") else "Q8_0"
    if part in ("attention.v", "attention.up"):
        base = _value_format(kind, base, model, index, layers)
    elif part == "attention.k" and _eight_experts(model):
        base = "Q8_0"
    elif part in ("attention.q", "attention.k"):
        base = {"IQ3_XXS": "IQ2_S", "IQ3_XS": "IQ3_XXS"}.get(kind, base)
    elif part == "attention.o":
        base = _output_format(kind, base, model)
    elif part.endswith(".down"):
        base = _down_format(kind, base, index, layers)
    elif part.endswith((".gate", ".up")) and kind == "IQ3_XS" and layers // 8 <= index < 7 * layers // 8:
        base = "IQ3_XXS"
    return base


def finer(index: int, layers: int) -> bool:
    """Layers that get more bits: the first and last eighth, and every third between (`use_more_bits`)."""
    eighth = layers // 8
    return index < eighth or index >= 7 * layers // 8 or (index - eighth) % 3 == 2


def _value_format(kind: str, base: str, model: Model, index: int, layers: int) -> str:
    if _eight_experts(model):
        return "Q8_0"
    wide = model.heads // max(1, model.kv_heads) >= 4
    chosen = {
        "Q4_K_M": "Q6_K" if finer(index, layers) else base,
        "Q5_K_M": "Q6_K" if finer(index, layers) else base,
        "Q4_K_S": "Q5_K" if index < 4 else base,
        "Q3_K_M": "Q5_K" if index < 2 else "Q4_K",
        "Q3_K_L": "Q5_K",
        "Q2_K": "Q4_K" if wide else "Q3_K",
        "Q2_K_S": "Q4_K" if wide else base,
        "IQ4_XS": "Q5_K" if wide else base,
        "IQ4_NL": "Q5_K" if wide else base,
        "IQ3_M": "Q4_K",
        "IQ3_S": "Q4_K" if wide else base,
        "IQ3_XS": "Q4_K" if wide else base,
        "IQ3_XXS": "Q4_K" if wide else "IQ3_S",
    }.get(kind, base)
    if kind.startswith(("IQ1", "IQ2")):
        chosen = "Q4_K" if wide else ("IQ3_S" if kind in ("IQ2_S", "IQ2_M") else "Q2_K")
    return "Q5_K" if _seventy_billion(model) and chosen in ("Q3_K", "Q4_K") else chosen


def _output_format(kind: str, base: str, model: Model) -> str:
    if _eight_experts(model) and kind not in ("Q5_K_M", "Q5_K_S", "Q6_K"):
        return "Q5_K"
    return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K",
            "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS"}.get(kind, base)  # fmt: skip


def _down_format(kind: str, base: str, index: int, layers: int) -> str:
    early = index < layers // 8
    return {
        "Q4_K_M": "Q6_K" if finer(index, layers) else base,
        "Q5_K_M": "Q6_K" if finer(index, layers) else base,
        "Q4_K_S": "Q5_K" if early else base,
        "Q3_K_M": "Q5_K" if index < layers // 16 else "Q4_K",
        "Q3_K_L": "Q5_K",
        "Q2_K": "Q3_K",
        "Q2_K_S": "Q4_K" if early else base,
        "IQ3_M": "Q4_K" if early else base,
        **dict.fromkeys(("IQ2_S", "IQ2_M"), "IQ3_S" if early else base),
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "Q2_K" if early else base),
    }.get(kind, base)


def in_file(tensor: Tensor, model: Model) -> bool:
    """Whether a GGUF file carries the tensor: pictures have a file of their own, and of the prediction layers
    convert_hf_to_gguf.py keeps those of GLM 4.5 alone (110.47 of 110.47 billion parameters in a published file)."""
    return tensor.part != "vision" and (tensor.part != "mtp" or model.architecture == "Glm4MoeForCausalLM")


def _eight_experts(model: Model) -> bool:
    return model.moe is not None and model.moe.experts == 8


def _seventy_billion(model: Model) -> bool:
    """llama.cpp's own test for a 70B Llama or Qwen2: 80 layers and grouped heads."""
    return model.layers == 80 and model.heads != model.kv_heads and model.moe is None


def _nominal_bits(kind: str) -> float:
    base = BASE.get(kind, kind)
    return UNSLOTH_BITS.get(kind) or 8 * BLOCK[base][1] / BLOCK[base][0]


def _lane(kind: str) -> Lane:
    recipe = Recipe(name=kind, algorithm="llama-quantize with importance matrix")
    method = Method(recipe=recipe, matrix_bytes=None, tool="llama-quantize", scheme=kind)
    return Lane(
        id=f"gguf:{kind}",
        family="gguf",
        bits=_nominal_bits(kind),
        methods=(method,),
        asks="llama.cpp serves: laptops, Apple, CPUs, single users",
    )


GGUF = tuple(_lane(kind) for kind in GGUF_TYPES)
DEFAULT_TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")
"""Types that a search tries when the request names none."""
