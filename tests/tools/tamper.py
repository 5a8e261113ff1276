"""Safetensors checkpoints taken apart and put together again with numpy: what breaks one is done to its bytes."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, tuple[str, Any]]
"""Name -> type as safetensors calls it, and an array whose bytes are written."""


def read(file: Path) -> Tensors:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    sizes = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "I32": "<i4", "I64": "<i8", "I8": "i1"}
    found: Tensors = {}
    for name, said in header.items():
        if name != "__metadata__":
            start, end = (8 + length + each for each in said["data_offsets"])
            kind = np.dtype(sizes.get(said["dtype"], "u1"))
            found[name] = said["dtype"], np.frombuffer(data[start:end], kind).reshape(said["shape"]).copy()
    return found


def write(file: Path, tensors: Tensors) -> None:
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        size = array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + size]}
        offset += size
    said = json.dumps(header).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for _, array in tensors.values())
    file.write_bytes(struct.pack("<Q", len(said)) + said + body)


def tampered(source: Path, target: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy of a checkpoint of one file, with its tensors changed."""
    shutil.copytree(source, target)
    tensors = read(target / "model.safetensors")
    change(tensors)
    write(target / "model.safetensors", tensors)
    return target


def swapped(one: str, other: str) -> Callable[[Tensors], None]:
    """Two tensors under each other's names."""

    def change(tensors: Tensors) -> None:
        tensors[one], tensors[other] = tensors[other], tensors[one]

    return change


def zeroed(*names: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in names:
            tensors[name] = tensors[name][0], np.zeros_like(tensors[name][1])

    return change
