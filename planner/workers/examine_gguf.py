"""A quantized GGUF file against its 16-bit baseline, read through the gguf package: types, scales, values, words."""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from examine_weights import ERROR, MOST_ERROR, Found, sample
from gguf_words import File, Tensor
from tensor_files import Block

HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q8_1": (0, 2), "IQ4_NL": (0,),
    "IQ4_XS": (0,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "TQ1_0": (52,),
    "TQ2_0": (64,),
}  # fmt: skip
"""Bytes of a block at which a 16-bit scale begins (ggml-common.h)."""
GROUPS = {
    "Q4_0": (4, 32), "Q4_1": (4, 32), "Q5_0": (5, 32), "Q5_1": (5, 32), "Q8_0": (8, 32), "IQ4_NL": (4, 32),
    "IQ4_XS": (4, 32), "Q2_K": (2, 16), "Q3_K": (3, 16), "Q4_K": (4, 32), "Q5_K": (5, 32), "Q6_K": (6, 16),
    "IQ3_XXS": (3, 32), "IQ3_S": (3, 32), "IQ2_XXS": (2, 32), "IQ2_XS": (2, 16), "IQ2_S": (2, 16), "IQ1_S": (1, 32),
    "IQ1_M": (1, 16), "MXFP4": (4, 32),
}  # fmt: skip
"""Bits of a value and values that share a scale: of the law of what a type may lose."""
FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What llama-quantize takes where a row is no multiple of 256 (llama-quant.cpp, tensor_type_fallback)."""
TOKENS = (
    "general.architecture", "tokenizer.chat_template",
    *(f"tokenizer.ggml.{name}" for name in (
        "model", "pre", "tokens", "merges", "token_type", "bos_token_id", "eos_token_id", "eot_token_id",
        "unknown_token_id", "add_bos_token", "add_eos_token", "add_space_prefix",
    )),
)  # fmt: skip
"""Metadata that changes what a prompt becomes or where an answer ends."""
WIDTH = 256
WHOLE = ("F32", "F16", "BF16")
KEPT = ("ffn_gate_inp", "_norm", ".bias", "ssm_", "rope_", "token_types", "position_embd", "attn_rel_b", "time_mix")
"""Of tensor names that no type quantizes."""


def examine_file(given: argparse.Namespace) -> Found:
    """Faults of a GGUF file. Raises Broken where it cannot be read."""
    found, made = Found(), File(given.candidate)
    base = File(given.original) if given.original is not None and given.original.is_file() else None
    found.seen["bytes"] = given.candidate.stat().st_size
    found.seen["tensors"] = len(made.tensors)
    found.seen["types"] = dict(Counter(each.type for each in made.tensors.values()))
    types_faults(made, given, found)
    for each in made.tensors.values():
        scales(each, found)
    if base is not None:
        words(made, base, found)
        compare(made.tensors, base.tensors, found)
    return found


def types_faults(made: File, given: argparse.Namespace, found: Found) -> None:
    """The file's own type, the one asked for, and every tensor's."""
    from gguf import LlamaFileType

    number = made.value("general.file_type")
    said = LlamaFileType(number).name.removeprefix("MOSTLY_") if number is not None else ""
    found.seen["file_type"] = said
    if given.type and said and said.upper() != given.type.upper():
        found.fault(f"is of type {said}, {given.type} was asked for", "general.file_type")
    name = said or given.type or ""
    if not name or name.startswith("ALL_"):
        return
    fallbacks = 0
    for each in made.tensors.values():
        if len(each.shape) < 2 or any(word in each.name for word in KEPT):
            continue
        if each.type in FALLBACK.values() and each.shape[0] % WIDTH and ("_K" in name or name.startswith("IQ")):
            fallbacks += 1
        elif each.type not in allowed(name):
            found.fault(f"is {each.type}, which no {name} file has", each.name)
    found.seen["fallbacks"] = fallbacks


def allowed(file_type: str) -> tuple[str, ...]:
    """Types that llama-quantize mixes into a file of this type: never fewer bits than a step below its own."""
    if file_type in WHOLE:
        return WHOLE
    if file_type.startswith("Q8"):
        return ("Q8_0",)
    if file_type in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        return (file_type, "Q6_K", "Q8_0", "Q5_K", "Q4_K", "Q5_0", "Q5_1", "Q4_1")
    family = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
    if file_type.startswith("IQ"):
        low = int(file_type[2])
        own = tuple(name for name in GROUPS if name.startswith("IQ") and int(name[2]) >= low)
        return (*own, *(each for each in family if int(each[1]) >= low))
    return (*(each for each in family if int(each[1]) >= int(file_type[1])), "IQ4_NL")


def scales(each: Tensor, found: Found) -> None:
    """16-bit scales of blocks, or the values themselves, are finite."""
    if each.type in WHOLE:
        bad = not_finite(each.data, each.type)
    elif each.type in HALVES:
        bad = sum(bad_halves(each.data, each.type))
    else:
        found.seen.setdefault("scales_not_read", []).append(each.name)
        return
    if bad:
        found.fault(f"{bad} {'values' if each.type in WHOLE else 'scales'} are not finite", each.name)


def not_finite(data: Block, kind: str) -> int:
    """By the bits of the exponent."""
    ones = {"F32": 0x7F800000, "BF16": 0x7F80, "F16": 0x7C00}[kind]
    bits = data.view("<u4" if kind == "F32" else "<u2")
    return int(np.count_nonzero((bits & ones) == ones))


def bad_halves(data: Block, kind: str) -> list[int]:
    """Of every place of a scale, how many are infinite or no number."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = data.reshape(-1, size)
    counted = []
    for place in HALVES[kind]:
        high = np.ascontiguousarray(blocks[:, place + 1])
        counted.append(int(np.count_nonzero((high & 0x7C) == 0x7C)))
    return counted


