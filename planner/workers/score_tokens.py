"""`score.py tokens`: the user's text files as windows of token ids, counted and hashed."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from score_common import Refusal, file_hash, folder_hash, write_json
from score_models import GgufTokens, HubTokens

SCHEMA = 1
LEAST_CONTEXT = 4
SCORED = "the first half of each window is context only; places context // 2 to context - 2 predict the next token"


def make_tokens(args: argparse.Namespace) -> dict[str, Any]:
    """Windows of at most `--windows` places of each text, drawn by the seed and kept in the text's order."""
    if args.context < LEAST_CONTEXT or args.windows < 1:
        raise Refusal(f"--context {args.context} --windows {args.windows}: at least {LEAST_CONTEXT} and 1 are needed")
    if len({file.resolve() for file in args.text}) < len(args.text):
        raise Refusal("--text: a file is named twice: its windows would count double")
    source = HubTokens(args.tokenizer) if args.tokenizer.is_dir() else GgufTokens(args.tokenizer)
    chance = np.random.default_rng(args.seed)
    texts, windows, belongs = [], [], []
    for place, file in enumerate(args.text):
        facts, taken = text_windows(source, file, (args.context, args.windows), chance)
        texts.append(facts)
        windows += taken
        belongs += [place] * len(taken)
    made = {
        "schema": SCHEMA, "context": args.context, "windows_asked": args.windows, "seed": args.seed, "scored": SCORED,
        "tokenizer": {"path": str(args.tokenizer), "sha256": tokenizer_hash(args.tokenizer)}, "bos": source.bos,
        "bos_is": "none" if source.bos is None else "in place of each window's first token, as in llama-perplexity",
        "special_tokens": "that a text spells out are read as such",
        "texts": texts, "text_of": belongs, "windows": windows,
    }  # fmt: skip
    made["sha256"] = tokens_hash(made)
    write_json(args.out, made)
    return {name: value for name, value in made.items() if name not in ("windows", "text_of")}


def text_windows(
    source: Any, file: Path, wanted: tuple[int, int], chance: np.random.Generator
) -> tuple[dict[str, Any], list[list[int]]]:
    """What a text holds and what of it is used, and the windows; no text is left out without a count of it."""
    context, most = wanted
    ids, documents, empty = read_text(source, file)
    there = len(ids) // context
    if there == 0:
        raise Refusal(f"{file}: {len(ids)} tokens, fewer than one window of {context}")
    kept = sorted(chance.permutation(there)[:most].tolist())
    windows = [ids[place * context : (place + 1) * context] for place in kept]
    if source.bos is not None:
        windows = [[source.bos, *window[1:]] for window in windows]
    facts = {
        "file": str(file), "sha256": file_hash(file), "documents": documents, "empty_documents": empty,
        "tokens": len(ids), "windows_there": there, "windows": len(windows), "places": kept,
        "tokens_unused": len(ids) - context * len(windows),
    }  # fmt: skip
    return facts, windows


def read_text(source: Any, file: Path) -> tuple[list[int], int, int]:
    """Token ids of a file in order, its documents, and how many of them are empty.

    A `.jsonl` file has `text` or chat `messages` on each line; any other file is one document of plain text.
    """
    try:
        whole = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(f"{file}: not UTF-8 at byte {error.start}") from error
    if file.suffix != ".jsonl":
        return source.plain(whole), 1, int(not whole)
    ids: list[int] = []
    documents = empty = 0
    for number, line in enumerate(whole.split("\n"), 1):
        if line.strip():
            found = document(source, line, f"{file}:{number}")
            ids += found
            documents, empty = documents + 1, empty + (not found)
    return ids, documents, empty


def document(source: Any, line: str, where: str) -> list[int]:
    """One line of JSONL as token ids."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise Refusal(f"{where}: not JSON ({error})") from error
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        return list(source.plain(row["text"])) if row["text"] else []
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        return list(source.chat(row["messages"]))
    raise Refusal(f"{where}: expected an object with `text` or chat `messages`")


def load_tokens(file: Path) -> dict[str, Any]:
    """The windows, refused where they are not those that were hashed."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        windows = np.asarray(read["windows"], dtype=np.int64)
        right = windows.ndim == 2 and windows.shape == (len(read["text_of"]), read["context"]) and len(windows) > 0
        if not right or tokens_hash(read) != read["sha256"]:
            raise Refusal(f"{file}: its windows are not those that its hash stands for")
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{file}: not made by `score.py tokens` ({type(error).__name__}: {error})") from error
    return dict(read)


def tokens_hash(made: dict[str, Any]) -> str:
    """Of the ids alone, window by window."""
    return hashlib.sha256(
        np.asarray(made["windows"], dtype="<i4").tobytes() + str(made["context"]).encode()
    ).hexdigest()


def tokenizer_hash(path: Path) -> str:
    return file_hash(path) if path.is_file() else folder_hash(path, ("token*", "special_tokens*", "chat_template*"))
