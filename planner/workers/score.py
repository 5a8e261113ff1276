"""Runs inside a tool environment: log-probabilities of a baseline and of a candidate on the same token ids.

usage: score.py tokens  --tokenizer PATH --text FILE... --context N --windows K [--seed S] --out tokens.json
       score.py record  --backend NAME --model PATH --tokens tokens.json --out BASE_DIR [--store float32|float16]
       score.py compare --backend NAME --model PATH --tokens tokens.json --against BASE_DIR --out stats.npz
       record and compare: [--cache auto|16|fp8|f16|q8_0|...] what keys and values are kept in (score_cache.py)
NAME: `transformers` (folders with safetensors, compressed-tensors too) or `llama.cpp` (any GGUF file, through
llama-cpp-python; LLAMA_CPP_LIB_PATH names the folder of the libraries). Python 3.10 or newer, numpy and one of them.
It knows nothing of Lanewise. What was done is printed as one JSON object; progress and errors go to stderr.

Windows are scored as llama-perplexity scores chunks: the first half is context only, and places N // 2 to N - 2 each
predict the next token over the whole vocabulary. Nothing is averaged here: stats.npz has one value per scored token.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from score_common import Refusal, file_hash, folder_hash, write_json
from score_models import LlamaCpp, Transformers
from score_statistics import FIELDS, Block, divergence, normal, sound, statistics, targets
from score_tokens import SCHEMA, SCORED, load_tokens, make_tokens

ROOM = 1.02
"""Of the bytes to write that have to be free, over one."""
BACKENDS = {"transformers": Transformers, "llama.cpp": LlamaCpp}


def record(args: argparse.Namespace) -> dict[str, Any]:
    """The baseline's log-probabilities: BASE_DIR/logprobs.npy, and baseline.json once they are whole.

    Raises Refusal where they would not fit the disk or are not finite: nothing can be held against such a baseline.
    """
    tokens = load_tokens(args.tokens)
    started = time.monotonic()
    backend = opened(args, tokens)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "baseline.json").unlink(missing_ok=True)
    stored: Any = None
    lost = Tally()
    for window, ids, rows in scored(backend, tokens):
        if stored is None:
            shape = (len(tokens["windows"]), len(targets(ids)), rows.shape[1])
            need_room(args.out, shape, args.store)
            stored = reserved(args.out / "logprobs.npy", args.store, shape)
        if not sound(rows, targets(ids)).all():
            raise Refusal(f"{args.model}: log-probabilities of window {window} are not finite: the baseline is broken")
        stored[window] = rows
        lost.add(divergence(normal(rows), normal(stored[window])) if args.store != "float32" else np.zeros(len(rows)))
    stored.flush()
    header = described(args, tokens, backend) | {
        "stored": args.store, "bytes": int(stored.nbytes), "vocabulary": int(stored.shape[2]),
        "floor_is": "KL divergence of the baseline against itself as it is stored; nothing below shows",
        "floor_kl_mean": lost.mean, "floor_kl_max": lost.most,
    }  # fmt: skip
    write_json(args.out / "baseline.json", header)
    return header | {"seconds": round(time.monotonic() - started, 3)}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """One value per scored token of candidate and baseline: stats.npz, with the header in it."""
    tokens = load_tokens(args.tokens)
    base, stored = baseline_of(args.against, tokens)
    started = time.monotonic()
    backend = opened(args, tokens)
    found: dict[str, list[Block]] = {name: [] for name in (*FIELDS, "broken")}
    for window, ids, rows in scored(backend, tokens):
        if rows.shape[1] != stored.shape[2]:
            raise Refusal(f"{args.model}: {rows.shape[1]} words of vocabulary, the baseline has {stored.shape[2]}")
        for name, values in statistics(stored[window], rows, targets(ids)).items():
            found[name].append(values)
    arrays = {name: np.stack(values) for name, values in found.items()}
    header = described(args, tokens, backend) | {
        "baseline": base, "scored_tokens": int(arrays["kl"].size), "broken_tokens": int(arrays["broken"].sum()),
        "texts": [each["file"] for each in tokens["texts"]],
    }  # fmt: skip
    arrays |= {"header": np.array(json.dumps(header)), "text": np.array(tokens["text_of"])}
    part = args.out.with_name(args.out.name + ".part")
    save(part, arrays)
    part.replace(args.out)
    return header | {"seconds": round(time.monotonic() - started, 3)}


def save(file: Path, arrays: dict[str, Any]) -> None:
    """As `np.savez`, without the time in it."""
    with zipfile.ZipFile(file, "w") as packed:
        for name, values in arrays.items():
            with packed.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as target:
                np.lib.format.write_array(target, np.asanyarray(values), allow_pickle=False)


def scored(backend: Any, tokens: dict[str, Any]) -> Iterator[tuple[int, list[int], Block]]:
    """Windows with the log-probabilities of their scored places, [places, vocabulary]; progress to stderr."""
    started, windows = time.monotonic(), tokens["windows"]
    for window, ids in enumerate(windows):
        yield window, ids, np.concatenate(list(backend.logprobs(ids)))
        each = (time.monotonic() - started) / (window + 1)
        left = each * (len(windows) - window - 1)
        print(f"window {window + 1}/{len(windows)}, {each:.2f} s each, {left:.0f} s left", file=sys.stderr, flush=True)


class Tally:
    """Mean and largest of values that come in parts."""

    def __init__(self) -> None:
        self.total, self.count, self.most = 0.0, 0, 0.0

    def add(self, values: Block) -> None:
        self.total, self.count = self.total + float(values.sum()), self.count + values.size
        self.most = max(self.most, float(values.max()))

    @property
    def mean(self) -> float:
        return self.total / self.count


def baseline_of(folder: Path, tokens: dict[str, Any]) -> tuple[dict[str, Any], Block]:
    """What was recorded, mapped into memory; refused where it is not whole or of other windows."""
    try:
        base = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{folder}: no whole baseline (`score.py record` writes baseline.json last)") from error
    if base["tokens_sha256"] != tokens["sha256"]:
        raise Refusal(f"{folder}: the baseline was recorded on other windows than these")
    return base, np.load(folder / "logprobs.npy", mmap_mode="r", allow_pickle=False)


def need_room(folder: Path, shape: tuple[int, int, int], store: str) -> None:
    """Raises Refusal before anything is written where the disk has too little room."""
    old = folder / "logprobs.npy"
    free = shutil.disk_usage(folder).free + (old.stat().st_size if old.exists() else 0)
    need = ROOM * np.dtype(store).itemsize * float(np.prod(shape, dtype=np.float64))
    if need > free:
        shown = f"{shape[0]} windows of {shape[1]} places over {shape[2]} words in {store}"
        raise Refusal(f"{folder}: {shown} need {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")


def reserved(file: Path, store: str, shape: tuple[int, int, int]) -> Any:
    """The array in a file whose room nobody else can take: writing to a mapped file on a full disk ends the process."""
    stored = np.lib.format.open_memmap(file, "w+", store, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return stored


def opened(args: argparse.Namespace, tokens: dict[str, Any]) -> Any:
    """The backend with a model loaded that knows every token; refusals name the model."""
    try:
        backend = BACKENDS[args.backend](args.model, args)
    except ImportError as error:
        raise Refusal(f"this environment lacks {error.name} for --backend {args.backend}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise Refusal(f"{args.model}: {args.backend} could not load it: {error}") from error
    largest = max(max(ids) for ids in tokens["windows"])
    if largest >= backend.vocabulary:
        raise Refusal(f"{args.model}: knows {backend.vocabulary} tokens, {args.tokens} has token {largest}")
    return backend


def described(args: argparse.Namespace, tokens: dict[str, Any], backend: Any) -> dict[str, Any]:
    """What every header says: nothing of the time, so that the same work leaves the same bytes."""
    return {
        "schema": SCHEMA, "backend": args.backend, "model": str(args.model), "model_sha256": model_hash(args.model),
        "tokens_sha256": tokens["sha256"], "context": tokens["context"], "windows": len(tokens["windows"]),
        "scored": SCORED, "python": platform.python_version(), **backend.facts(),
    }  # fmt: skip


def model_hash(path: Path) -> str:
    """Of a file, or of the names and contents of a folder's weights and configuration."""
    return file_hash(path) if path.is_file() else folder_hash(path, ("*.safetensors", "*.json"))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="score.py", description=SCORED)
    commands = top.add_subparsers(dest="command", required=True)
    tokens = commands.add_parser("tokens")
    tokens.add_argument("--tokenizer", type=Path, required=True)
    tokens.add_argument("--text", type=Path, nargs="+", required=True)
    tokens.add_argument("--context", type=int, required=True)
    tokens.add_argument("--windows", type=int, required=True)
    tokens.add_argument("--seed", type=int, default=0)
    tokens.set_defaults(run=make_tokens)
    for name, run in (("record", record), ("compare", compare)):
        each = commands.add_parser(name)
        each.add_argument("--backend", choices=sorted(BACKENDS), required=True)
        each.add_argument("--model", type=Path, required=True)
        each.add_argument("--tokens", type=Path, required=True)
        each.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
        each.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
        each.add_argument("--threads", type=int, default=0)
        each.add_argument("--cache", default="auto")
        each.set_defaults(run=run)
    commands.choices["record"].add_argument("--store", choices=("float32", "float16"), default="float32")
    commands.choices["compare"].add_argument("--against", type=Path, required=True)
    for each in commands.choices.values():
        each.add_argument("--out", type=Path, required=True)
    return top


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    args = parser().parse_args()
    try:
        print(json.dumps(args.run(args)))
    except (Refusal, OSError) as refusal:
        sys.exit(f"score.py: {refusal}")


if __name__ == "__main__":
    main()
