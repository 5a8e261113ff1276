"""The config.json that vLLM would find beside a catalogue model: the catalogue's own shapes under vLLM's names.

What a family needs beyond its shapes (vision towers, rhythms of layers) stands in `FAMILIES`, from the published files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catalog.model import Model

Json = dict[str, Any]


def config(model: Model, quantization: Json | None = None) -> Json:
    """config.json of a model, in 16 bits without `quantization`."""
    made = FAMILIES[model.architecture](model)
    return {**made, **({"quantization_config": quantization} if quantization else {})}


def plain(model: Model, kind: str, **more: Any) -> Json:
    """What every decoder states."""
    return {
        "architectures": [model.architecture],
        "model_type": kind,
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate or model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab,
        "max_position_embeddings": model.max_position,
        "tie_word_embeddings": model.tied,
        "torch_dtype": "bfloat16",
        **more,
    }


def of(kind: str, **more: Any) -> Callable[[Model], Json]:
    """A family that needs nothing but fixed keys."""
    return lambda model: plain(model, kind, **more)


def rotated(model: Model) -> Json:
    """The rotated part of a head, where it is not the whole."""
    return {"partial_rotary_factor": (model.rotary_dim or model.head_dim) / model.head_dim}


def qwen_moe(model: Model, kind: str = "qwen3_moe") -> Json:
    moe = model.moe
    assert moe is not None
    return plain(
        model,
        kind,
        num_experts=moe.experts,
        num_experts_per_tok=moe.per_token,
        moe_intermediate_size=moe.intermediate,
        shared_expert_intermediate_size=moe.shared * (moe.shared_intermediate or moe.intermediate),
        decoder_sparse_step=1,
        mlp_only_layers=[],
        norm_topk_prob=True,
    )


def all_experts(kind: str) -> Callable[[Model], Json]:
    def made(model: Model) -> Json:
        assert model.moe is not None
        experts = {"num_local_experts": model.moe.experts, "num_experts_per_tok": model.moe.per_token}
        return plain(model, kind, **experts) | {"intermediate_size": model.moe.intermediate}

    return made


def gpt_oss(model: Model) -> Json:
    scaling = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
               "beta_slow": 1.0, "truncate": False, "rope_theta": 150000}  # fmt: skip
    return all_experts("gpt_oss")(model) | {
        "attention_bias": True,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (model.layers // 2),
        "rope_parameters": scaling,
        "quantization_config": {"quant_method": "mxfp4"},
    }


def deepseek(kind: str) -> Callable[[Model], Json]:
    def made(model: Model) -> Json:
        mla, moe = model.mla, model.moe
        assert mla is not None
        assert moe is not None
        scaling = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 1.0,
                   "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1, "rope_theta": 10000}  # fmt: skip
        return plain(
            model,
            kind,
            kv_lora_rank=mla.kv_lora,
            q_lora_rank=mla.q_lora,
            qk_nope_head_dim=mla.nope,
            qk_rope_head_dim=mla.rope,
            v_head_dim=mla.value,
            n_routed_experts=moe.experts,
            n_shared_experts=moe.shared,
            num_experts_per_tok=moe.per_token,
            moe_intermediate_size=moe.intermediate,
            first_k_dense_replace=model.layers - moe.layers,
            moe_layer_freq=1,
            n_group=1,
            topk_group=1,
            topk_method="noaux_tc" if kind == "deepseek_v3" else "greedy",
            scoring_func="sigmoid" if kind == "deepseek_v3" else "softmax",
            rope_parameters=scaling,
        )

    return made


def glm4_moe(model: Model) -> Json:
    moe = model.moe
    assert moe is not None
    return plain(
        model,
        "glm4_moe",
        **rotated(model),
        attention_bias=model.attention_bias,
        use_qk_norm=False,
        n_routed_experts=moe.experts,
        n_shared_experts=moe.shared,
        num_experts_per_tok=moe.per_token,
        moe_intermediate_size=moe.intermediate,
        first_k_dense_replace=model.layers - moe.layers,
        n_group=1,
        topk_group=1,
        num_nextn_predict_layers=1,
    )


def gated_delta(kind: str) -> Callable[[Model], Json]:
    """Qwen3-Next and the text part of Qwen3.5: key heads of 128, as published."""

    def made(model: Model) -> Json:
        linear = model.linear
        assert linear is not None
        assert linear.inner is not None
        base = qwen_moe(model, kind) if model.moe else plain(model, kind)
        values = linear.inner // 128
        rope = {"rope_type": "default", "rope_theta": 10_000_000, "partial_rotary_factor": 0.25}
        keys = ((linear.input_rows or 0) - 2 * linear.inner - 2 * values) // 2 // 128
        period = model.layers // (model.layers - linear.layers)
        return base | {
            "linear_num_key_heads": keys,
            "linear_num_value_heads": values,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_conv_kernel_dim": 4,
            "full_attention_interval": period,
            "layer_types": (["linear_attention"] * (period - 1) + ["full_attention"]) * (model.layers // period),
            "attn_output_gate": True,
            "rope_parameters": rope,
        }

    return made


SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
          "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "image_size": 896}  # fmt: skip


def gemma3(model: Model) -> Json:
    factor = (model.rope_positions or 0) / model.max_position - 1
    full = {"rope_type": "linear", "factor": factor, "rope_theta": 1_000_000.0}
    text = plain(model, "gemma3_text", sliding_window=1024, query_pre_attn_scalar=168, sliding_window_pattern=6)
    text |= {"rope_parameters": {"full_attention": full,
                                 "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}  # fmt: skip
    if not model.extra_params:
        return text | {"architectures": ["Gemma3ForCausalLM"]}
    return {
        "architectures": [model.architecture],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": SIGLIP,
        "mm_tokens_per_image": 256,
        "image_token_index": 262144,
        "torch_dtype": "bfloat16",
    }


def gemma2(model: Model) -> Json:
    return plain(
        model,
        "gemma2",
        sliding_window=4096,
        query_pre_attn_scalar=model.head_dim,
        hidden_activation="gelu_pytorch_tanh",
    )


def qwen35(model: Model) -> Json:
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
              "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304,
              "out_hidden_size": model.hidden, "deepstack_visual_indexes": []}  # fmt: skip
    kind = "qwen3_5_moe" if model.moe else "qwen3_5"
    return {
        "architectures": [model.architecture],
        "model_type": kind,
        "text_config": gated_delta(kind + "_text")(model),
        "vision_config": vision,
        "tie_word_embeddings": model.tied,
        "torch_dtype": "bfloat16",
    }


def mistral3(model: Model) -> Json:
    vision = {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "patch_size": 14, "image_size": 1540, "num_channels": 3, "head_dim": 64,
              "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
    return {
        "architectures": [model.architecture],
        "model_type": "mistral3",
        "text_config": plain(model, "mistral", architectures=["MistralForCausalLM"]),
        "vision_config": vision,
        "spatial_merge_size": 2,
        "tie_word_embeddings": model.tied,
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "torch_dtype": "bfloat16",
    }


FAMILIES: dict[str, Callable[[Model], Json]] = {
    "LlamaForCausalLM": of("llama"),
    "MistralForCausalLM": of("mistral"),
    "Qwen2ForCausalLM": of("qwen2"),
    "Qwen3ForCausalLM": of("qwen3"),
    "GraniteForCausalLM": of("granite", attention_multiplier=0.0078125, embedding_multiplier=12.0,
                             logits_scaling=16.0, residual_multiplier=0.22),
    "Phi3ForCausalLM": lambda model: plain(model, "phi3", **rotated(model)),
    "Olmo2ForCausalLM": of("olmo2"),
    "SmolLM3ForCausalLM": of("smollm3"),
    "MixtralForCausalLM": all_experts("mixtral"),
    "Qwen3MoeForCausalLM": qwen_moe,
    "GptOssForCausalLM": gpt_oss,
    "DeepseekV2ForCausalLM": deepseek("deepseek_v2"),
    "DeepseekV3ForCausalLM": deepseek("deepseek_v3"),
    "Glm4MoeForCausalLM": glm4_moe,
    "Qwen3NextForCausalLM": gated_delta("qwen3_next"),
    "Qwen3_5ForConditionalGeneration": qwen35,
    "Qwen3_5MoeForConditionalGeneration": qwen35,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma3ForConditionalGeneration": gemma3,
    "Mistral3ForConditionalGeneration": mistral3,
}  # fmt: skip


def number(bits: int, kind: str, strategy: str, **more: Any) -> Json:
    """How compressed-tensors writes one number format down."""
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, "dynamic": False, **more}


def compressed(written: str, weights: Json, activations: Json | None = None) -> Json:
    """A compressed-tensors checkpoint that leaves routers, output matrix and vision tower in 16 bits."""
    kept = ["lm_head", "re:.*mlp.gate$", "re:.*block_sparse_moe.gate$", "re:.*shared_expert_gate$", "re:.*vision.*",
            "re:.*visual.*", "re:.*multi_modal.*"]  # fmt: skip
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": written,
        "ignore": kept,
        "config_groups": {"group_0": group},
    }


_TOKEN8 = number(8, "float", "token") | {"dynamic": True}
_NVFP4 = number(4, "float", "tensor_group", group_size=16)
QUANTIZED: dict[tuple[str, str], Json] = {
    ("fp8", "fp8-dynamic"): compressed("float-quantized", number(8, "float", "channel"), _TOKEN8),
    ("fp8", "fp8-block"): compressed(
        "float-quantized",
        number(8, "float", "block", block_structure=[128, 128]),
        number(8, "float", "group", group_size=128) | {"dynamic": True},
    ),
    ("fp8", "native-block"): {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "fmt": "e4m3",
    },
    ("fp8", "fp8-static"): compressed("float-quantized", number(8, "float", "tensor"), number(8, "float", "tensor")),
    ("int8-w8a8", "smoothquant"): compressed(
        "int-quantized", number(8, "int", "channel"), number(8, "int", "token") | {"dynamic": True}
    ),
    ("int8-w8a16", "gptq"): compressed("pack-quantized", number(8, "int", "group", group_size=128)),
    ("w4a16", "gptq"): compressed("pack-quantized", number(4, "int", "group", group_size=128)),
    ("awq-int4", "awq"): {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "version": "gemm",
    },
    ("gptq-int4", "gptq"): {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
    ("nvfp4", "nvfp4"): compressed("nvfp4-pack-quantized", _NVFP4, _NVFP4 | {"dynamic": "local"}),
}
"""quantization_config by lane and recipe of `planner.lanes`; the native FP8 blocks of DeepSeek beside them."""
