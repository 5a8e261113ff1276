"""Safetensors files read with numpy alone: headers first, tensors as views of the mapped file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Block = np.ndarray[Any, np.dtype[Any]]
TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "u1",
}  # fmt: skip
"""Types of safetensors as numpy reads their bytes."""
PLAIN = ("F64", "F32", "F16", "BF16")
MOST_HEADER = 100_000_000
"""Bytes: the format's own limit."""


class Broken(Exception):
    """What is wrong with a file, and where."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor is."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class Checkpoint:
    """The tensors of a folder by name; `faults` says which files are not whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self.faults: list[tuple[str, str]] = []
        for file in sorted(folder.glob("*.safetensors")):
            try:
                self.entries |= entries(file)
            except (Broken, OSError, ValueError, KeyError, TypeError) as fault:
                self.faults.append((f"not a whole safetensors file: {fault}", file.name))
        self.config = read_json(folder / "config.json")
        self.quantization = self.config.get("quantization_config") or modelopt(folder)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def raw(self, name: str) -> Block:
        """The tensor as its bytes are: BF16 and 8-bit floats as unsigned integers."""
        entry = self.entries[name]
        kind = np.dtype(TYPES[entry.dtype])
        count = int(np.prod(entry.shape, dtype=np.int64))
        if count == 0:
            return np.zeros(entry.shape, kind)
        mapped: Block = np.memmap(entry.file, kind, "r", entry.start, entry.shape or (1,))
        return mapped.reshape(entry.shape)

    def floats(self, name: str, rows: Block | None = None) -> Block:
        """Float32 of a tensor in 16 bits or more or of 8-bit floats, of some rows where they are named."""
        raw = self.raw(name)
        return widened(raw if rows is None else raw[rows], self.entries[name].dtype)


def widened(raw: Block, dtype: str) -> Block:
    if dtype == "BF16":
        return np.asarray(raw.astype(np.uint32) << 16).view(np.float32)
    if dtype in TABLES:
        return np.asarray(TABLES[dtype][raw])
    return np.asarray(raw, dtype=np.float32)


def entries(file: Path) -> dict[str, Entry]:
    """A header, with every tensor inside the file. Raises Broken and ValueError."""
    size = file.stat().st_size
    with file.open("rb") as source:
        start = source.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MOST_HEADER + 1
        if length > min(MOST_HEADER, size - 8):
            raise Broken("its header does not fit the file")
        header = json.loads(source.read(length))
    found = {}
    for name, said in header.items():
        if name == "__metadata__":
            continue
        begin, end = said["data_offsets"]
        shape, dtype = tuple(said["shape"]), said["dtype"]
        if dtype not in TYPES:
            raise Broken(f"{name} is of type {dtype}, which is not known here")
        need = int(np.prod(shape, dtype=np.int64)) * np.dtype(TYPES[dtype]).itemsize
        if end - begin != need or 8 + length + end > size or begin < 0:
            raise Broken(f"{name} does not fit the file")
        found[name] = Entry(file, dtype, shape, 8 + length + begin)
    return found


def read_json(file: Path) -> dict[str, Any]:
    """An object; {} where there is no such file. Raises Broken."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as fault:
        raise Broken(f"{file.name}: not JSON ({fault})") from fault
    if not isinstance(found, dict):
        raise Broken(f"{file.name}: not an object")
    return found


def modelopt(folder: Path) -> dict[str, Any]:
    """ModelOpt's older way: hf_quant_config.json beside the config."""
    said = read_json(folder / "hf_quant_config.json").get("quantization")
    if not said:
        return {}
    return {"quant_method": "modelopt", "ignore": said.get("exclude_modules") or [], **said}


def small_floats(exponent: int, mantissa: int, *, infinite: bool) -> Block:
    """Every value of an 8-bit float by its byte; e4m3fn has no infinities and one NaN of each sign."""
    codes = np.arange(256)
    power, rest = (codes >> mantissa) & (2**exponent - 1), codes & (2**mantissa - 1)
    bias = 2 ** (exponent - 1) - 1
    normal = (1 + rest / 2**mantissa) * 2.0 ** (power - bias)
    values = np.where(power == 0, rest / 2**mantissa * 2.0 ** (1 - bias), normal)
    top = power == 2**exponent - 1
    values = np.where(top & (rest == 2**mantissa - 1) if not infinite else top & (rest > 0), np.nan, values)
    values = np.where(top & (rest == 0), np.inf, values) if infinite else values
    return np.asarray(np.where(codes >= 128, -values, values), dtype=np.float32)


def powers() -> Block:
    """e8m0: 2 to the byte less 127; 255 is no number."""
    made = 2.0 ** (np.arange(256) - 127.0)
    made[255] = np.nan
    return np.asarray(made, dtype=np.float32)


TABLES = {
    "F8_E4M3": small_floats(4, 3, infinite=False), "F8_E5M2": small_floats(5, 2, infinite=True), "F8_E8M0": powers(),
}  # fmt: skip
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
