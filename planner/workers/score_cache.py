"""The cache of keys and values as an engine serves it: what is simulated for folders, llama.cpp's own types for GGUF.

transformers keeps keys and values in the model's own type. vLLM's FP8 cache is simulated: each value is divided by its
layer's scale in 32 bits, rounded to e4m3 with overflow held at 448, and multiplied back, before attention reads it
(vllm csrc/quantization/w8a8/fp8/nvidia/quant_utils.cuh: `float / scale`, __NV_SATFINITE; cache_kernels.cu). Scales are
the checkpoint's, or 1.0 as vLLM takes without (model_executor/layers/quantization/kv_cache.py). Queries stay in 16
bits, which FlashAttention 3 and FlashInfer round too; gfx942's e4m3fnuz is not simulated. Rounding that a checkpoint's
kv_cache_scheme would make inside transformers is turned off: compressed-tensors divides in bfloat16, so that 6 % of
values land one step away from vLLM's; and nothing is rounded twice.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from score_common import Refusal

FULL = ("16", "f16", "bf16", "float16", "bfloat16")
"""The model's own 16 bits, whatever the checkpoint says of its cache."""
FP8 = ("fp8", "fp8_e4m3")
LARGEST = 448.0
"""Of e4m3."""
GGML = {"f32": 0, "f16": 1, "16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
"""ggml.h, enum ggml_type: what llama.cpp's --cache-type-k takes."""
SCALE = re.compile(
    r"layers\.(?P<layer>\d+)\.(?:.*\.)?(?:(?P<side>[kv])_proj\.(?:[kv]_scale|output_scale)|(?P<own>[kv])_scale|kv_scale)$"
)
"""Names that vLLM's maybe_remap_kv_scale_name knows: of llm-compressor, ModelOpt, Quark and AutoFP8."""


def ggml_type(asked: str) -> int | None:
    """llama.cpp's type of both halves; None for its default. Raises Refusal for a name that it does not know."""
    if asked == "auto":
        return None
    if asked not in GGML:
        raise Refusal(f"--cache {asked}: llama.cpp keeps {', '.join(GGML)}")
    return GGML[asked]


class Simulated:
    """What a transformers model's cache holds, made anew for every window; `made()` is None where it stays as it is."""

    def __init__(self, model: Any, path: Path, asked: str) -> None:
        self.model, self.asked = model, asked
        scheme = written_scheme(path)
        if asked not in ("auto", *FULL, *FP8):
            raise Refusal(
                f"--cache {asked}: simulated are {', '.join(FP8)}; {', '.join(FULL)} and auto are not rounded"
            )
        self.rounds = asked in FP8 or (asked == "auto" and scheme is not None)
        if scheme is None and asked != "auto" and hooked(model):
            raise Refusal(f"{path}: its attention is quantized by a scheme of its own: --cache auto runs it as it is")
        if scheme is not None:
            for module in hooked(model):
                module.quantization_enabled = False
        if not self.rounds:
            return
        if scheme is not None and not is_e4m3(scheme):
            raise Refusal(f"{path}: its cache scheme is {json.dumps(scheme)}: e4m3 with one static scale is simulated")
        if getattr(model.config.get_text_config(decoder=True), "kv_lora_rank", None):
            raise Refusal(
                f"{path}: vLLM keeps latent vectors (MLA) of this model, transformers whole keys: not simulated"
            )
        self.scales = read_scales(path)

    def made(self) -> Any:
        return rounding(self.model.config, self.scales) if self.rounds else None

    def facts(self) -> dict[str, Any]:
        """For the header."""
        if not self.rounds:
            return {"asked": self.asked, "is": "not rounded"}
        found = [value for pair in self.scales.values() for value in pair]
        said = {"lowest": min(found), "highest": max(found), "layers": len(self.scales)} if found else "none: 1.0"
        return {"asked": self.asked, "is": "e4m3, simulated as vLLM rounds", "scales": said, "queries": "not rounded"}


def hooked(model: Any) -> list[Any]:
    """Attention that compressed-tensors gave a rounding cache."""
    return [each for each in model.modules() if type(getattr(each, "kv_cache", None)).__name__ == "QuantizedKVCache"]


def rounding(config: Any, scales: dict[int, tuple[float, float]]) -> Any:
    """An empty cache of transformers that rounds what it is given."""
    import torch
    from transformers import DynamicCache

    def rounded(values: Any, scale: float) -> Any:
        scaled = (values.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        return (scaled.float() * scale).to(values.dtype)

    class Rounding(DynamicCache):
        def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **more: Any) -> Any:
            key, value = scales.get(layer_idx, (1.0, 1.0))
            return super().update(rounded(key_states, key), rounded(value_states, value), layer_idx, *args, **more)

    return Rounding(config=config)


def written_scheme(path: Path) -> Any:
    """What the checkpoint says of its cache: compressed-tensors' and ModelOpt's words; None where it says nothing."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    found = (config.get("quantization_config") or {}).get("kv_cache_scheme")
    beside = path / "hf_quant_config.json"
    if found is None and beside.is_file():
        found = json.loads(beside.read_text(encoding="utf-8")).get("quantization", {}).get("kv_cache_quant_algo")
    return found


def is_e4m3(scheme: Any) -> bool:
    if not isinstance(scheme, dict):
        return bool(scheme == "FP8")
    plain = scheme.get("strategy", "tensor") == "tensor" and not scheme.get("dynamic")
    return plain and scheme.get("num_bits") == 8 and scheme.get("type") == "float"


def read_scales(path: Path) -> dict[int, tuple[float, float]]:
    """Layer -> scales of keys and of values; one alone serves both, as in vLLM. Raises Refusal for no scalar."""
    from safetensors import safe_open

    found: dict[int, dict[str, float]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in filter(SCALE.search, stored.keys()):
                value, match = stored.get_tensor(name).float(), SCALE.search(name)
                if value.numel() != 1 or not 0 < value.item() < float("inf"):
                    raise Refusal(f"{file}: {name} is not one positive number")
                assert match is not None
                found.setdefault(int(match["layer"]), {})[match["side"] or match["own"] or "kv"] = value.item()
    return {layer: both(given) for layer, given in found.items()}


def both(given: dict[str, float]) -> tuple[float, float]:
    largest = max(given.values())
    return (given["k"], given["v"]) if {"k", "v"} <= given.keys() else (largest, largest)
