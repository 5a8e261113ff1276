"""Small checkpoints of published layouts, packed with numpy as their tools document them: an original, and copies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.tools.tamper import Tensors, write

WIDE, HIGH, LAYERS, WORDS, GROUP = 128, 256, 2, 64, 32
SHAPES = {
    "self_attn.q_proj": (WIDE, WIDE), "self_attn.k_proj": (WIDE // 2, WIDE), "self_attn.v_proj": (WIDE // 2, WIDE),
    "self_attn.o_proj": (WIDE, WIDE), "mlp.gate_proj": (HIGH, WIDE), "mlp.up_proj": (HIGH, WIDE),
    "mlp.down_proj": (WIDE, HIGH),
}  # fmt: skip
MODULES = tuple(f"model.layers.{layer}.{name}" for layer in range(LAYERS) for name in SHAPES)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDE, "intermediate_size": HIGH,
    "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": WORDS,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False, "dtype": "bfloat16",
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "head_dim": 32,
}  # fmt: skip
Packed = tuple[Tensors, Any]
"""Tensors by their last names, and the weight that they stand for."""


def bf16(values: Any) -> Any:
    """Nearest 16-bit floats as their bits."""
    bits = np.asarray(values, dtype="<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def wide(bits: Any) -> Any:
    return (bits.astype("<u4") << 16).view("<f4")


def weights(seed: int = 0) -> dict[str, Any]:
    """Every matrix, in values that 16 bits hold; layers differ in size."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in MODULES:
        shape = SHAPES[name.split(".", 3)[3]]
        found[name] = wide(bf16(rng.normal(0, 1, shape) * rng.uniform(0.5, 1.5, (shape[0], 1)) * 0.05))
    return found


def common() -> Tensors:
    """What no lane quantizes."""
    rng = np.random.default_rng(1)
    made: Tensors = {
        "model.embed_tokens.weight": ("BF16", bf16(rng.normal(0, 1, (WORDS, WIDE)))),
        "lm_head.weight": ("BF16", bf16(rng.normal(0, 1, (WORDS, WIDE)))),
        "model.norm.weight": ("BF16", bf16(np.ones(WIDE))),
    }
    for layer in range(LAYERS):
        for name in ("input_layernorm", "post_attention_layernorm"):
            made[f"model.layers.{layer}.{name}.weight"] = "BF16", bf16(rng.uniform(0.8, 1.2, WIDE))
    return made


