"""llama.cpp's choice of a block format for every tensor of a file type, by the tensor's name, shape and order.

The rules of llama.cpp's `src/llama-quant.cpp` (llama_tensor_get_type_impl, tensor_type_fallback); golden snapshots
that llama.cpp ships for twelve models hold them. Falcon's and GLM-5-Next's exceptions are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

BLOCK = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22),
    "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176),
    "Q6_K": (256, 210), "IQ1_S": (256, 50), "IQ1_M": (256, 56), "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74),
    "IQ2_S": (256, 82), "IQ3_XXS": (256, 98), "IQ3_S": (256, 110), "IQ4_XS": (256, 136), "IQ4_NL": (32, 18),
    "MXFP4": (32, 17), "TQ1_0": (256, 54), "TQ2_0": (256, 66), "Q1_0": (128, 18), "Q2_0": (64, 18),
}  # fmt: skip
"""Weights per block and bytes per block of every block format (ggml-common.h)."""

BASE = {
    "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "Q5_K_M": "Q5_K", "Q5_K_S": "Q5_K", "Q3_K_L": "Q3_K", "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K", "Q2_K_S": "Q2_K", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S",
}  # fmt: skip
"""The format of most tensors of a file type; the type itself where it is not listed."""
NARROW = {"Q2_0": "Q4_0", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0", "Q4_K": "Q5_0",
          "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # fmt: skip
"""What a block becomes when a row is no multiple of it; i-quants of 256 become IQ4_NL."""
FLOATS = ("F32", "F16", "BF16")
SMALLEST = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
"""File types with rules of their own."""
FINE_SMALL = ("IQ2_S", "IQ2_M")

OUT_OF_EIGHT = ("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M",
                "IQ4_XS")  # fmt: skip
"""File types that give the attention's output five bits in a model of eight experts."""

KEPT = ("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", "shortconv.conv.weight", "altup", "laurel",
        "per_layer_model_proj")  # fmt: skip
