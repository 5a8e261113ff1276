"""A model as a GGUF file without weights: header and tensors as llama.cpp's converter writes them, the data a hole.

llama.cpp's own counting tools read metadata alone, so they count such a file as they count the real one, in a second
and without a download. Nothing can be loaded from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catalog import tensors
from catalog.errors import Unsupported
from catalog.model import Linear, Mla, Model, Moe
from planner.lanes.gguf import BESIDE, UNSLOTH_BITS, stored
from planner.lanes.named import CONVOLUTION, Style, arrangement, named, state, style

ALIGNMENT = 32
Keys = dict[str, int | float | bool | list[int]]


def write(model: Model, kind: str, path: Path) -> Path:
    """Writes the outline of `model` in file type `kind`. Raises Unsupported where we have no list of its tensors."""
    import gguf
    import numpy as np

    made = style(model)
    if made is None or not named(model) or kind in UNSLOTH_BITS:
        raise Unsupported(f"no list of the tensors of {model.architecture} in {kind}", model.id)
    writer = gguf.GGUFWriter(path, made.gguf)
    for key, value in metadata(model, made).items():
        _add(writer, f"{made.gguf}.{key}", value)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{'MXFP4_MOE' if kind == 'MXFP4' else kind}"])
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    size = 0
    for tensor, block in stored(model, kind):
        if tensor.part in BESIDE:
            continue
        held = int(tensor.bytes_as(block))
        shape = tuple(reversed(tensor.shape))
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), held, gguf.GGMLQuantizationType[block])
        size += -(-held // ALIGNMENT) * ALIGNMENT
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = file.seek(0, 2)
        file.truncate(-(-start // ALIGNMENT) * ALIGNMENT + size)
    return path


def metadata(model: Model, made: Style) -> Keys:
    """Keys below the architecture's name."""
    group = tensors.full_group(model)
    keys: Keys = {
        "vocab_size": model.vocab,
        "block_count": model.layers,
        "context_length": model.max_position,
        "embedding_length": model.hidden,
        "feed_forward_length": model.intermediate or (model.moe.intermediate if model.moe else 0),
        "attention.head_count": model.heads,
        "attention.head_count_kv": 1 if model.mla else model.kv_heads,
        "attention.key_length": group.key,
        "attention.value_length": group.value,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": model.rotary_dim or model.head_dim,
        "rope.freq_base": 1e6,
    }
    if model.window and made.every:
        keys |= {"attention.sliding_window": model.window.tokens}
    if made.gguf.startswith("qwen35"):
        keys |= {"rope.dimension_sections": [11, 11, 10, 0]}
    keys |= _experts(model.moe, model) if model.moe else {}
    keys |= _latent(model.mla) if model.mla else {}
    return keys | (_linear(model.linear, model) if model.linear else {})


def _experts(moe: Moe, model: Model) -> Keys:
    return {
        "expert_count": moe.experts,
        "expert_used_count": moe.per_token,
        "expert_feed_forward_length": moe.intermediate,
        "expert_shared_count": moe.shared,
        "expert_shared_feed_forward_length": moe.shared * (moe.shared_intermediate or moe.intermediate),
        "leading_dense_block_count": model.layers - moe.layers,
        "expert_gating_func": 2,
        "expert_weights_scale": 1.0,
    }


def _latent(mla: Mla) -> Keys:
    keys: Keys = {
        "attention.kv_lora_rank": mla.kv_lora,
        "attention.key_length": mla.kv_lora + mla.rope,
        "attention.value_length": mla.kv_lora,
        "attention.key_length_mla": (mla.nope or 0) + mla.rope,
        "attention.value_length_mla": mla.value or 0,
        "rope.dimension_count": mla.rope,
    }
    return keys | ({"attention.q_lora_rank": mla.q_lora} if mla.q_lora else {})


def _linear(linear: Linear, model: Model) -> Keys:
    use, order = state(linear), arrangement(model) or ()
    return {
        "ssm.conv_kernel": CONVOLUTION,
        "ssm.inner_size": use.inner,
        "ssm.state_size": use.width,
        "ssm.time_step_rank": use.heads,
        "ssm.group_count": use.groups,
        "full_attention_interval": order.index("full") + 1,
    }


def _add(writer: Any, key: str, value: float | list[int]) -> None:
    if isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_uint32(key, value)
