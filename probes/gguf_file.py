"""A GGUF file through the `gguf` library: metadata as the config.json it was converted from, tensors with their types.

Keys: the GGUF specification and the `gguf` library's constants. The library maps the file into memory; only metadata
and tensor descriptions are read.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catalog.architectures import model_from_config
from catalog.errors import BadInput, UnknownModel, Unsupported
from catalog.lane import GGUF_TYPES
from catalog.model import Model
from catalog.tensors import params
from catalog.units import Bytes
from probes.checkpoint import inherit, readable
from probes.weights import Stored, group

MAGIC = b"GGUF"
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

Values = Mapping[str, object]
"""Metadata of the file, keys without the architecture's prefix."""


class File(Struct, frozen=True, kw_only=True):
    """Metadata and tensors of one GGUF file, or of all its parts."""

    values: Values
    tensors: tuple[Stored, ...]
    bytes_by_type: dict[str, int]


def read(path: Path, known: Mapping[str, Model]) -> Model:
    """The model of a GGUF file (all parts of a split one). UnknownModel or BadInput name the file."""
    files = [opened(part) for part in siblings(path)]
    tensors = tuple(tensor for file in files for tensor in file.tensors)
    sizes = merged([file.bytes_by_type for file in files])
    lane = f"gguf:{file_type(files[0].values, sizes, path)}"
    model = model_from_config(
        config_of(files[0].values, tensors, str(path)), str(path), f"metadata and tensors of {path}"
    )
    exact = group(tensors, model)
    return msgspec.structs.replace(
        model,
        native=lane,
        native_recipe="",
        quantization=lane,
        tensors=exact,
        total_params=float(params(exact)),
        native_bytes=Bytes(sum(sizes.values())),
        license=str(files[0].values.get("general.license", "")),
        inherited=inherit(model, known.values()),
    )


def siblings(path: Path) -> tuple[Path, ...]:
    """All parts of a split file, in order; the file alone otherwise."""
    found = PART.search(path.name)
    if not found:
        return (path,)
    stem, count = path.name[: found.start()], int(found[2])
    return tuple(path.with_name(f"{stem}-{part:05d}-of-{count:05d}.gguf") for part in range(1, count + 1))


def opened(path: Path) -> File:
    """One file's metadata and tensors."""
    if not os.path.isfile(path):
        raise UnknownModel("no such GGUF file (all parts of a split file are needed)", str(path))
    with readable(path) as file:
        if file.read(4) != MAGIC:
            raise BadInput("no GGUF file: it does not begin with the letters GGUF", str(path))
    reader = reader_of(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    if "tokenizer.ggml.tokens" in reader.fields:
        fields["vocabulary"] = len(reader.fields["tokenizer.ggml.tokens"].data)
    sizes: dict[str, int] = defaultdict(int)
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_bytes)
    stored = tuple(
        Stored(tensor.name, tensor.tensor_type.name, tuple(int(length) for length in reversed(tensor.shape)))
        for tensor in reader.tensors
    )
    return File(values=unprefixed(fields), tensors=stored, bytes_by_type=dict(sizes))


def reader_of(path: Path) -> Any:
    """The library's reader; a damaged file is BadInput."""
    import gguf

    try:
        return gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, TypeError, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"damaged GGUF file: {error}", str(path)) from None


def unprefixed(fields: Mapping[str, object]) -> Values:
    """Keys of the architecture without its name: `llama.block_count` becomes `block_count`."""
    prefix = f"{fields.get('general.architecture', '')}."
    return {name.removeprefix(prefix): value for name, value in fields.items()}


def merged(sizes: list[dict[str, int]]) -> dict[str, int]:
    """Sums by type."""
    names = dict.fromkeys(name for one in sizes for name in one)
    return {name: sum(one.get(name, 0) for one in sizes) for name in names}


# ---- the file type ---------------------------------------------------------------------------------------------------


def file_type(values: Values, sizes: Mapping[str, int], path: Path) -> str:
    """The llama.cpp file type: a dynamic one by the file's name, else the stated one, else the type of most bytes.

    gpt-oss files say F16 while their experts are MXFP4: the type of most bytes wins over a 16-bit label.
    """
    dynamic = next((name for name in GGUF_TYPES if name.startswith("UD-") and name in path.name), None)
    most = max(sizes, key=lambda name: sizes[name], default="")
    stated = stated_type(values.get("general.file_type"))
    name = dynamic or (stated if stated not in ("", "F16", "BF16", "F32") else most)
    if name == "F32":
        name = "F16"
    if name not in GGUF_TYPES:
        raise Unsupported(f"the llama.cpp type {name or 'of this file'} is no lane", str(path))
    return name


def stated_type(value: object) -> str:
    """`general.file_type` as llama.cpp names it, empty where it is absent or unknown."""
    import gguf

    if not isinstance(value, int) or value not in {kind.value for kind in gguf.LlamaFileType}:
        return ""
    name = gguf.LlamaFileType(value).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return {"MXFP4_MOE": "MXFP4", "GUESSED": ""}.get(name, name)


# ---- metadata as config.json -----------------------------------------------------------------------------------------

