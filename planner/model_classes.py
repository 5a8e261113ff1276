"""What vLLM's model classes hold differently from the rest, by the class name in config.json."""

from __future__ import annotations

ROUTERS_32_BIT = ("Glm4MoeForCausalLM", "MiniMaxM2ForCausalLM", "Step3p7FlashForCausalLM")
"""Classes whose routers vLLM keeps in 32 bits (`params_dtype` of the gate in vllm 0.33.0 model_executor/models)."""
ROTATED_BY_TRANSFORMERS = (
    "HunYuanMoEV1ForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM",
)  # fmt: skip
"""Classes that vllm 0.33.0 runs on transformers' own modules (model_executor/models/registry.py)."""
EMBEDDING_ON_EVERY_STAGE = (
    "GPTJForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration", "GemmaForCausalLM", "GptOssForCausalLM", "MixtralForCausalLM",
    "NemotronHForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM",
    "Qwen3VLMoeForConditionalGeneration", "Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration",
)  # fmt: skip
"""Classes that build the embedding on all pipeline stages, not only where it is used (same source)."""
SEQUENCE_PARALLEL = (
    "DeepseekV2ForCausalLM", "DeepseekV32ForCausalLM", "DeepseekV3ForCausalLM",
    "GlmMoeDsaForCausalLM", "KimiK25ForConditionalGeneration", "KimiVLForConditionalGeneration",
    "Llama4ForConditionalGeneration", "MistralLarge3ForCausalLM", "NemotronHForCausalLM",
    "Qwen3NextForCausalLM", "Qwen3_5MoeForConditionalGeneration",
)  # fmt: skip
"""Classes whose shared experts lie whole on every device of such a layout: tensor-parallel ranks deal the tokens out
among themselves (`is_sequence_parallel` in vllm 0.33.0 model_executor/models)."""