"""Words in the names of matrices that no file type touches."""
CATEGORIES = (
    ("attn_qkv.weight", "value"), ("attn_kv_b.weight", "value"), ("attn_v.weight", "value"), ("attn_k.weight", "key"),
    ("attn_q.weight", "query"), ("attn_output.weight", "out"), ("ffn_up", "up"), ("ffn_gate", "gate"),
    ("ffn_down", "down"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One tensor as a GGUF file names it."""

    name: str
    shape: tuple[int, ...]
    """Inputs first: (columns, rows, experts)."""
    part: str
    """As the catalogue calls it."""
    layer: int = -1
    """-1 outside the layers."""

    @property
    def quantizable(self) -> bool:
        """Whether a file type decides its format; norms, routers and biases stay in 32 bits."""
        return len(self.shape) > 1 and prod(self.shape[1:]) > 1 and not _kept(self.word)

    @property
    def category(self) -> str:
        return _category(self.word)

    @property
    def word(self) -> str:
        """The name within its layer."""
        return self.name if self.layer < 0 else self.name.split(".", 2)[2]

    def bytes_as(self, block: str) -> float:
        """Bytes in this block format."""
        weights, size = BLOCK[block]
        return prod(self.shape) / weights * size


@lru_cache
def _kept(word: str) -> bool:
    return not word.endswith("weight") or any(kept in word for kept in KEPT)


@lru_cache
def _category(word: str) -> str:
    if word in ("output.weight", "token_embd.weight"):
        return "head" if word == "output.weight" else "embedding"
    return next((category for part, category in CATEGORIES if part in word), "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules ask of a model."""

    layers: int
    """All of them, layers that predict further tokens included."""
    grouped: int
    """Query heads per KV head in the first layer; 0 where it has none."""
    experts: int
    seventy: bool
    """llama.cpp's own test for a 70B Llama: 80 layers and grouped heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor among its like."""

    category: str
    order: int
    """Among tensors of its category, in file order."""
    count: int
    """How many of its category there are; layers for MLPs."""
    layer: int
    """Where an MLP counts itself: its layer with experts, its order without."""

    @property
    def early(self) -> bool:
        return self.layer < self.count // 8

    @property
    def finer(self) -> bool:
        """Layers that get more bits (`use_more_bits`): the first and last eighth, and every third between."""
        at = self.layer if self.category != "value" else self.order
        eighth = self.count // 8
        return at < eighth or at >= 7 * self.count // 8 or (at - eighth) % 3 == 2


def formats(tensors: Iterable[Named], kind: str, facts: Facts, *, imatrix: bool) -> Iterator[tuple[Named, str]]:
    """Each tensor with its block format in a file of type `kind`, in llama.cpp's order: by layer, then by name."""
    ordered = sorted(tensors, key=lambda tensor: (tensor.layer, tensor.name))
    tied = not any(tensor.category == "head" for tensor in ordered)
    seen: dict[str, int] = {}
    values = sum(tensor.quantizable and tensor.category == "value" for tensor in ordered)
    for tensor in ordered:
        if not tensor.quantizable:
            yield tensor, "F32"
            continue
        category = tensor.category
        order = seen[category] = seen.get(category, -1) + 1
        place = Place(
            category="head" if tied and category == "embedding" else category,
            order=order,
            count=values if category == "value" else facts.layers,
            layer=tensor.layer if facts.experts > 1 and kind not in SMALLEST else order,
        )
        yield tensor, fitting(chosen(place, tensor, kind, facts, imatrix=imatrix), tensor.shape[0])


def fitting(block: str, columns: int) -> str:
    """The format itself, or what it becomes where a row is no multiple of its block: a smaller block, then F16."""
    if columns % BLOCK[block][0]:
        block = NARROW.get(block, "IQ4_NL" if BLOCK[block][0] == 256 else block)
    return "F16" if columns % BLOCK[block][0] else block


def chosen(place: Place, tensor: Named, kind: str, facts: Facts, *, imatrix: bool) -> str:
    """The format before its block is held against the row."""
    base = BASE.get(kind, kind)
    if base in FLOATS:
        return base
    if place.category == "head":
        return head_format(kind, base, tensor.shape[0])
    if kind == "MXFP4":
        return "MXFP4" if len(tensor.shape) > 2 and tensor.shape[2] > 1 else "Q8_0"
    if place.category == "embedding":
        return embedding_format(kind, base)
    if kind in SMALLEST:
        return smallest_format(place, kind, base, facts)
    return layer_format(place, kind, base, facts, imatrix=imatrix)


def layer_format(place: Place, kind: str, base: str, facts: Facts, *, imatrix: bool) -> str:
    """Matrices of the layers in all other file types."""
    match place.category:
        case "value":
            return value_format(place, kind, base, facts, imatrix=imatrix)
        case "key" | "query":
            return key_format(place, kind, base, facts)
        case "down":
            return down_format(place, kind, base, facts, imatrix=imatrix)
        case "out":
            return out_format(kind, base, facts)
    middle = place.count // 8 <= place.layer < 7 * place.count // 8
    return "IQ3_XXS" if kind == "IQ3_XS" and place.category in ("gate", "up") and middle else base


def head_format(kind: str, base: str, columns: int) -> str:
    """The output matrix, and an embedding that serves as one."""
    if kind == "MXFP4" or columns % BLOCK[base][0]:
        return "Q8_0"
    if kind in SMALLEST or kind == "IQ3_XXS":
        return "Q5_K"
    return base if base == "Q8_0" else "Q6_K"


def embedding_format(kind: str, base: str) -> str:
    if kind in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
        return "Q2_K"
    if kind in (*FINE_SMALL, "IQ3_XXS"):
        return "IQ3_S"
    return "Q4_K" if kind in ("TQ1_0", "TQ2_0", "Q2_0") else base


def smallest_format(place: Place, kind: str, base: str, facts: Facts) -> str:
    """Layers of the types of one and two bits."""
    finer = "IQ3_S" if kind in FINE_SMALL else "Q2_K"
    if place.category == "value":
        return "Q4_K" if facts.grouped >= 4 or facts.experts >= 4 else finer
    if place.category == "key" and facts.experts == 8:
        return "Q4_K"
    if place.category == "down":
        return finer if place.early else base
    if place.category == "out":
        if facts.experts == 8:
            return "Q5_K"
        return "IQ2_XXS" if kind in ("IQ1_S", "IQ1_M") else "IQ3_S" if kind in FINE_SMALL else base
    return base


def value_format(place: Place, kind: str, base: str, facts: Facts, *, imatrix: bool) -> str:
    """Values, the most sensitive matrices of a layer and small where heads are grouped."""
    if facts.experts == 8:
        return "Q8_0"
    wide = facts.grouped >= 4
    chosen = {
        "Q2_K": "Q4_K" if wide else "Q3_K",
        "Q2_K_S": "Q4_K" if wide else base,
        "IQ3_XXS": "Q4_K" if wide else "IQ3_XXS" if imatrix else "IQ3_S",
        "IQ3_XS": "Q4_K" if wide else base,
        "IQ3_S": "Q4_K" if wide else base,
        "IQ3_M": "Q4_K",
        "Q3_K_M": "Q5_K" if place.order < 2 else "Q4_K",
        "Q3_K_L": "Q5_K",
        "IQ4_NL": "Q5_K" if wide else base,
        "IQ4_XS": "Q5_K" if wide else base,
        "Q4_K_M": "Q6_K" if place.finer else base,
        "Q5_K_M": "Q6_K" if place.finer else base,
        "Q4_K_S": "Q5_K" if place.order < 4 else base,
    }.get(kind, base)
    return "Q5_K" if facts.seventy and chosen in ("Q3_K", "Q4_K") else chosen


def key_format(place: Place, kind: str, base: str, facts: Facts) -> str:
    if place.category == "key" and facts.experts == 8:
        return "Q8_0"
    return {"IQ3_XXS": "IQ2_S", "IQ3_XS": "IQ3_XXS"}.get(kind, base)


def down_format(place: Place, kind: str, base: str, facts: Facts, *, imatrix: bool) -> str:
    """The MLP's way down, finer in early layers; an importance matrix changes the rule."""
    early, finer = place.early, place.finer
    return {
        "Q2_K": "Q3_K",
        "Q2_K_S": "Q4_K" if early else base,
        "IQ3_XXS": base if imatrix else "Q4_K" if early else "Q3_K",
        "Q3_K_M": "Q5_K" if place.layer < place.count // 16 else "Q4_K",
        "IQ3_M": "Q4_K" if early or (facts.experts == 8 and finer) else base,
        "Q3_K_L": "Q5_K",
        "Q4_K_M": "Q6_K" if finer else base,
        "Q5_K_M": "Q6_K" if finer else base,
        "Q4_K_S": "Q5_K" if early else base,
        "IQ4_NL": "Q5_K" if early and not imatrix else base,
        "IQ4_XS": "Q5_K" if early and not imatrix else base,
        "Q4_0": "Q4_1" if early and imatrix else base,
        "Q5_0": "Q5_1" if early and imatrix else base,
    }.get(kind, base)


def out_format(kind: str, base: str, facts: Facts) -> str:
    """The attention's output matrix."""
    if facts.experts == 8:
        mixes = (
            "Q2_K",
            "IQ3_XS",
            "IQ3_XXS",
            "Q3_K_S",
            "Q3_K_M",
            "IQ4_NL",
            "Q4_K_S",
            "Q4_K_M",
            "IQ3_S",
            "IQ3_M",
            "IQ4_XS",
        )
        return "Q5_K" if kind in mixes else base
    return {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(kind, base)
