"""Runs inside a tool environment: what a model answers to items, by its own chat template and tokenizer.

usage: answer.py run --backend NAME --model PATH --items items.json --out answers.json [--temperature T] [--top-p P]
                     [--top-k K] [--max-tokens N] [--samples N] [--seed S] [--batch N] [--device D] [--threads N]
NAME: `transformers` (folders with safetensors) or `llama.cpp` (GGUF files). items.json is what `items.py` writes: each
item has `prompt` or `messages`, and may have `choices` or `tools`. Without a temperature the likeliest token is taken.
Items with choices are not answered: the choice with the highest log-probability for each of its characters is taken
(lm-eval's acc_norm); that by log-probability alone (acc) stands beside it. Progress and errors go to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from answer_models import GgufAnswers, HubAnswers, Prompt
from answer_talk import NOT_FINITE, Choice, Talk, chance_of
from score_common import Refusal, file_hash, folder_hash, write_json

SCHEMA = 1
BACKENDS = {"transformers": HubAnswers, "llama.cpp": GgufAnswers}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every item asked, in batches of prompts of about one length; answers in the items' order."""
    items = load(args.items)
    choice = Choice(args.temperature, args.top_p, args.top_k, args.max_tokens, args.seed)
    started = time.monotonic()
    backend = opened(args)
    asked = [(item, backend.tongue.prompt(item)) for item in items]
    most = [room(backend, item, prompt, choice) for item, prompt in asked]
    if args.backend == "llama.cpp":
        fit(backend, asked, most)
    talks = [
        (
            place,
            sample,
            Talk(asked[place][1].ids, choice, backend.ends, most[place], chance_of(choice.seed, item["id"], sample)),
        )
        for place, (item, _) in enumerate(asked)
        if not item.get("choices")
        for sample in range(args.samples)
    ]
    progress = Progress(len(talks) + len([item for item in items if item.get("choices")]))
    found = answered(backend, asked, talks, progress)
    found |= chosen(backend, asked, progress)
    answers = [found[key] for key in sorted(found)]
    sampling = {name: getattr(choice, name) for name in ("temperature", "top_p", "top_k", "max_tokens", "seed")}
    facts = backend.facts()
    made = {
        "schema": SCHEMA, "model": str(args.model), "model_sha256": model_hash(args.model), "backend": args.backend,
        "versions": facts.pop("versions"), "sampling": sampling, "seconds": round(time.monotonic() - started, 3),
        "answers": answers, "details": {**facts, "items": str(args.items), "batch": backend.batch},
    }  # fmt: skip
    write_json(args.out, made)
    return said(made)


def load(file: Path) -> list[dict[str, Any]]:
    """The items of a file."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        items = [{"name": item["id"][:12], **item} for item in read["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{file}: not made by `items.py` ({type(error).__name__}: {error})") from error
    if not items:
        raise Refusal(f"{file}: it holds no item")
    return items


def opened(args: argparse.Namespace) -> Any:
    """The model, loaded; refusals name it."""
    try:
        return BACKENDS[args.backend](args.model, args)
    except ImportError as error:
        raise Refusal(f"this environment lacks {error.name} for --backend {args.backend}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise Refusal(f"{args.model}: {args.backend} could not load it: {error}") from error


def room(backend: Any, item: dict[str, Any], prompt: Prompt, choice: Choice) -> int:
    """Tokens that an answer may have before the model's context ends."""
    left = backend.longest - len(prompt.ids) if backend.longest else choice.max_tokens
    if left < 1:
        raise Refusal(f"item {item['name']}: {len(prompt.ids)} tokens, the model's context has {backend.longest}")
    if not prompt.ids:
        raise Refusal(f"item {item['name']}: its prompt has no token")
    return min(choice.max_tokens, left)


def fit(backend: Any, asked: list[tuple[dict[str, Any], Prompt]], most: list[int]) -> None:
    """llama.cpp takes the size of its cache before the first token."""
    longest = max(len(prompt.ids) + each for (_, prompt), each in zip(asked, most, strict=True))
    backend.need(longest * backend.batch)


def answered(backend: Any, asked: list[Any], talks: list[Any], progress: Progress) -> dict[tuple[int, int], Any]:
    """Batch by batch, the shortest prompts first."""
    found = {}
    order = sorted(talks, key=lambda each: (len(each[2].ids), each[0], each[1]))
    for start in range(0, len(order), backend.batch):
        part = order[start : start + backend.batch]
        talk([each for _, _, each in part], backend)
        for place, sample, each in part:
            found[place, sample] = told(asked[place], sample, each, backend.tongue)
        progress.add(len(part), sum(len(each.said) for _, _, each in part))
    return found


