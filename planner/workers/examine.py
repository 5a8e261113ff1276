"""Looks into a quantized checkpoint without loading it: every tensor, every scale, its words against the original's.

usage: examine.py --candidate FOLDER_OR_GGUF [--original FOLDER_OR_GGUF] [--scheme PRESET] [--group-size N]
                  [--ignore LAYER...] [--cache fp8] [--type GGUF_TYPE] --out faults.json
Reads safetensors with numpy and GGUF files with the gguf package: no framework, no code of the checkpoint. Writes
{"schema": 1, "faults": [{"what", "where"}], "seen": {...}} and prints how many. What the plan asked for is held where
it is given; without it, the checkpoint's own quantization_config is. Faults are an answer, not a failure: the exit code
is 0 with them, 1 where nothing could be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from examine_config import config_faults
from examine_tensors import tensor_faults
from examine_weights import Found, compare
from examine_words import word_faults
from tensor_files import Broken, Checkpoint
from tensor_formats import Layout, layout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidate", type=Path, required=True)
    parser.add_argument("--original", type=Path)
    parser.add_argument("--scheme")
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--cache", choices=("fp8",))
    parser.add_argument("--type")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    started = time.monotonic()
    try:
        found = examine(given)
    except (Broken, OSError) as fault:
        sys.exit(f"examine.py: {fault}")
    said = {"schema": 1, "faults": found.faults, "seen": found.seen}
    given.out.write_text(json.dumps(said, indent=1) + "\n")
    first = [f"{each['where']}: {each['what']}" for each in found.faults[:5]]
    took = {"bytes": found.seen.get("bytes"), "seconds": round(time.monotonic() - started, 3)}
    print(json.dumps({"faults": len(found.faults), "first": first} | took))


def examine(given: argparse.Namespace) -> Found:
    """Faults and what was seen. Raises Broken where there is nothing to read."""
    if given.candidate.is_file():
        from examine_gguf import examine_file

        return examine_file(given)
    return examine_folder(given)


def examine_folder(given: argparse.Namespace) -> Found:
    found = Found()
    made = Checkpoint(given.candidate)
    if not made.config:
        raise Broken(f"{given.candidate}: no config.json")
    if not made.entries and not made.faults:
        raise Broken(f"{given.candidate}: no safetensors")
    for what, where in made.faults:
        found.fault(what, where)
    known = {f"{each.module}.weight": each for each in read_layouts(made, found)}
    found.seen["bytes"] = sum(file.stat().st_size for file in given.candidate.glob("*.safetensors"))
    found.seen["tensors"], found.seen["quantized_weights"] = len(made.entries), len(known)
    found.seen["kinds"] = sorted({each.kind for each in known.values()})
    tensor_faults(made, known, found)
    config_faults(made, known, given, found)
    if given.original is not None and given.original.is_dir():
        original = Checkpoint(given.original)
        beside(made, original, known, found)
    return found


def read_layouts(made: Checkpoint, found: Found) -> list[Layout]:
    """Weights whose tensors belong together; the others are faults."""
    kept = []
    for name in made.entries:
        try:
            one = layout(made, name)
        except (Broken, KeyError, ValueError, IndexError) as fault:
            found.fault(f"its tensors do not make a weight: {fault}", name)
            continue
        if one is not None:
            kept.append(one)
    return kept


def beside(made: Checkpoint, original: Checkpoint, known: dict[str, Layout], found: Found) -> None:
    """What only the original can tell: names, shapes, values, tokenizer."""
    missing(made, original, known, found)
    word_faults(made.folder, original.folder, found)
    if original.quantization:
        found.seen["values"] = "not compared: the original is itself quantized"
    elif (made.quantization.get("transform_config") or {}).get("config_groups"):
        found.seen["values"] = "not compared: the checkpoint's weights are rotated"
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            compare(made, original, found, known)


def missing(made: Checkpoint, original: Checkpoint, known: dict[str, Layout], found: Found) -> None:
    """Tensors of the original that the candidate has in no form, and those of another shape."""
    layers = int(made.config.get("num_hidden_layers") or 0)
    unread = []
    for name, entry in original.entries.items():
        own = known[name].shape if name in known else made.entries[name].shape if name in made else None
        if own is None and optional(name, made, layers):
            unread.append(name)
        elif own is None:
            found.fault("is in the original and not in the checkpoint", name)
        elif tuple(own) != tuple(entry.shape):
            found.fault(f"is {list(own)}, in the original {list(entry.shape)}", name)
    found.seen["absent_by_design"] = unread[:20]


def optional(name: str, made: Checkpoint, layers: int) -> bool:
    """Shared output matrices, buffers that are computed, and layers of multi-token prediction behind the last one."""
    part = name.rsplit(".layers.", maxsplit=1)[-1].partition(".")[0]
    behind = ".layers." in name and part.isdigit() and layers > 0 and int(part) >= layers
    shared = name.endswith("lm_head.weight") and bool(made.config.get("tie_word_embeddings"))
    return behind or shared or name.endswith("inv_freq") or name.startswith("mtp.")


if __name__ == "__main__":
    main()