def original(folder: Path) -> Path:
    words(folder)
    plain: Tensors = {f"{name}.weight": ("BF16", bf16(value)) for name, value in weights().items()}
    write(folder / "model.safetensors", common() | plain)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def words(folder: Path) -> None:
    """Tokenizer, template, generation: the same for every copy."""
    folder.mkdir(parents=True)
    vocabulary = {f"w{place}": place for place in range(WORDS)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model, "added_tokens": []}))
    said = {"bos_token": "w1", "eos_token": "w2", "add_bos_token": True, "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))


def copy(folder: Path, layout: str) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of this layout, and what each of its matrices stands for."""
    words(folder)
    pack, config = LAYOUTS[layout]
    tensors, stands = common(), {}
    for name, value in weights().items():
        made, stands[name] = pack(value)
        tensors |= {f"{name}.{last}": tensor for last, tensor in made.items()}
    write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": config}))
    return folder, stands


def e4m3(values: Any) -> tuple[Any, Any]:
    """(bytes, values) of the nearest e4m3."""
    powers = np.arange(-6, 9)
    grid = [step / 8 * 2.0**-6 for step in range(8)] + [
        (1 + step / 8) * 2.0**power for power in powers for step in range(8)
    ]
    numbers = np.array(grid[:127])
    place = np.abs(np.abs(values)[..., None] - numbers).argmin(-1)
    return (place | (np.signbit(values) << 7)).astype("u1"), np.sign(values) * numbers[place]


def fp8_rows(value: Any) -> Packed:
    scale = wide(bf16(np.abs(value).max(1, keepdims=True) / 448))
    codes, found = e4m3(value / scale)
    return {"weight": ("F8_E4M3", codes), "weight_scale": ("BF16", bf16(scale))}, found * scale


def fp8_tensor(value: Any) -> Packed:
    """ModelOpt's: one float32 scale, and one of the inputs."""
    scale = np.float32(np.abs(value).max() / 448)
    codes, found = e4m3(value / scale)
    scales = {"weight_scale": ("F32", np.array(scale, "<f4")), "input_scale": ("F32", np.array(0.01, "<f4"))}
    return {"weight": ("F8_E4M3", codes), **scales}, found * scale


def fp8_blocks(value: Any) -> Packed:
    """DeepSeek's: 32 x 32 here."""
    parts = value.reshape(value.shape[0] // 32, 32, value.shape[1] // 32, 32)
    scale = np.abs(parts).max((1, 3)).astype("<f4") / 448
    whole = np.repeat(np.repeat(scale, 32, 0), 32, 1)
    codes, found = e4m3(value / whole)
    return {"weight": ("F8_E4M3", codes), "weight_scale_inv": ("F32", scale)}, found * whole


def int8_rows(value: Any) -> Packed:
    scale = wide(bf16(np.abs(value).max(1, keepdims=True) / 127.5))
    codes = np.clip(np.round(value / scale), -128, 127)
    return {"weight": ("I8", codes.astype("i1")), "weight_scale": ("BF16", bf16(scale))}, codes * scale


def grouped(value: Any, *, middle: int, whole: str) -> tuple[Any, Any]:
    """(codes from 0 to 15, scales [out, groups]); halves or bfloat16 as the format stores them."""
    parts = np.abs(value.reshape(len(value), -1, GROUP)).max(-1) / 7.5
    scale = parts.astype("<f2").astype("<f4") if whole == "F16" else wide(bf16(parts))
    codes = np.clip(np.round(value / np.repeat(scale, GROUP, 1)) + middle, 0, 15)
    return codes.astype(np.uint32), scale


def words_along(codes: Any, order: tuple[int, ...] = tuple(range(8))) -> Any:
    """Eight nibbles of the last axis in a 32-bit word; `order[i]` = which of the eight is stored i-th."""
    parts = codes.reshape(*codes.shape[:-1], -1, 8)[..., list(order)]
    return (parts << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32).view("<i4")


def packed(value: Any) -> Packed:
    """compressed-tensors' pack-quantized, symmetric."""
    codes, scale = grouped(value, middle=8, whole="BF16")
    found = (codes.astype(float) - 8) * np.repeat(scale, GROUP, 1)
    shape = np.array(value.shape, "<i8")
    scales = {"weight_scale": ("BF16", bf16(scale)), "weight_shape": ("I64", shape)}
    return {"weight_packed": ("I32", words_along(codes)), **scales}, found


def awq(value: Any) -> Packed:
    """AutoAWQ's gemm: [in, out / 8], nibbles interleaved, zero points of each group."""
    codes, scale = grouped(value, middle=7, whole="F16")
    zeros = np.full((value.shape[1] // GROUP, value.shape[0]), 7, np.uint32)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "qweight": ("I32", words_along(np.ascontiguousarray(codes.T), order)),
        "qzeros": ("I32", words_along(zeros, order)),
        "scales": ("F16", np.ascontiguousarray(scale.T).astype("<f2")),
    }
    return tensors, (codes.astype(float) - 7) * np.repeat(scale, GROUP, 1)


def gptq(value: Any) -> Packed:
    """AutoGPTQ's: [in / 8, out], zero points one too low, an order of inputs."""
    order = np.random.default_rng(5).permutation(value.shape[1] // GROUP * GROUP) // GROUP
    scale = np.stack([np.abs(value[:, order == group]).max(1) for group in range(order.max() + 1)]) / 7.5
    scale = scale.astype("<f2").astype("<f4")
    codes = np.clip(np.round(value / scale[order].T) + 8, 0, 15).astype(np.uint32)
    zeros = np.full(scale.shape, 7, np.uint32)
    tensors = {
        "qweight": ("I32", np.ascontiguousarray(words_along(codes).T)), "qzeros": ("I32", words_along(zeros)),
        "scales": ("F16", scale.astype("<f2")), "g_idx": ("I32", order.astype("<i4")),
    }  # fmt: skip
    return tensors, (codes.astype(float) - 8) * scale[order].T


def fp4(value: Any, group: int, scale: Any) -> tuple[Any, Any]:
    """(bytes of two e2m1, values): the first of each pair in the low half."""
    scaled = value / np.repeat(scale, group, 1)
    place = np.abs(np.abs(scaled)[..., None] - E2M1).argmin(-1)
    nibbles = (place | (np.signbit(scaled) << 3)).astype("u1")
    found = np.sign(scaled) * E2M1[place] * np.repeat(scale, group, 1)
    return nibbles[:, ::2] | (nibbles[:, 1::2] << 4), found


def nvfp4(value: Any, *, inverse: bool) -> Packed:
    """compressed-tensors divides by its scale of the whole, ModelOpt multiplies with it."""
    outer = np.float32(np.abs(value).max() / (6 * 448))
    codes, inner = e4m3(np.abs(value.reshape(len(value), -1, 16)).max(-1) / 6 / outer)
    weight, found = fp4(value, 16, inner * outer)
    if inverse:
        given = {"weight_packed": ("U8", weight), "weight_global_scale": ("F32", np.array([1 / outer], "<f4"))}
    else:
        given = {"weight": ("U8", weight), "weight_scale_2": ("F32", np.array(outer, "<f4"))}
    return {**given, "weight_scale": ("F8_E4M3", codes)}, found


def mxfp4(value: Any) -> Packed:
    power = np.floor(np.log2(np.abs(value.reshape(len(value), -1, 32)).max(-1))) - 2
    weight, found = fp4(value, 32, 2.0**power)
    return {"weight_packed": ("U8", weight), "weight_scale": ("U8", (power + 127).astype("u1"))}, found


def groups(**weights_of: Any) -> dict[str, Any]:
    """compressed-tensors' words."""
    one = {"targets": ["Linear"], "weights": weights_of, "input_activations": None}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": one}, "ignore": ["lm_head"]}


def _int(**more: Any) -> dict[str, Any]:
    return groups(num_bits=4, type="int", symmetric=True, strategy="group", group_size=GROUP, **more)


def _float(**more: Any) -> dict[str, Any]:
    return groups(num_bits=4, type="float", symmetric=True, **more)


LAYOUTS: dict[str, tuple[Callable[[Any], Packed], dict[str, Any]]] = {
    "fp8-rows": (fp8_rows, groups(num_bits=8, type="float", symmetric=True, strategy="channel")),
    "fp8-blocks": (fp8_blocks, {"quant_method": "fp8", "weight_block_size": [32, 32]}),
    "modelopt-fp8": (fp8_tensor, {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}),
    "int8-rows": (int8_rows, groups(num_bits=8, type="int", symmetric=True, strategy="channel")),
    "packed": (packed, _int()),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": True}),
    "nvfp4": (partial(nvfp4, inverse=True), _float(strategy="tensor_group", group_size=16)),
    "modelopt-nvfp4": (partial(nvfp4, inverse=False), {"quant_method": "modelopt", "ignore": ["lm_head"]}),
    "mxfp4": (mxfp4, _float(strategy="group", group_size=32)),
}  # fmt: skip


def scale_names(tensors: Tensors, module: str) -> Iterator[str]:
    """Scales of a module's groups or rows, not of the whole."""
    return (
        name for name in tensors if name.startswith(f"{module}.") and name.endswith(("weight_scale", "scales", "_inv"))
    )
