"""Checkpoints for tests: tensor lists from a config, safetensors files with true headers and no data behind them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

Config = dict[str, object]
Shapes = dict[str, tuple[int, ...]]

LLAMA_8B: Config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
LLAMA_2_7B: Config = LLAMA_8B | {
    "intermediate_size": 11008,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
QWEN3_30B: Config = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "torch_dtype": "bfloat16",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
}
TINY: Config = LLAMA_8B | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
}


def tensors(config: Mapping[str, object]) -> Shapes:
    """Names and shapes as transformers stores them for Llama, Qwen2 and Qwen3-MoE decoders."""
    size = {name: value for name, value in config.items() if isinstance(value, int)}
    hidden, vocab = size["hidden_size"], size["vocab_size"]
    shapes: Shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(size["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in decoder_layer(size)}
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def decoder_layer(size: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads = size["hidden_size"], size["num_attention_heads"]
    width = size.get("head_dim", hidden // heads)
    rows = {"q": heads * width, "k": size["num_key_value_heads"] * width, "v": size["num_key_value_heads"] * width}
    yield from ((f"self_attn.{name}_proj.weight", (count, hidden)) for name, count in rows.items())
    yield "self_attn.o_proj.weight", (hidden, heads * width)
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    if "num_experts" in size:
        yield "self_attn.q_norm.weight", (width,)
        yield "self_attn.k_norm.weight", (width,)
        yield "mlp.gate.weight", (size["num_experts"], hidden)
    for prefix, inner in mlps(size):
        yield f"{prefix}.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.up_proj.weight", (inner, hidden)
        yield f"{prefix}.down_proj.weight", (hidden, inner)


def mlps(size: Mapping[str, int]) -> list[tuple[str, int]]:
    if "num_experts" in size:
        return [(f"mlp.experts.{expert}", size["moe_intermediate_size"]) for expert in range(size["num_experts"])]
    return [("mlp", size["intermediate_size"])]


BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U8": 1, "F8_E4M3": 1}


def header(shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, object]:
    """The JSON of a safetensors header."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + prod(shape) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return entries


def write(path: Path, entries: Mapping[str, object]) -> None:
    """A sparse safetensors file: true header, true length, holes for data."""
    content = json.dumps(entries).encode()
    content += b" " * (-len(content) % 8)
    ends = [
        entry["data_offsets"][1] for entry in entries.values() if isinstance(entry, dict) and "data_offsets" in entry
    ]
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        file.truncate(8 + len(content) + max(ends, default=0))


def checkpoint(folder: Path, config: Mapping[str, object], shapes: Shapes | None = None, dtype: str = "BF16") -> Path:
    """A folder with config.json and one safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write(folder / "model.safetensors", header(shapes or tensors(config), dtype))
    return folder
