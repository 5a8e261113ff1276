"""A published checkpoint as a folder that transformers opens: weights as they are served, in plain 16 bits.

usage: dense.py --model FOLDER --out DIR
Writes DIR/model (safetensors in the type of config.json's dtype, config without quantization, tokenizer as it is) and
DIR/dense.json last: layouts, how many weights, what rounding to 16 bits costs, what is not in it. Kernels that multiply
16-bit activations with unpacked weights compute with exactly these numbers (rounded once to the activations' type);
quantized activations are not in them. Scales of the cache are kept, so that the scorer reads them. A checkpoint of
compressed-tensors is linked as it is: transformers runs it, activations and all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensor_files import PLAIN, TYPES, Block, Broken, Checkpoint, read_json
from tensor_formats import Layout, layouts, values

KEPT = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
SHARD = 4 * 2**30
"""Bytes of a file, at most."""
TYPE = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
ACTIVATIONS = ("input_scale", "input_global_scale", "input_zero_point")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        said = convert(given.model, given.out)
    except (Broken, OSError, KeyError, ValueError) as fault:
        sys.exit(f"dense.py: {given.model}: {fault}")
    print(json.dumps(said))


def convert(source: Path, out: Path) -> dict[str, Any]:
    """Everything that DIR/dense.json says. Raises Broken for layouts and tensors that are not read."""
    stored = Checkpoint(source)
    if stored.quantization.get("quant_method") == "compressed-tensors":
        return linked(source, out)
    if stored.faults:
        raise Broken("; ".join(f"{where}: {what}" for what, where in stored.faults))
    known = {f"{each.module}.weight": each for each in layouts(stored)}
    if not known:
        raise Broken("no weight of a layout that is read here")
    parts = {name for of in known.values() for name in tensors_of(stored, of)}
    unread = sorted(
        name for name, entry in stored.entries.items() if name not in parts and not plain(name, entry.dtype)
    )
    if unread:
        raise Broken(f"{len(unread)} tensors belong to no layout that is read here, the first is {unread[0]}")
    folder = out / "model"
    folder.mkdir(parents=True)
    words(source, folder)
    written = Writer(folder, TYPE.get(dtype_of(stored.config), "BF16"))
    for name in stored.entries:
        if name not in parts and name.rpartition(".")[2] not in ACTIVATIONS:
            written.add(name, stored.entries[name].dtype, stored.raw(name))
    for name, of in known.items():
        written.add_numbers(name, values(stored, of, np.arange(of.shape[0])))
    written.close()
    served = activations(stored)
    said = {
        "layouts": sorted({each.kind for each in known.values()}), "weights": len(known), "dtype": written.dtype,
        "rounding": written.lost, "activations": "quantized when served, not in these weights" if served else "16 bits",
    }  # fmt: skip
    (out / "dense.json").write_text(json.dumps(said, indent=1) + "\n")
    return said


def linked(source: Path, out: Path) -> dict[str, Any]:
    """The same files under another name."""
    folder = out / "model"
    folder.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file():
            (folder / file.name).symlink_to(file.resolve())
    said = {"layouts": ["compressed-tensors"], "as_it_is": True}
    (out / "dense.json").write_text(json.dumps(said, indent=1) + "\n")
    return said


def tensors_of(stored: Checkpoint, of: Layout) -> Iterator[str]:
    """All tensors of a quantized weight."""
    names = ("weight_shape", "weight_g_idx", "g_idx", "weight_zero_point", "qzeros")
    yield from (of.codes, *of.scales)
    yield from (f"{of.module}.{name}" for name in names if f"{of.module}.{name}" in stored)


def plain(name: str, dtype: str) -> bool:
    """Whether a tensor can be copied: 16 bits or more, or a scale that belongs to activations or the cache."""
    last = name.rpartition(".")[2]
    return dtype in PLAIN or last in ACTIVATIONS or dtype == "I64"


def activations(stored: Checkpoint) -> bool:
    """Whether inputs of the matrices are quantized when this is served."""
    scales = any(name.rpartition(".")[2] in ACTIVATIONS for name in stored.entries)
    return scales or stored.quantization.get("activation_scheme") is not None


def dtype_of(config: dict[str, Any]) -> str:
    inner = config.get("text_config") or {}
    return str(config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype"))


def words(source: Path, folder: Path) -> None:
    """Tokenizer and templates as they are, the config without its quantization."""
    for kind in KEPT:
        for file in source.glob(kind):
            if not file.name.endswith(".index.json") and file.name not in ("config.json", "hf_quant_config.json"):
                shutil.copyfile(file, folder / file.name)
    config = read_json(source / "config.json")
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


class Writer:
    """Safetensors files of at most SHARD bytes and their index."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        self.open: dict[str, tuple[str, Block]] = {}
        self.files: list[list[str]] = []
        self.size, self.lost = 0, 0.0

    def add(self, name: str, dtype: str, raw: Block) -> None:
        if self.size and self.size + raw.nbytes > SHARD:
            self._write()
        self.open[name] = dtype, raw
        self.size += raw.nbytes

    def add_numbers(self, name: str, numbers: Block) -> None:
        """Rounded once to the type of the model; how much that changes is kept. Raises Broken for no numbers."""
        if not np.isfinite(numbers).all():
            raise Broken(f"{name} has values that are not finite")
        raw, back = narrowed(numbers, self.dtype)
        if not np.isfinite(back).all():
            raise Broken(f"{name} has values that {self.dtype} does not hold")
        power = float((numbers.astype(np.float64) ** 2).sum()) or 1.0
        off = float(np.sqrt(((numbers - back).astype(np.float64) ** 2).sum() / power))
        self.lost = max(self.lost, off)
        self.add(name, self.dtype, raw)

    def _write(self) -> None:
        header, offset = {}, 0
        for name, (dtype, raw) in self.open.items():
            header[name] = {"dtype": dtype, "shape": list(raw.shape), "data_offsets": [offset, offset + raw.nbytes]}
            offset += raw.nbytes
        said = json.dumps(header).encode()
        with (self.folder / f"model-{len(self.files):05d}.safetensors").open("wb") as target:
            target.write(struct.pack("<Q", len(said)) + said)
            for dtype, raw in self.open.values():
                np.ascontiguousarray(raw, dtype=TYPES[dtype]).tofile(target)
        self.files.append(list(self.open))
        self.open, self.size = {}, 0

    def close(self) -> None:
        """The last file, and which file holds what."""
        self._write()
        places = {name: f"model-{file:05d}.safetensors" for file, names in enumerate(self.files) for name in names}
        index = {"metadata": {}, "weight_map": places}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))


def narrowed(numbers: Block, dtype: str) -> tuple[Block, Block]:
    """Nearest values of a type, ties to even, and those values in 32 bits."""
    wide = np.ascontiguousarray(numbers, dtype="<f4")
    if dtype == "F32":
        return wide, wide
    if dtype == "F16":
        with np.errstate(over="ignore"):
            made = wide.astype("<f2")
        return made, made.astype("<f4")
    bits = wide.view("<u4")
    made = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype("<u4")) >> 16).astype("<u2")
    return made, (made.astype("<u4") << 16).view("<f4")


if __name__ == "__main__":
    main()
