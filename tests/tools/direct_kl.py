"""Runs inside llm-compressor's environment: the same statistics straight from transformers, to hold the scorer against.

usage: python direct_kl.py BASE CANDIDATE TOKENS.json; prints {"kl": mean, "ppl": [base, candidate], "top1": share}.
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM


def chances(folder: str, windows: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    with torch.no_grad():
        return torch.stack([model(each[None]).logits[0] for each in windows]).double().log_softmax(-1)


def main(base: str, candidate: str, tokens: str) -> None:
    with open(tokens) as source:
        windows = torch.tensor(json.load(source)["windows"])
    half = windows.shape[1] // 2
    own, other = (chances(folder, windows)[:, half:-1] for folder in (base, candidate))
    wanted = windows[:, half + 1 :, None]
    kl = torch.nn.functional.kl_div(other, own, reduction="none", log_target=True).sum(-1).mean()
    ppl = [float((-side.gather(-1, wanted)).mean().exp()) for side in (own, other)]
    top = (own.argmax(-1) == other.argmax(-1)).double().mean()
    print(json.dumps({"kl": float(kl), "ppl": ppl, "top1": float(top)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
