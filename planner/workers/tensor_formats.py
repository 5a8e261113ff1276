"""Quantized weights of published layouts as numbers: which tensors make one, and what they stand for.

Layouts: compressed-tensors (float-, int-, naive-, pack-quantized of 4 and 8 bits, nvfp4- and mxfp4-pack), AWQ (gemm),
GPTQ of 4 bits, ModelOpt FP8 and NVFP4, FP8 in blocks (`weight_scale_inv`). Each is what the tools' own unpackers
compute; tests hold them against those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensor_files import E2M1, PLAIN, Block, Broken, Checkpoint, powers

AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Which nibble of a word holds the first, second … column: AutoAWQ's interleaving."""
BLOCK = 128
"""Of FP8 in blocks where no config says it."""
POWERS = powers()


@dataclass(frozen=True)
class Layout:
    """A quantized weight [out, in] of one module."""

    module: str
    kind: str
    bits: int
    group: int
    """Inputs that share a scale; 0 = more than one row's."""
    shape: tuple[int, int]
    float_: bool
    scales: tuple[str, ...]
    """Tensors that have to be finite and not zero."""
    codes: str
    """The tensor with the packed values."""
    zero: str = ""
    offset: int = 0


def layouts(stored: Checkpoint) -> Iterator[Layout]:
    """Every quantized weight of a checkpoint. Raises Broken for tensors that do not belong together."""
    return (found for name in stored.entries if (found := layout(stored, name)) is not None)


def layout(stored: Checkpoint, name: str) -> Layout | None:
    """The weight that a tensor holds the values of; None for every other tensor. Raises Broken and KeyError."""
    entry = stored.entries[name]
    module, _, last = name.rpartition(".")
    if last == "qweight":
        return packed_columns(stored, module)
    if last == "weight_packed":
        return packed_rows(stored, module)
    if last != "weight" or entry.dtype in PLAIN or len(entry.shape) != 2:
        return None
    return eight_bits(stored, module) if entry.dtype != "U8" else four_bits(stored, module, name)


def is_awq(said: dict[str, Any]) -> bool:
    return bool(said.get("quant_method") == "awq")


