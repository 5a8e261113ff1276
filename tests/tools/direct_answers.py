"""Runs inside a tool environment: what its own library answers, to hold `answer.py` against.

usage: python direct_answers.py MODEL ASKED.json, where ASKED.json is {"prompts": [[id...]...], "tokens": N,
"options": [[prompt ids, option ids]...]}; prints {"said": [[id...]...], "logprobs": [...]}.
A folder is answered by transformers' own `generate` and forward pass, a GGUF file by llama-cpp-python's own `Llama`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

Asked = dict[str, Any]


def by_transformers(folder: str, asked: Asked) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    said, likely = [], []
    with torch.no_grad():
        for ids in asked["prompts"]:
            given = torch.tensor([ids])
            made = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                max_new_tokens=asked["tokens"],
                pad_token_id=0,
            )
            said.append(made[0, len(ids) :].tolist())
        for prompt, option in asked["options"]:
            rows = model(torch.tensor([prompt + option])).logits[0].double().log_softmax(-1)
            likely.append(float(sum(rows[len(prompt) + place - 1, token] for place, token in enumerate(option))))
    return {"said": said, "logprobs": likely}


def by_llama(file: str, asked: Asked) -> dict[str, Any]:
    from llama_cpp import Llama

    model = Llama(file, n_ctx=1024, logits_all=True, verbose=False, n_threads=1)
    said, likely = [], []
    for ids in asked["prompts"]:
        model.reset()
        made = []
        for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
            made.append(token)
            if token == model.token_eos() or len(made) == asked["tokens"]:
                break
        said.append(made)
    for prompt, option in asked["options"]:
        model.reset()
        model.eval(prompt + option)
        rows = np.array(model.scores[: len(prompt) + len(option)], dtype=np.float64)
        rows -= np.log(np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) + rows.max(
            axis=1, keepdims=True
        )
        likely.append(float(sum(rows[len(prompt) + place - 1, token] for place, token in enumerate(option))))
    return {"said": said, "logprobs": likely}


if __name__ == "__main__":
    model, asked = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps(by_transformers(model, asked) if Path(model).is_dir() else by_llama(model, asked)))