KEYS = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size",),
    "context_length": ("max_position_embeddings", "n_positions"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "moe_topk"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_count": ("n_shared_experts", "num_shared_expert"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "leading_dense_block_count": ("first_k_dense_replace",),
    "attention.q_lora_rank": ("q_lora_rank",),
    "attention.kv_lora_rank": ("kv_lora_rank",),
    "full_attention_interval": ("full_attention_interval",),
    "ssm.conv_kernel": ("linear_conv_kernel_dim",),
    "ssm.group_count": ("linear_num_key_heads",),
    "ssm.time_step_rank": ("linear_num_value_heads",),
    "ssm.state_size": ("linear_key_head_dim", "linear_value_head_dim"),
    "interleave_moe_layer_step": ("interleave_moe_layer_step",),
    "attention.chunk_size": ("attention_chunk_size",),
}
"""GGUF key (without architecture) to the keys of config.json."""

ARCHITECTURES: Mapping[str, str] = {
    "deepseek2": "DeepseekV3ForCausalLM",
    "dots1": "Dots1ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "glm4moe": "Glm4MoeForCausalLM",
    "gpt-oss": "GptOssForCausalLM",
    "gptj": "GPTJForCausalLM",
    "granite": "GraniteForCausalLM",
    "hunyuan-moe": "HunYuanMoEV1ForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4": "Llama4ForCausalLM",
    "minimax-m2": "MiniMaxM2ForCausalLM",
    "mistral3": "MistralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen35": "Qwen3_5ForCausalLM",
    "qwen35moe": "Qwen3_5MoeForCausalLM",
    "qwen3moe": "Qwen3MoeForCausalLM",
    "qwen3next": "Qwen3NextForCausalLM",
    "seed_oss": "SeedOssForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


def config_of(values: Values, tensors: tuple[Stored, ...], where: str) -> dict[str, object]:
    """The config.json that this file's metadata amounts to."""
    name = str(values.get("general.architecture", ""))
    if name not in ARCHITECTURES:
        raise Unsupported(f"GGUF architecture {name!r} is not read; read are {', '.join(ARCHITECTURES)}", where)
    config: dict[str, object] = {
        key: scalar(values[name], name, where) for name, keys in KEYS.items() if name in values for key in keys
    }
    config |= {
        "architectures": [ARCHITECTURES[name]],
        "model_type": name,
        "vocab_size": vocabulary(values, tensors, where),
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in tensors),
    }
    for adapt in (routed_llama, latent, expert_width, next_token_layers, biases, gated):
        adapt(config, values, tensors)
    return config


def scalar(value: object, name: str, where: str) -> object:
    """A number; a number per layer is accepted where all are the same."""
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise Unsupported(f"`{name}` differs from layer to layer", where)
    return value[0]


def vocabulary(values: Values, tensors: tuple[Stored, ...], where: str) -> object:
    """Rows of the embedding, the length of the token list otherwise."""
    rows = next((tensor.shape[0] for tensor in tensors if tensor.name == "token_embd.weight"), values.get("vocabulary"))
    if rows is None:
        raise BadInput("neither an embedding nor a token list: the vocabulary is unknown", where)
    return rows


def routed_llama(config: dict[str, object], _values: Values, _tensors: tuple[Stored, ...]) -> None:
    """llama.cpp writes Mixtral as `llama` with experts."""
    if config["model_type"] == "llama" and config.get("num_experts"):
        config["architectures"] = ["MixtralForCausalLM"]


def latent(config: dict[str, object], values: Values, _tensors: tuple[Stored, ...]) -> None:
    """Head widths of latent attention: `…_mla` keys in newer files, the plain ones in older."""
    if not config.get("kv_lora_rank"):
        return
    rope, key = (
        values.get("rope.dimension_count"),
        values.get("attention.key_length_mla", values.get("attention.key_length")),
    )
    config["qk_rope_head_dim"] = rope
    if isinstance(key, int) and isinstance(rope, int):
        config["qk_nope_head_dim"] = key - rope
    config["v_head_dim"] = values.get("attention.value_length_mla", values.get("attention.value_length"))
    config.pop("head_dim", None)


def expert_width(config: dict[str, object], _values: Values, tensors: tuple[Stored, ...]) -> None:
    """Files that leave the experts' width to the tensors."""
    stacked = next((tensor for tensor in tensors if tensor.name.endswith("ffn_up_exps.weight")), None)
    if stacked is None:
        return
    config.setdefault("moe_intermediate_size", stacked.shape[1])
    if config["architectures"] in (["MixtralForCausalLM"], ["GptOssForCausalLM"], ["MiniMaxM2ForCausalLM"]):
        config["intermediate_size"] = stacked.shape[1]


def next_token_layers(config: dict[str, object], values: Values, _tensors: tuple[Stored, ...]) -> None:
    """Multi-token-prediction layers are counted among the blocks."""
    extra, count = values.get("nextn_predict_layers"), config.get("num_hidden_layers")
    if isinstance(extra, int) and isinstance(count, int):
        config["num_hidden_layers"] = count - extra


def biases(config: dict[str, object], _values: Values, tensors: tuple[Stored, ...]) -> None:
    """Attention biases by their tensors."""
    config["attention_bias"] = any(tensor.name.endswith("attn_q.bias") for tensor in tensors)


def gated(config: dict[str, object], _values: Values, tensors: tuple[Stored, ...]) -> None:
    """Query projections twice as wide as the heads carry an output gate."""
    heads, width = config.get("num_attention_heads"), config.get("head_dim")
    rows = next((tensor.shape[0] for tensor in tensors if tensor.name.endswith("attn_q.weight")), None)
    config["attn_output_gate"] = isinstance(heads, int) and isinstance(width, int) and rows == 2 * heads * width
