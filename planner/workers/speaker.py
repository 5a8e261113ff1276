"""Runs inside a tool environment: one model that answers over pipes, for a program in another environment.

usage: speaker.py --backend transformers|llama.cpp --model PATH [--device auto|cpu|cuda] [--dtype auto] [--threads N]

Each line of standard input is a JSON object with `op`; each is answered with one line: {"ok": ...} or {"refused": why}.
It ends when its standard input does. What libraries print goes to standard error.

facts                                    -> vocabulary, context length, BOS, EOS, chat template, versions
encode {texts, special: true|false|null} -> token ids; null = special tokens unless the text has its BOS already
chat {messages, open}                    -> the text that the model's own chat template makes; open = an answer begins
score {rows: [[ids, first]]}             -> [[log-probability of ids from `first` on, all of them the likeliest]]
answer {prompts: [ids], until, max_tokens: [...], temperature, top_p, top_k, seeds} -> [{text, tokens, stopped}]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from score_common import Refusal
from speaker_models import Folder, Gguf, Speaker

BACKENDS = {"transformers": Folder, "llama.cpp": Gguf}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.set_defaults(cache="auto", batch=1)
    given = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        model: Speaker = BACKENDS[given.backend](given.model, given)
    except (Refusal, OSError, ValueError) as fault:
        print(json.dumps({"refused": str(fault)}), file=out, flush=True)
        return
    print(json.dumps({"ok": model.facts()}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answered(model, json.loads(line))), file=out, flush=True)


def answered(model: Speaker, asked: dict[str, Any]) -> dict[str, Any]:
    """One request's answer, or why there is none."""
    try:
        return {"ok": done(model, asked)}
    except (Refusal, ValueError) as fault:
        return {"refused": str(fault)}


def done(model: Speaker, asked: dict[str, Any]) -> Any:
    match asked["op"]:
        case "encode":
            return [model.encode(text, asked["special"]) for text in asked["texts"]]
        case "chat":
            return model.chat(asked["messages"], begins=asked["open"])
        case "score":
            return [list(each) for each in model.score([(ids, first) for ids, first in asked["rows"]])]
        case "answer":
            return model.answer(asked["prompts"], asked)
        case other:
            raise Refusal(f"no operation is called {other}")


if __name__ == "__main__":
    main()
