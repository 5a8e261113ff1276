"""Runs inside llm-compressor's environment: the same function as a Llama folder, with a few channels that are loud.

usage: python loud_channels.py FOLDER OUT
Gains of norms are multiplied for one channel in fifty, and the columns of weights that read them divided, by a power of
two: outputs stay the same bit by bit. Large models have such channels by training (LLM.int8(), arXiv 2208.07339, and
AWQ, arXiv 2306.00978, which protects them); one of three million parameters has not.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

TIMES, SHARE = 16.0, 0.02
READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Norm -> the matrices that read what it gives."""


def main(folder: str, out: str) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    weights, chance = load_file(Path(folder) / "model.safetensors"), random.Random(0)
    for name in sorted(name for name in weights if name.split(".")[-2] in READERS):
        layer, norm = name.split(".")[:-2], name.split(".")[-2]
        gain = weights[name]
        loud = chance.sample(range(len(gain)), round(SHARE * len(gain)))
        gain[loud] *= TIMES
        for reader in READERS[norm]:
            weights[".".join([*layer, reader, "weight"])][:, loud] /= TIMES
    save_file(weights, Path(out) / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
