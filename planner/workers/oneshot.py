"""Runs inside llm-compressor's environment: one checkpoint from one original, as the plan says.

usage: oneshot.py --model FOLDER --scheme PRESET --algorithm rtn|gptq|awq|smoothquant|autoround [--group-size N]
                  --ignore LAYER... [--calibration rows.json --length L] [--cache fp8] [--seed S] --out DIR
Writes DIR/model (compressed-tensors) and DIR/made.json last: versions, seconds, which linear layers stayed 16-bit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
SMOOTHING = 0.8
"""SmoothQuant's strength, as llm-compressor's own examples have it."""
PACKAGES = ("llmcompressor", "compressed-tensors", "transformers", "torch")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--scheme", required=True)
    parser.add_argument("--algorithm", choices=("rtn", "gptq", "awq", "smoothquant", "autoround"), required=True)
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--length", type=int)
    parser.add_argument("--cache", choices=("fp8",))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    make(parser.parse_args())


def make(given: argparse.Namespace) -> None:
    import torch
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(given.seed)
    started = time.monotonic()
    if not torch.cuda.is_available():
        unpinned()
    tokenizer = AutoTokenizer.from_pretrained(given.model, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        given.model, dtype="auto", trust_remote_code=False, use_safetensors=True
    )
    modifiers = recipe(given)
    data = rows(given)
    loaded = time.monotonic()
    oneshot(model=model, tokenizer=tokenizer, recipe=modifiers, **data)
    folder = given.out / "model"
    model.save_pretrained(folder, save_compressed=True)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()).get("quantization_config")
    if config is None:
        sys.exit("oneshot.py: nothing was quantized: config.json says nothing of it")
    said = {
        "scheme": given.scheme,
        "algorithm": given.algorithm,
        "rows": data.get("num_calibration_samples", 0),
        "length": data.get("max_seq_length", 0),
        "kept_16_bit": kept(model),
        "config": config,
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    took = {"load_s": round(loaded - started, 3), "quantize_s": round(time.monotonic() - loaded, 3)}
    (given.out / "made.json").write_text(json.dumps(said, indent=2) + "\n")
    print(json.dumps({name: said[name] for name in ("scheme", "algorithm", "rows", "kept_16_bit")} | took))


def unpinned() -> None:
    """llm-compressor 0.14.0.1's AWQ pins memory even where there is no accelerator to pin it for."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda self, *_, **__: None


def recipe(given: argparse.Namespace) -> list[Any]:
    """The transform, where the algorithm has one, then what writes the scheme."""
    from compressed_tensors.quantization import QuantizationArgs, preset_name_to_scheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    scheme = preset_name_to_scheme(given.scheme, ["Linear"])
    if given.group_size is not None and scheme.weights.strategy == "group":
        scheme.weights.group_size = given.group_size
    words = {"config_groups": {"group_0": scheme}, "ignore": given.ignore}
    if given.cache:
        words["kv_cache_scheme"] = QuantizationArgs(**CACHE)
    if given.algorithm == "gptq":
        return [GPTQModifier(**words)]
    if given.algorithm == "smoothquant":
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        return [SmoothQuantModifier(smoothing_strength=SMOOTHING), GPTQModifier(**words)]
    if given.algorithm == "awq":
        from llmcompressor.modifiers.transform.awq import AWQModifier

        return [AWQModifier(duo_scaling=True), QuantizationModifier(**words)]
    if given.algorithm == "autoround":
        from llmcompressor.modifiers.autoround import AutoRoundModifier

        return [AutoRoundModifier(**words)]
    return [QuantizationModifier(**words)]


def rows(given: argparse.Namespace) -> dict[str, Any]:
    """The calibration rows as `oneshot` takes them; nothing for schemes made from the weights alone."""
    if given.calibration is None:
        return {}
    from datasets import Dataset

    tokens = json.loads(given.calibration.read_text())
    if not tokens:
        sys.exit("oneshot.py: the calibration text has no whole row of tokens")
    data = Dataset.from_dict({"input_ids": tokens, "attention_mask": [[1] * len(row) for row in tokens]})
    return {"dataset": data, "max_seq_length": given.length, "num_calibration_samples": len(tokens)}


def kept(model: Any) -> list[str]:
    """Linear layers that no scheme was given to."""
    import torch

    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and getattr(module, "quantization_scheme", None) is None
    ]


if __name__ == "__main__":
    main()
