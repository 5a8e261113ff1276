"""llm-compressor's own checkpoints of small models with random weights: no model is downloaded.

The environment is that of `lanewise tools install llm-compressor`: two minutes and 1.5 GB to make.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools.environment import run, tool

TIMEOUT_S = 900.0

_COMMON: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096, "max_position_embeddings": 4096,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "dense": _COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "odd": _COMMON
    | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 288, "intermediate_size": 800,
        "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 48, "vocab_size": 4100,
        "tie_word_embeddings": True,
    },
    "experts": _COMMON
    | {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "moe_intermediate_size": 128,
        "num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
    "windows": _COMMON
    | {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 8,
        "sliding_window": 256, "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
        "query_pre_attn_scalar": 64, "tie_word_embeddings": True,
    },
    "latent": _COMMON
    | {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "num_hidden_layers": 3,
        "num_key_value_heads": 4, "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128, "v_head_dim": 128, "head_dim": 64, "moe_intermediate_size": 128,
        "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "n_group": 1, "topk_group": 1, "topk_method": "greedy", "routed_scaling_factor": 1.0,
    },
}  # fmt: skip
"""config.json by geometry. `odd`: widths that no group of 128 divides, biases, one embedding and output matrix."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One checkpoint to make from the 16-bit one of a geometry."""

    geometry: str
    scheme: str
    """A preset of compressed-tensors."""
    group: int | None = None
    """Inputs to a scale; None for the preset's own."""
    ignore: tuple[str, ...] = ("lm_head",)
    cache: bool = False
    """FP8 scales of the cache too."""

    @property
    def name(self) -> str:
        words = (self.geometry, self.scheme, f"g{self.group}" if self.group else "", "KV" if self.cache else "")
        return "-".join(filter(None, words))


def quantize(folder: Path, geometries: Iterable[str], made: Iterable[Made]) -> dict[str, str]:
    """Write `folder`/GEOMETRY and `folder`/NAME; the tool's refusal by name, "" where it wrote one."""
    made = tuple(made)
    originals = [{"folder": str(folder / name), "config": CONFIGS[name]} for name in geometries]
    cases = [
        {
            "from": str(folder / case.geometry), "folder": str(folder / case.name), "scheme": case.scheme,
            "group": case.group, "ignore": list(case.ignore), "cache": case.cache,
        }
        for case in made
    ]  # fmt: skip
    work, results = folder / "work.json", folder / "results.json"
    work.write_text(json.dumps({"originals": originals, "made": cases}))
    python = tool("llm-compressor").python
    run(python, Path(__file__).with_name("quantize_script.py"), work, results, timeout_s=TIMEOUT_S)
    said: list[str] = json.loads(results.read_text())
    return dict(zip((case.name for case in made), said, strict=True))