def talk(talks: list[Talk], backend: Any) -> None:
    """Answers side by side until the last is over."""
    rows = backend.begin([each.ids for each in talks])
    while talks:
        tokens = [each.take(row) for each, row in zip(talks, rows, strict=True)]
        kept = [place for place, token in enumerate(tokens) if token is not None]
        if not kept:
            return
        talks = [talks[place] for place in kept]
        rows = backend.go_on(kept, [tokens[place] for place in kept])


def told(asked: tuple[dict[str, Any], Prompt], sample: int, talk: Talk, tongue: Any) -> dict[str, Any]:
    """An answer as the file has it; `raw` = with special tokens, where it has any."""
    text, raw = (tongue.decode(talk.said, special=special) for special in (False, True))
    own = {"text": text, "tokens": len(talk.said), "stopped": talk.stopped, "faults": talk.faults(raw)}
    return row(*asked) | own | {"sample": sample, "details": {} if raw == text else {"raw": raw}}


def row(item: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """What every answer says of its item."""
    return {
        "task": item.get("family", ""), "item": item["id"], "name": item["name"], "prompt": prompt.told(), "sample": 0,
        "score": None, "valid": None, "stopped": "end",
    }  # fmt: skip


def chosen(backend: Any, asked: list[Any], progress: Progress) -> dict[tuple[int, int], Any]:
    """Items with choices."""
    found = {}
    for place, (item, prompt) in enumerate(asked):
        if not item.get("choices"):
            continue
        options = [backend.tongue.option(prompt, choice) for choice in item["choices"]]
        if backend.longest and len(prompt.ids) + max(map(len, options)) > backend.longest:
            raise Refusal(f"item {item['name']}: a choice ends beyond the model's context of {backend.longest} tokens")
        found[place, 0] = picked(item, prompt, backend.options(prompt.ids, options), sum(map(len, options)))
        progress.add(1, 0)
    return found


def picked(item: dict[str, Any], prompt: Prompt, likely: list[float], tokens: int) -> dict[str, Any]:
    """The choice that is likeliest for its length, and the likeliest one."""
    finite = bool(np.isfinite(likely).all())
    lengths = [len(choice) for choice in item["choices"]]
    acc = int(np.argmax(likely)) if finite else 0
    norm = int(np.argmax([each / length for each, length in zip(likely, lengths, strict=True)])) if finite else 0
    return row(item, prompt) | {
        "text": item["choices"][norm] if finite else "", "tokens": tokens, "faults": [] if finite else [NOT_FINITE],
        "details": {"acc": acc, "acc_norm": norm, "logprobs": likely} if finite else {},
    }  # fmt: skip


class Progress:
    """How many are done, how fast, and how long it still takes."""

    def __init__(self, answers: int) -> None:
        self.answers, self.done, self.tokens, self.started = answers, 0, 0, time.monotonic()

    def add(self, answers: int, tokens: int) -> None:
        self.done, self.tokens = self.done + answers, self.tokens + tokens
        spent = time.monotonic() - self.started
        left = spent / self.done * (self.answers - self.done)
        rate = f"{self.tokens / spent:.1f} tokens a second, " if self.tokens else ""
        print(f"answer {self.done}/{self.answers}, {rate}{left:.0f} s left", file=sys.stderr, flush=True)


def model_hash(path: Path) -> str:
    """Of a file, or of the names and contents of a folder's weights and configuration."""
    return file_hash(path) if path.is_file() else folder_hash(path, ("*.safetensors", "*.json", "*.jinja"))


def said(made: dict[str, Any]) -> dict[str, Any]:
    """What is printed: the file without its answers."""
    faults: dict[str, int] = {}
    for each in made["answers"]:
        for fault in each["faults"]:
            faults[fault] = faults.get(fault, 0) + 1
    tokens = sum(each["tokens"] for each in made["answers"])
    kept = {name: value for name, value in made.items() if name != "answers"}
    return kept | {"answers": len(made["answers"]), "tokens": tokens, "faults": faults}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="answer.py")
    one = top.add_subparsers(dest="command", required=True).add_parser("run")
    one.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    for name in ("--model", "--items", "--out"):
        one.add_argument(name, type=Path, required=True)
    one.add_argument("--temperature", type=float, default=0.0)
    one.add_argument("--top-p", type=float, default=1.0)
    for name, value in (("--top-k", 0), ("--max-tokens", 512), ("--samples", 1), ("--seed", 0), ("--batch", 8)):
        one.add_argument(name, type=int, default=value)
    one.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    one.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    one.add_argument("--threads", type=int, default=0)
    one.set_defaults(cache="auto")  # what the scorer's models are told: answers keep the cache that the program has
    return top


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    args = parser().parse_args()
    try:
        print(json.dumps(run(args)))
    except (Refusal, OSError) as refusal:
        sys.exit(f"answer.py: {refusal}")


if __name__ == "__main__":
    main()
