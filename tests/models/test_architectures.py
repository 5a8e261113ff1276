"""config.json to Model: excerpts of real configs give the catalogue's shapes; what is missing is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.architectures import ARCHITECTURES, model_from_config
from catalog.errors import BadInput, Unsupported
from catalog.lane import is_lane
from catalog.load import load
from catalog.model import Model
from catalog.quantization import read
from tests.models import stored

KNOWN = load().models
CONFIGS: dict[str, dict[str, object]] = json.loads((Path(__file__).parent / "configs.json").read_text())
"""The keys that decide, of config.json as ai-dynamo/aiconfigurator@095f58a keeps it (base models for -Instruct ids)."""
LAYOUT = (
    "layers", "hidden", "heads", "kv_heads", "head_dim", "value_dim", "intermediate", "mlp_matrices", "dense_layers",
    "vocab", "max_position", "tied", "attention_layers", "window", "linear", "global_kv_heads", "global_head_dim",
    "key_is_value", "attention_gate", "attention_bias", "sinks", "moe", "mla", "native",
)  # fmt: skip


@pytest.mark.parametrize("key", CONFIGS)
def test_real_configs_give_the_catalogue_entry(key: str) -> None:
    model = model_from_config(CONFIGS[key], key, "test")
    assert {name: getattr(model, name) for name in LAYOUT} == {name: getattr(KNOWN[key], name) for name in LAYOUT}


def variants(**changes: object) -> Model:
    return model_from_config(stored.TINY | changes, "a/b", "test")


def needed() -> list[tuple[str, str]]:
    """Every key of every excerpt that the layout reads as a number of its own."""
    optional = ("head_dim", "quantization_config", "model_type", "torch_dtype", "dtype")
    plain = CONFIGS["meta-llama/Llama-3.1-8B-Instruct"]
    latent, routed = CONFIGS["deepseek-ai/DeepSeek-V3"], CONFIGS["openai/gpt-oss-20b"]
    keys = [("meta-llama/Llama-3.1-8B-Instruct", name) for name in plain if name not in (*optional, "architectures")]
    keys += [
        ("deepseek-ai/DeepSeek-V3", name) for name in latent if name.endswith(("_rank", "_dim", "_experts", "_tok"))
    ]
    return keys + [
        ("openai/gpt-oss-20b", name) for name in routed if name in ("head_dim", "num_local_experts", "sliding_window")
    ]


@pytest.mark.parametrize(
    ("key", "name"), [pair for pair in needed() if pair[1] not in ("q_lora_rank", "n_shared_experts")]
)
def test_a_missing_key_is_refused_by_name(key: str, name: str) -> None:
    config = {field: value for field, value in CONFIGS[key].items() if field != name}
    with pytest.raises(BadInput, match=name):
        model_from_config(config, key, "test")


@pytest.mark.parametrize("value", ["32", 3.5, True, -1, [1]])
def test_a_number_must_be_a_whole_number(value: object) -> None:
    with pytest.raises(BadInput, match="num_attention_heads"):
        variants(num_attention_heads=value)


def test_unknown_encoders_and_nameless_configs_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"MambaForCausalLM is not known; known are .*LlamaForCausalLM"):
        variants(architectures=["MambaForCausalLM"])
    with pytest.raises(Unsupported, match="encoder or embedding"):
        variants(architectures=["BertModel"])
    with pytest.raises(Unsupported, match="no formula yet"):
        variants(architectures=["DeepseekV4ForCausalLM"])
    with pytest.raises(BadInput, match="names no architecture"):
        variants(architectures=[])


def test_the_table_covers_the_catalogue() -> None:
    planned = {model.architecture for model in KNOWN.values() if model.unplanned is None}
    assert planned - set(ARCHITECTURES) == {"MistralLarge3ForCausalLM"}, "published as params.json"


def test_head_dim_is_read_and_otherwise_derived() -> None:
    assert variants(head_dim=32).head_dim == 32
    assert variants().head_dim == 64 // 4
    with pytest.raises(BadInput, match="head_dim is missing"):
        variants(num_attention_heads=3)
    with pytest.raises(BadInput, match="head_dim"):
        variants(architectures=["Qwen3ForCausalLM"])


def test_rope_scaling_leaves_the_stated_context() -> None:
    assert variants(rope_scaling={"rope_type": "yarn", "factor": 4.0}).max_position == 512


def test_windows() -> None:
    everywhere = variants(architectures=["MistralForCausalLM"], sliding_window=128).window
    assert everywhere is not None
    assert (everywhere.layers, everywhere.tokens) == (2, 128)
    assert variants(architectures=["MistralForCausalLM"], sliding_window=None).window is None
    gemma = variants(architectures=["Gemma2ForCausalLM"], head_dim=16, num_hidden_layers=3, sliding_window=128)
    assert gemma.window is not None
    assert (gemma.window.layers, gemma.tied) == (2, True)


def test_sixteen_bit_dtypes() -> None:
    assert variants(torch_dtype="float16").native == "fp16"
    assert variants(torch_dtype="float32").native == "bf16"


GROUP = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
FLOAT8 = {"num_bits": 8, "type": "float"}
FLOAT4 = {"num_bits": 4, "type": "float", "group_size": 16}
INT8 = {"num_bits": 8, "type": "int"}


def groups(weights: object, inputs: object = None, form: str = "") -> dict[str, object]:
    group = {"weights": weights, "input_activations": inputs, "format": form or None}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("stated", "lane", "recipe", "note"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", "fp8-dynamic", ""),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", "fp8-static", ""),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", "fp8-block", ""),
        (groups(FLOAT8 | {"strategy": "channel"}, FLOAT8 | {"dynamic": True}), "fp8", "fp8-dynamic", ""),
        (groups(FLOAT8 | {"strategy": "tensor"}, FLOAT8 | {"dynamic": False}), "fp8", "fp8-static", ""),
        (groups(FLOAT8 | {"strategy": "block"}, FLOAT8 | {"dynamic": True}), "fp8", "fp8-block", ""),
        (groups(INT8, INT8), "int8-w8a8", "", ""),
        (groups(INT8), "int8-w8a16", "", ""),
        (groups(GROUP), "w4a16", "", "groups of 128"),
        (groups(GROUP | {"symmetric": False}), "w4a16", "", "groups of 128; asymmetric"),
        (groups(FLOAT4, FLOAT4), "nvfp4", "nvfp4", ""),
        (groups(FLOAT4), "nvfp4", "nvfp4-w4a16", ""),
        (groups(FLOAT4, None, "mxfp4-pack-quantized"), "mxfp4", "mxfp4", ""),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq-int4", "awq", "groups of 128"),
        ({"quant_method": "gptq", "bits": 4, "sym": False}, "gptq-int4", "gptq", "asymmetric"),
        ({"quant_method": "gptq", "bits": 3}, "gptq-int4", "gptq", "3 bits: fewer kernels than 4 bits"),
        ({"quant_method": "gptq", "bits": 8}, "int8-w8a16", "gptq", ""),
        ({"quant_method": "mxfp4"}, "mxfp4", "mxfp4-native", ""),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "nvfp4", ""),
        ({"quant_algo": "FP8", "producer": {"name": "modelopt"}}, "fp8", "fp8-static", ""),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", "bitsandbytes", ""),
    ],
)
def test_quantization_to_lane(stated: dict[str, object], lane: str, recipe: str, note: str) -> None:
    found = read({"quantization_config": stated}, "a/b")
    assert found is not None
    assert (found.lane, found.recipe, found.note) == (lane, recipe, note)
    assert is_lane(found.lane)


@pytest.mark.parametrize(
    "stated",
    [
        {"quant_method": "aqlm"},
        {"quant_method": "awq", "bits": 3},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
        groups({"num_bits": 4, "type": "int"}, INT8),
    ],
)
def test_unknown_quantization_is_refused(stated: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        read({"quantization_config": stated}, "a/b")


@pytest.mark.parametrize(
    ("stated", "positions"),
    [
        ({}, 2 * 8192),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 9 * 8192),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}, 9 * 8192),
    ],
)
def test_gemma_3_has_a_table_of_rotations_for_each_kind_of_layer(stated: dict[str, object], positions: int) -> None:
    config: dict[str, object] = {
        "architectures": ["Gemma3ForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 256, "sliding_window": 128,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    assert model_from_config(config | stated, "gemma", "a test").rope_positions == positions
