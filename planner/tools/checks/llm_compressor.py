"""Runs inside llm-compressor's environment: rounds a tiny random model to FP8, and saves and pins as AWQ does."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
LLAMA = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64,
}  # fmt: skip


def main() -> None:
    import gguf  # noqa: F401 - the converter to GGUF runs here
    import sentencepiece  # noqa: F401 - and reads tokenizers with it
    import torch
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.pipelines.cache import IntermediatesCache
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    recipe = QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"])
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(LlamaConfig(**LLAMA)).to(torch.bfloat16).save_pretrained(folder)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        oneshot(model=model, recipe=recipe, tokenizer=words(), output_dir=f"{folder}/made")
        said = json.loads((Path(folder) / "made" / "config.json").read_text())["quantization_config"]
    cache = IntermediatesCache.empty(1, torch.device("cpu"))
    cache.update(0, {"x": torch.ones(2)})
    cache.pin_memory(0)
    assert said["format"] == "float-quantized", said
    print(f"a model of {sum(each.numel() for each in model.parameters())} parameters became {said['format']}")


def words() -> Any:
    """A tokenizer of two words: `oneshot` insists on one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))  # noqa: S106 - a word, no password
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="a", pad_token="b")  # noqa: S106


if __name__ == "__main__":
    main()
