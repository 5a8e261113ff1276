"""Runs inside llm-compressor's environment: writes small models of random weights, and quantizes them with `oneshot`.

usage: python quantize_script.py WORK.json RESULTS.json
WORK: {"originals": [{"folder", "config": a config.json}],
       "made": [{"from": folder, "folder", "scheme": a preset, "group": inputs to a scale, or null for the preset's,
                 "ignore": [module names], "cache": whether the cache is quantized too}]}
RESULTS, a text for every entry of `made`: "" where it was written, the tool's refusal otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
SEQUENCES, LENGTH = 4, 64
"""Of random tokens: sizes do not depend on what a scale was calibrated with."""
CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}


def main(work_file: str, results_file: str) -> None:
    import torch

    torch.manual_seed(0)
    work = json.loads(Path(work_file).read_text())
    for original in work["originals"]:
        write(original)
    results = [made(case) for case in work["made"]]
    Path(results_file).write_text(json.dumps(results))


def write(original: dict[str, Any]) -> None:
    """A 16-bit checkpoint of random weights; the config's architecture decides the layers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(original["folder"])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(original["config"]))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer(original["config"]["vocab_size"]).save_pretrained(folder)


def tokenizer(vocabulary: int) -> Any:
    """Words `w0` to the last: `oneshot` and servers insist on a tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"w{index}": index for index in range(vocabulary)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w1", eos_token="w2")


def made(case: dict[str, Any]) -> str:
    """One quantized checkpoint, or why the tool refuses to make it."""
    import torch
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(case["from"], dtype=torch.bfloat16)
    given = calibration(model.config.vocab_size) | {"tokenizer": AutoTokenizer.from_pretrained(case["from"])}
    try:
        oneshot(model=model, recipe=modifier(case), output_dir=case["folder"], **given)
    except ValueError as refusal:
        return str(refusal)
    return ""


def modifier(case: dict[str, Any]) -> Any:
    """Round to nearest: GPTQ, AWQ and SmoothQuant choose other numbers for the same tensors."""
    from compressed_tensors.quantization import preset_name_to_scheme
    from llmcompressor.modifiers.quantization import QuantizationModifier

    scheme = preset_name_to_scheme(case["scheme"], ["Linear"])
    if case["group"] is not None:
        scheme.weights.group_size = case["group"]
    return QuantizationModifier(
        config_groups={"group_0": scheme},
        ignore=case["ignore"],
        kv_cache_scheme=CACHE if case["cache"] else None,
    )


def calibration(vocabulary: int) -> dict[str, Any]:
    import torch
    from datasets import Dataset

    tokens = [torch.randint(0, vocabulary, (LENGTH,)).tolist() for _ in range(SEQUENCES)]
    rows = Dataset.from_dict({"input_ids": tokens, "attention_mask": [[1] * LENGTH] * SEQUENCES})
    return {"dataset": rows, "num_calibration_samples": SEQUENCES, "max_seq_length": LENGTH}


if __name__ == "__main__":
    main(*sys.argv[1:])
