"""Local folders: exact tensors from headers, quantized layouts undone, damaged files refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from catalog.errors import BadInput, UnknownModel
from catalog.load import load
from catalog.tensors import inventory, params, parts
from probes import checkpoint
from probes.checkpoint import read
from tests.models import stored

KNOWN = load().models


def test_folder_is_exact(tmp_path: Path) -> None:
    model = read(stored.checkpoint(tmp_path / "llama", stored.LLAMA_8B), KNOWN)
    assert params(model.tensors) == 8_030_261_248
    assert model.native_bytes == 2 * 8_030_261_248
    assert inventory(model) is model.tensors
    assert parts(model) == parts(KNOWN["meta-llama/Llama-3.1-8B-Instruct"])
    assert {tensor.dtype for tensor in model.tensors} == {"BF16"}


def test_layers_are_counted(tmp_path: Path) -> None:
    model = read(stored.checkpoint(tmp_path / "qwen", stored.QWEN3_30B), KNOWN)
    gate = next(tensor for tensor in model.tensors if tensor.part == "expert.gate")
    assert (gate.rows, gate.columns, gate.count, gate.layers) == (768, 2048, 48 * 128, 48)
    assert model.inherited == "Qwen/Qwen3-30B-A3B"


def test_fused_and_stacked_tensors_come_apart(tmp_path: Path) -> None:
    config = stored.TINY | {"architectures": ["Phi3ForCausalLM"]}
    shapes = {name: shape for name, shape in stored.tensors(config).items() if "_proj" not in name or "o_proj" in name}
    for layer in range(2):
        shapes[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = (64 + 32 + 32, 64)
        shapes[f"model.layers.{layer}.mlp.gate_up_proj.weight"] = (256, 64)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (64, 128)
    plain = read(stored.checkpoint(tmp_path / "plain", stored.TINY), {})
    assert parts(read(stored.checkpoint(tmp_path / "fused", config, shapes), {})) == parts(plain)


@pytest.mark.parametrize(
    ("quantization", "suffix", "shape", "lane"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "qweight", (64 // 8, 128), "gptq-int4"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128, "sym": True}, "qweight", (64 // 4, 128), "int8-w8a16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "qweight", (64, 128 // 8), "awq-int4"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {
                "input_activations": None, "weights": {"num_bits": 4, "type": "int", "symmetric": True}}}},
            "weight_packed", (128, 64 // 8), "w4a16",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {
                "input_activations": None, "weights": {"num_bits": 8, "type": "int", "symmetric": True}}}},
            "weight_packed", (128, 64 // 4), "int8-w8a16",
        ),
    ],
)  # fmt: skip
def test_packed_integers_count_as_weights(
    tmp_path: Path, quantization: dict[str, object], suffix: str, shape: tuple[int, ...], lane: str
) -> None:
    name = "model.layers.0.mlp.up_proj"
    shapes = {
        f"{name}.{suffix}": shape,
        f"{name}.scales": (1, 128),
        f"{name}.qzeros": (1, 16),
        "model.embed_tokens.weight": (256, 64),
    }
    config = stored.TINY | {"quantization_config": quantization}
    model = read(stored.checkpoint(tmp_path / "packed", config, shapes, "I32"), {})
    up = next(tensor for tensor in model.tensors if tensor.part == "mlp.up")
    assert (up.rows, up.columns, model.quantization, model.native) == (128, 64, lane, lane)
    assert up.stored_bytes == 4 * (shape[0] * shape[1] + 128 + 16)
    assert set(parts(model)) == {"mlp.up", "embedding"}


def test_mxfp4_experts(tmp_path: Path) -> None:
    config = stored.TINY | {
        "architectures": ["GptOssForCausalLM"], "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2,
        "intermediate_size": 64, "sliding_window": 128, "quantization_config": {"quant_method": "mxfp4"},
    }  # fmt: skip
    name = "model.layers.0.mlp.experts"
    shapes = {
        f"{name}.gate_up_proj_blocks": (4, 128, 2, 16),
        f"{name}.gate_up_proj_scales": (4, 128, 2),
        f"{name}.gate_up_proj_bias": (4, 128),
    }
    model = read(stored.checkpoint(tmp_path / "oss", config, shapes, "U8"), {})
    gate = next(tensor for tensor in model.tensors if tensor.part == "expert.gate")
    assert (gate.rows, gate.columns, gate.count, gate.dtype, model.native) == (64, 64, 4, "F4", "mxfp4")


def test_vision_and_next_token_layers_stand_beside(tmp_path: Path) -> None:
    extra = {"model.visual.blocks.0.attn.qkv.weight": (48, 16), "model.layers.2.eh_proj.weight": (64, 128)}
    model = read(stored.checkpoint(tmp_path / "vl", stored.TINY, stored.tensors(stored.TINY) | extra), {})
    assert (model.extra_params, model.mtp_params) == (48 * 16, 64 * 128)
    assert params(model.tensors) == params(read(stored.checkpoint(tmp_path / "text", stored.TINY), {}).tensors)


def test_tied_embeddings_are_read_off_the_tensors(tmp_path: Path) -> None:
    shapes = stored.tensors(stored.TINY | {"tie_word_embeddings": True})
    silent = {name: value for name, value in stored.TINY.items() if name != "tie_word_embeddings"}
    assert read(stored.checkpoint(tmp_path / "tied", silent, shapes), {}).tied
    assert not read(stored.checkpoint(tmp_path / "untied", silent, stored.tensors(stored.TINY)), {}).tied


def test_a_config_that_leans_on_defaults_is_completed_by_its_twin_or_refused(tmp_path: Path) -> None:
    lean = {name: value for name, value in stored.LLAMA_8B.items() if name != "num_key_value_heads"}
    folder = stored.checkpoint(tmp_path / "lean", lean, stored.tensors(stored.LLAMA_8B))
    assert read(folder, KNOWN).kv_heads == 8
    with pytest.raises(BadInput, match="num_key_value_heads"):
        read(folder, {})


def test_a_stranger_inherits_nothing(tmp_path: Path) -> None:
    assert read(stored.checkpoint(tmp_path / "tiny", stored.TINY), KNOWN).inherited is None


def test_the_base_with_the_same_context_is_preferred(tmp_path: Path) -> None:
    short = stored.LLAMA_8B | {"max_position_embeddings": 8192}
    assert read(stored.checkpoint(tmp_path / "a", short), KNOWN).inherited == "meta-llama/Meta-Llama-3-8B-Instruct"


def test_index_names_a_missing_shard(tmp_path: Path) -> None:
    folder = stored.checkpoint(tmp_path / "cut", stored.TINY)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    with pytest.raises(BadInput, match="model-00001-of-00002"):
        read(folder, {})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no safetensors header"),
        (struct.pack("<Q", 2**62) + b"{}", "no safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "expected a JSON object"),
        (struct.pack("<Q", 4) + b"oops", "no valid JSON"),
        (struct.pack("<Q", 60) + b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": "no"}}', "corrupt"),
        (struct.pack("<Q", 60) + b'{"a": {"dtype":"BF16","shape":[-2],"data_offsets":[0,4]}}   ', "corrupt"),
        (struct.pack("<Q", 60) + b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets":[0,9]}}', "does not fill"),
        (
            struct.pack("<Q", 60) + b'{"a": {"dtype": "HUGE", "shape": [2], "data_offsets":[0,4]}}',
            "unknown format HUGE",
        ),
        (struct.pack("<Q", 60) + b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets":[0,4]}}', "cut off"),
    ],
)
def test_damaged_headers_are_refused_by_file(tmp_path: Path, content: bytes, sentence: str) -> None:
    folder = stored.checkpoint(tmp_path / "damaged", stored.TINY)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=sentence) as refused:
        read(folder, {})
    assert refused.value.path.endswith("model.safetensors")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(stored.TINY))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadInput, match="pickles are never opened"):
        read(tmp_path, {})


def test_missing_and_oversized_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownModel, match=r"no config\.json"):
        read(tmp_path, {})
    (tmp_path / "config.json").write_text("{}" + " " * 100)
    monkeypatch.setattr(checkpoint, "CONFIG_LIMIT", 64)
    with pytest.raises(BadInput, match="larger than 64 bytes"):
        read(tmp_path, {})


def test_a_users_own_entry_is_no_base(tmp_path: Path) -> None:
    first = read(stored.checkpoint(tmp_path / "first", stored.LLAMA_8B), KNOWN)
    second = read(stored.checkpoint(tmp_path / "first-again", stored.LLAMA_8B), {**KNOWN, first.id: first})
    assert second.inherited == first.inherited == "meta-llama/Llama-3.1-8B-Instruct"