def packed_columns(stored: Checkpoint, module: str) -> Layout:
    """AWQ and GPTQ: columns are outputs."""
    said = stored.quantization
    bits = int(said.get("bits") or said.get("w_bit") or 4)
    words, scales = stored.entries[f"{module}.qweight"].shape, stored.entries[f"{module}.scales"].shape
    if said.get("quant_method") not in ("awq", "gptq"):
        raise Broken(
            f"{module}: packed columns of {said.get('quant_method')!r} are not read here, only AWQ's and GPTQ's"
        )
    if is_awq(said):
        if bits != 4:
            raise Broken(f"{module}: AWQ of {bits} bits is not read here, only 4")
        shape, kind, offset = (words[1] * 8, words[0]), "awq", 0
    else:
        if bits != 4:
            raise Broken(f"{module}: GPTQ of {bits} bits is not read here, only 4")
        second = "v2" in str(said.get("checkpoint_format", ""))
        shape, kind, offset = (words[1], words[0] * 32 // bits), "gptq", int(not second)
    if scales[1] != shape[0] or shape[1] % scales[0]:
        raise Broken(f"{module}: scales {list(scales)} do not fit a weight of {list(shape)}")
    zeros = stored.entries[f"{module}.qzeros"].shape
    if zeros != (scales[0], shape[0] * bits // 32):
        raise Broken(f"{module}: zero points {list(zeros)} do not fit scales {list(scales)}")
    names = (f"{module}.scales",), f"{module}.qweight", f"{module}.qzeros"
    return Layout(module, kind, bits, shape[1] // scales[0], shape, False, *names, offset)


def packed_rows(stored: Checkpoint, module: str) -> Layout:
    """compressed-tensors' weight_packed: 32-bit words of integers, or bytes of two 4-bit floats."""
    codes = f"{module}.weight_packed"
    if stored.entries[codes].dtype == "U8":
        return four_bits(stored, module, codes)
    out, columns = (int(each) for each in stored.raw(f"{module}.weight_shape"))
    rows, words = stored.entries[codes].shape
    scale = stored.entries[f"{module}.weight_scale"].shape
    bits = next((each for each in (4, 8) if -(-columns * each // 32) == words), 0)
    if rows != out or not bits:
        raise Broken(f"{module}: {rows} x {words} words do not hold a weight of {out} x {columns} in 4 or 8 bits")
    groups = scale[-1] if len(scale) == 2 else 1
    if scale[0] not in (1, out) or (groups > 1 and columns % groups):
        raise Broken(f"{module}: scales {list(scale)} do not fit a weight of {out} x {columns}")
    zero = f"{module}.weight_zero_point"
    zero = zero if zero in stored else ""
    return Layout(
        module, "packed", bits, columns // groups, (out, columns), False, (f"{module}.weight_scale",), codes, zero
    )


def four_bits(stored: Checkpoint, module: str, codes: str) -> Layout:
    """NVFP4 of compressed-tensors and of ModelOpt, MXFP4: two e2m1 in a byte, the first in its low half."""
    out, half = stored.entries[codes].shape
    scale = f"{module}.weight_scale"
    entry = stored.entries[scale]
    if len(entry.shape) != 2 or entry.shape[0] != out or not entry.shape[1] or half * 2 % entry.shape[1]:
        raise Broken(f"{module}: scales {list(entry.shape)} do not fit a weight of {out} x {half * 2}")
    whole = {"weight_global_scale": "nvfp4", "weight_scale_2": "modelopt-nvfp4"}
    outer = next((name for name in whole if f"{module}.{name}" in stored), "")
    if bool(outer) != (entry.dtype == "F8_E4M3"):
        raise Broken(f"{module}: scales of type {entry.dtype} {'with' if outer else 'without'} a scale of the whole")
    scales = (scale, f"{module}.{outer}") if outer else (scale,)
    return Layout(
        module, whole.get(outer, "mxfp4"), 4, half * 2 // entry.shape[1], (out, half * 2), True, scales, codes
    )


def eight_bits(stored: Checkpoint, module: str) -> Layout:
    """FP8 and INT8: a scale of the tensor, of each row, or of blocks."""
    codes = f"{module}.weight"
    entry = stored.entries[codes]
    if entry.dtype not in ("F8_E4M3", "I8"):
        raise Broken(f"{module}: weights of type {entry.dtype} are not read here")
    scale = next((f"{codes}{end}" for end in ("_scale", "_scale_inv") if f"{codes}{end}" in stored), "")
    if not scale:
        raise Broken(f"{module}: {entry.dtype} without a scale")
    shape, float_ = (entry.shape[0], entry.shape[1]), entry.dtype == "F8_E4M3"
    group = shape[1] if per_row(stored.entries[scale].shape, shape, block_of(stored)) else 0
    zero = f"{module}.weight_zero_point" if f"{module}.weight_zero_point" in stored else ""
    return Layout(module, "fp8" if float_ else "int8", 8, group, shape, float_, (scale,), codes, zero)


def block_of(stored: Checkpoint) -> tuple[int, int]:
    """Height and width of FP8 blocks, as the config says."""
    said = stored.quantization
    groups = said.get("config_groups") or {}
    found = [(each.get("weights") or {}).get("block_structure") for each in groups.values()]
    height, width = next((each for each in (said.get("weight_block_size"), *found) if each), (BLOCK, BLOCK))
    return int(height), int(width)


def per_row(scale: tuple[int, ...], shape: tuple[int, int], block: tuple[int, int]) -> bool:
    """Whether a scale is one row's; False for the whole tensor's and for blocks. Raises Broken for neither."""
    count = int(np.prod(scale, dtype=np.int64))
    if count == 1:
        return False
    if scale in ((shape[0],), (shape[0], 1)):
        return True
    if scale == (-(-shape[0] // block[0]), -(-shape[1] // block[1])):
        return False
    raise Broken(f"scales {list(scale)} do not fit a weight of {list(shape)}")


def values(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    """Float32 [len(rows), in]: what these rows of the weight stand for."""
    return READERS[of.kind](stored, of, rows)


def _eight(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    codes = stored.floats(of.codes, rows)
    if of.zero:
        codes = codes - stored.floats(of.zero).reshape(-1, 1)[rows if stored.entries[of.zero].shape[0] > 1 else [0]]
    scale = stored.floats(of.scales[0])
    if scale.size == 1:
        return np.asarray(codes * scale.reshape(()))
    if of.group:
        return np.asarray(codes * scale.reshape(-1, 1)[rows])
    height, width = block_of(stored)
    wide = np.repeat(scale[rows // height], width, axis=1)[:, : of.shape[1]]
    return np.asarray(codes * wide)


def _packed(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    codes = unpacked(stored.raw(of.codes)[rows], of.bits)[:, : of.shape[1]]
    scale = stored.floats(of.scales[0])
    scale = scale[rows] if scale.shape[0] > 1 else scale
    middle: Any = 2 ** (of.bits - 1)
    if of.zero:
        words, keep = words_of(rows, 32 // of.bits)
        middle = unpacked(stored.raw(of.zero)[words].T, of.bits).T[keep]
    index = f"{of.module}.weight_g_idx"
    order = stored.raw(index) if index in stored else np.arange(of.shape[1]) // of.group
    middle = middle[:, order] if of.zero else middle
    return np.asarray((codes.astype(np.float32) - middle) * scale[:, order])


def words_of(rows: Block, per: int) -> tuple[Block, Block]:
    """The words that hold these rows, `per` in each, and the rows' places among all that those words hold."""
    words = np.unique(rows // per)
    return words, np.searchsorted((words[:, None] * per + np.arange(per)).ravel(), rows)


def unpacked(words: Block, bits: int) -> Block:
    """Unsigned integers of 32-bit words along the last axis, the lowest bits first."""
    if bits == 8:
        return np.ascontiguousarray(words).view(np.uint8)
    parts = np.ascontiguousarray(words).view(np.uint8)
    return np.stack([parts & 15, parts >> 4], axis=-1).reshape(*parts.shape[:-1], -1)


def _four(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    codes = stored.raw(of.codes)[rows]
    numbers = E2M1[np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(rows), -1)]
    scale = POWERS[stored.raw(of.scales[0])[rows]] if of.kind == "mxfp4" else stored.floats(of.scales[0], rows)
    if of.kind == "nvfp4":
        scale = scale / stored.floats(of.scales[1]).reshape(())
    elif of.kind == "modelopt-nvfp4":
        scale = scale * stored.floats(of.scales[1]).reshape(())
    return np.asarray(numbers * np.repeat(scale, of.group, axis=1))


def _awq(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    words, keep = words_of(rows, 8)

    def nibbles(name: str) -> Block:
        found = unpacked(stored.raw(name)[:, words], 4).reshape(-1, len(words), 8)
        return found[:, :, AWQ_ORDER].reshape(len(found), -1)[:, keep].astype(np.float32)

    group = np.arange(of.shape[1]) // of.group
    scale = stored.floats(of.scales[0])[:, rows]
    return np.asarray(((nibbles(of.codes) - nibbles(of.zero)[group]) * scale[group]).T)


def _gptq(stored: Checkpoint, of: Layout, rows: Block) -> Block:
    codes = unpacked(stored.raw(of.codes)[:, rows].T, of.bits).astype(np.float32)
    words, keep = words_of(rows, 32 // of.bits)
    zeros = unpacked(stored.raw(of.zero)[:, words], of.bits)[:, keep].astype(np.float32)
    zeros = (zeros + of.offset) % 2**of.bits if of.offset else zeros
    index = f"{of.module}.g_idx"
    order = np.asarray(stored.raw(index)) if index in stored else np.arange(of.shape[1]) // of.group
    scale = stored.floats(of.scales[0])[:, rows]
    return np.asarray((codes - zeros[order].T) * scale[order].T)


READERS = {
    "fp8": _eight, "int8": _eight, "packed": _packed, "nvfp4": _four, "modelopt-nvfp4": _four, "mxfp4": _four,
    "awq": _awq, "gptq": _gptq,
}  # fmt: skip