def words(made: File, base: File, found: Found) -> None:
    """What changes tokens has to be there as in the baseline; of the model's shape, what both files say."""
    shape = f"{base.value('general.architecture')}."
    for name in TOKENS:
        one, other = made.fields.get(name), base.fields.get(name)
        if one != other:
            said = "is in the baseline and not in the file" if one is None else "differs from the baseline's"
            found.fault(said if other is not None else "is not in the baseline", name)
    for name, field in base.fields.items():
        if name.startswith(shape) and made.fields.get(name, field) != field:
            found.fault("differs from the baseline's", name)
    found.seen["chat_template"] = "tokenizer.chat_template" in made.fields


def compare(tensors: dict[str, Tensor], base: dict[str, Tensor], found: Found) -> None:
    """Some rows of every tensor against the baseline's."""
    compared = 0
    for name, other in base.items():
        own = tensors.get(name)
        if own is None:
            found.fault("is in the baseline and not in the file", name)
        elif own.shape != other.shape:
            found.fault(f"is {list(own.shape)}, in the baseline {list(other.shape)}", name)
        else:
            compared += values(own, other, found)
    found.seen["compared_tensors"] = compared


def numbers(each: Tensor, rows: Block) -> Block:
    """Float32 of some rows. Raises NotImplementedError for types that the gguf package does not read."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    data = each.data[rows]
    if each.type in ("F32", "F16"):
        return np.asarray(data.view("<f4" if each.type == "F32" else "<f2"), dtype=np.float32)
    return np.asarray(dequantize(data, GGMLQuantizationType[each.type]))


def values(own: Tensor, other: Tensor, found: Found) -> int:
    """One tensor: its relative error within what its type leaves, and no row of zeros that the baseline has not."""
    rows = sample(len(own.data))
    try:
        made, base = numbers(own, rows), numbers(other, rows)
    except NotImplementedError:
        found.seen.setdefault("values_not_read", []).append(own.name)
        return 0
    power = float((base.astype(np.float64) ** 2).sum()) or 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.sqrt(((made - base).astype(np.float64) ** 2).sum() / power))
    most = leaves(own.type, base, power)
    if not error <= most:
        said = f"its values are not the baseline's: relative error {error:.3g}, {own.type} leaves {most:.3g}"
        found.fault(said, own.name)
    dead = (np.abs(made).max(1) == 0) & (np.abs(base).max(1) > 0)
    if dead.any():
        found.fault(f"{int(dead.sum())} of {len(rows)} rows are zero, the baseline's are not", own.name)
    return 1


def leaves(kind: str, base: Block, power: float) -> float:
    """Relative error that a type may leave: ERROR times that of its bits with a scale per group of its size."""
    if kind in WHOLE or kind not in GROUPS:
        return 2.0**-7
    bits, group = GROUPS[kind]
    top = np.abs(base.reshape(len(base), -1, group)).max(-1)
    step = 2 * top / (2**bits - 1)
    return min(MOST_ERROR, ERROR * float(np.sqrt((step.astype(np.float64) ** 2).sum() * group / 12 / power)))
