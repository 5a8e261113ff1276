"""GGUF: llama.cpp's file types, as mixtures of block formats chosen tensor by tensor.

Which block a tensor gets is in `mixture.py`, which tensors a file has in `named.py`; a file's bytes follow. Sizes of
"UD-" types are averages of measured files, because each file has its own mixture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import isclose, prod
from types import MappingProxyType

from catalog import tensors
from catalog.lane import GGUF_TYPES
from catalog.model import Model, Tensor
from planner.lanes.lane import Lane, Method
from planner.lanes.mixture import BASE, BLOCK, Named, formats
from planner.lanes.named import facts, named
from planner.plan import Recipe
from planner.remembered import remembered

UNSLOTH_BITS = {
    "UD-Q2_K_XL": 3.2, "UD-Q3_K_XL": 4.0, "UD-Q4_K_XL": 4.93, "UD-Q5_K_XL": 6.02, "UD-Q6_K_XL": 7.1, "UD-Q8_K_XL": 10.6,
}  # fmt: skip
"""Mean bits per weight of published files: Q4, Q5 and Q8 measured on one to three models, the others assumed."""
WORDS = {
    "embedding": "token_embd", "head": "output", "attention.q": "attn_q", "attention.k": "attn_k",
    "attention.v": "attn_v", "attention.o": "attn_output", "router": "ffn_gate_inp", "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up", "mlp.down": "ffn_down", "shared.gate": "ffn_gate_shexp", "shared.up": "ffn_up_shexp",
    "shared.down": "ffn_down_shexp", "expert.gate": "ffn_gate_exps", "expert.up": "ffn_up_exps",
    "expert.down": "ffn_down_exps",
}  # fmt: skip
"""What llama.cpp calls a part; the part itself where no rule asks for its name."""
BESIDE = ("vision", "mtp")
"""Parts beside the layers: pictures have a file of their own."""
CLOSE = 0.002
"""Parameters that a list by name may miss of a checkpoint that was read; beyond that the checkpoint is counted."""


@remembered(256)  # thousands of tensors, milliseconds a type
def part_bytes(model: Model, kind: str) -> Mapping[str, float]:
    """Bytes of each part in a file of type `kind`, parts with a file of their own included."""
    sizes: dict[str, float] = defaultdict(float)
    if kind in UNSLOTH_BITS:
        for tensor in tensors.inventory(model):
            small = tensor.columns == 1 or tensor.part == "router"
            sizes[tensor.part] += tensor.params * (4.0 if small else UNSLOTH_BITS[kind] / 8)
    else:
        for each, block in stored(model, kind):
            sizes[each.part] += each.bytes_as(block)
    return MappingProxyType(sizes)


def stored(model: Model, kind: str) -> Iterator[tuple[Named, str]]:
    """Every tensor with its block format; published i-quants are made with an importance matrix, others without."""
    return formats(listed(model), kind, facts(model), imatrix=kind.startswith("IQ"))


def listed(model: Model) -> tuple[Named, ...]:
    """The file's tensors by name; by part where the architecture has no list, or where a checkpoint holds others."""
    inventory = tensors.inventory(model)
    exact = named(model)
    known = sum(prod(tensor.shape) for tensor in exact)
    if not exact or not isclose(known, tensors.params(inventory), rel_tol=CLOSE):
        return tuple(each for tensor in inventory for each in _by_part(tensor))
    return (*exact, *(each for tensor in inventory if tensor.part in BESIDE for each in _by_part(tensor)))


def _by_part(tensor: Tensor) -> Iterator[Named]:
    """One matrix per layer, as many rows as the layer's matrices of this part have together."""
    word = WORDS.get(tensor.part, tensor.part)
    if not tensor.layers:
        yield Named(name=f"{word}.weight", shape=(tensor.columns, tensor.rows * tensor.count), part=tensor.part)
        return
    rows = tensor.rows * tensor.count / tensor.layers
    for index in range(tensor.layers):
        own = round(rows * (index + 1)) - round(rows * index)
        shape = (own,) if tensor.columns == 1 else _stacked(tensor, own)
        yield Named(name=f"blk.{index}.{word}.weight", shape=shape, part=tensor.part, layer=index)


def _stacked(tensor: Tensor, rows: int) -> tuple[int, ...]:
    """Experts of a layer are one tensor of three dimensions."""
    if not tensor.part.startswith("expert."):
        return (tensor.columns, rows)
    return (tensor.columns, tensor.rows, rows // tensor.rows)


def in_file(part: str, model: Model) -> bool:
    """Whether a GGUF file carries the part: pictures have a file of their own, and of the prediction layers
    convert_hf_to_gguf.py keeps those of GLM 4.5 alone (110.47 of 110.47 billion parameters in a published file)."""
    return part != "vision" and (part != "mtp" or model.architecture == "Glm4MoeForCausalLM")


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
