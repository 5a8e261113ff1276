"""Runs inside llm-compressor's environment: a small Llama with random weights and a tokenizer of its own, as a folder.

usage: python tiny_llama.py FOLDER TEXT_FILE
The tokenizer is byte-pair encoding with byte fallback, as llama.cpp's converter takes it; it puts one BOS first.
Weights are large enough that the model is sure of some tokens: a quantized copy then differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WORDS = 1024
SPECIAL = ("<unk>", "<s>", "</s>")


def main(folder: str, text: str) -> None:
    made = Path(folder)
    made.mkdir(parents=True)
    tokenizer(made, text)
    model(made)


def tokenizer(folder: Path, text: str) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    own = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    everything = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    own.train([text], trainers.BpeTrainer(vocab_size=WORDS, special_tokens=everything, show_progress=False))
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "add_bos_token": True, "chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def model(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=768, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=WORDS, max_position_embeddings=1024, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        initializer_range=0.08,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
