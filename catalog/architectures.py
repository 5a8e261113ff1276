"""From a Hugging Face config.json to a Model: the one table of architectures, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catalog import families, quantization
from catalog.config import Config, Json, section, text_part
from catalog.errors import BadInput, Unsupported
from catalog.layouts import Shapes, common
from catalog.model import Model

Reader = Callable[[Config], Shapes]


def model_from_config(config: Json, name: str, source: str) -> Model:
    """The model that config.json describes. MissingKey, BadInput or Unsupported name what is wrong and where."""
    architecture = architecture_of(config, name)
    text = Config(text_part(config), name)
    layout = reader_of(architecture, name)(text)
    shapes: Shapes = {**common(text), **layout}
    stated = quantization.read(config, name)
    return Model(
        id=name,
        source=source,
        confidence="A",
        family=text.text("model_type") or architecture,
        architecture=architecture,
        attention=described(shapes),
        native=stated.lane if stated else sixteen_bit(config),
        native_recipe=stated.recipe if stated else "",
        quantization=stated.lane if stated else None,
        group_size=stated.group_size if stated else None,
        notes=stated.note if stated else "",
        **shapes,
    )


def architecture_of(config: Json, name: str) -> str:
    """The class name in `architectures`."""
    classes = config.get("architectures") or section(config, "text_config").get("architectures")
    if not isinstance(classes, (list, tuple)) or not classes:
        raise BadInput("config.json names no architecture", f"{name}:architectures")
    return str(classes[0])


def reader_of(architecture: str, name: str) -> Reader:
    """The function for an architecture; refuses encoders and unknown ones by name."""
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    where = f"{name}:architectures"
    if architecture in KNOWN_WITHOUT_FORMULA:
        raise Unsupported(f"{architecture}: {KNOWN_WITHOUT_FORMULA[architecture]}", where)
    if architecture.endswith(ENCODERS):
        raise Unsupported(
            f"{architecture} is an encoder or embedding model; only decoders that generate are planned", where
        )
    raise Unsupported(f"architecture {architecture} is not known; known are {', '.join(sorted(ARCHITECTURES))}", where)


def sixteen_bit(config: Json) -> str:
    """Lane of an unquantized checkpoint by its stated dtype."""
    part = text_part(config)
    return quantization.SIXTEEN_BIT.get(str(part.get("torch_dtype") or part.get("dtype") or "bfloat16"), "bf16")


def described(shapes: Shapes) -> str:
    """The attention layout in words."""
    kind = "mla" if shapes.get("mla") else "mha" if shapes["kv_heads"] == shapes["heads"] else "gqa"
    window, linear = shapes.get("window"), shapes.get("linear")
    windowed = f", {window.layers} layers with a window of {window.tokens}" if window else ""
    return kind + windowed + (f", {linear.layers} layers of {linear.kind}" if linear else "")


ENCODERS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")

ARCHITECTURES: Mapping[str, Reader] = {
    "DeepseekV2ForCausalLM": families.deepseek,
    "DeepseekV32ForCausalLM": families.deepseek,
    "DeepseekV3ForCausalLM": families.deepseek,
    "Dots1ForCausalLM": families.dots1,
    "GPTJForCausalLM": families.gpt_j,
    "Gemma2ForCausalLM": families.gemma2,
    "Gemma3ForCausalLM": families.gemma3,
    "Gemma3ForConditionalGeneration": families.gemma3,
    "Gemma4ForCausalLM": families.gemma4,
    "Gemma4ForConditionalGeneration": families.gemma4,
    "GemmaForCausalLM": families.gemma,
    "Glm4MoeForCausalLM": families.glm4_moe,
    "Glm4MoeLiteForCausalLM": families.deepseek,
    "GlmMoeDsaForCausalLM": families.deepseek,
    "GptOssForCausalLM": families.gpt_oss,
    "GraniteForCausalLM": families.llama,
    "HunYuanMoEV1ForCausalLM": families.hunyuan_moe,
    "KimiK25ForConditionalGeneration": families.deepseek,
    "KimiVLForConditionalGeneration": families.deepseek,
    "Llama4ForCausalLM": families.llama4,
    "Llama4ForConditionalGeneration": families.llama4,
    "LlamaForCausalLM": families.llama,
    "MiMoV2FlashForCausalLM": families.mimo_v2,
    "MiniMaxM2ForCausalLM": families.minimax_m2,
    "MiniMaxM3ForCausalLM": families.minimax_m3,
    "Ministral3ForCausalLM": families.mistral3,
    "Mistral3ForConditionalGeneration": families.mistral3,
    "Mistral4ForCausalLM": families.mistral3,
    "MistralForCausalLM": families.mistral,
    "MixtralForCausalLM": families.mixtral,
    "NemotronHForCausalLM": families.nemotron_h,
    "Olmo2ForCausalLM": families.llama,
    "Olmo3ForCausalLM": families.olmo3,
    "Phi3ForCausalLM": families.llama,
    "Qwen2ForCausalLM": families.qwen2,
    "Qwen2MoeForCausalLM": families.qwen2_moe,
    "Qwen3ForCausalLM": families.qwen3,
    "Qwen3MoeForCausalLM": families.qwen3_moe,
    "Qwen3NextForCausalLM": families.qwen3_hybrid,
    "Qwen3VLForConditionalGeneration": families.qwen3,
    "Qwen3VLMoeForConditionalGeneration": families.qwen3_moe,
    "Qwen3_5ForCausalLM": families.qwen3_hybrid,
    "Qwen3_5ForConditionalGeneration": families.qwen3_hybrid,
    "Qwen3_5MoeForCausalLM": families.qwen3_hybrid,
    "Qwen3_5MoeForConditionalGeneration": families.qwen3_hybrid,
    "SeedOssForCausalLM": families.llama,
    "SmolLM3ForCausalLM": families.llama,
    "Step3p7FlashForCausalLM": families.step3,
}

KNOWN_WITHOUT_FORMULA: Mapping[str, str] = {
    "DeciLMForCausalLM": "attention and MLP differ from block to block, no formula yet",
    "DeepseekV4ForCausalLM": "compressed sparse attention in a mixed FP8 and FP4 checkpoint, no formula yet",
    "Gemma3nForConditionalGeneration": "per-layer embeddings and shared caches, no formula yet",
    "Gemma4UnifiedForConditionalGeneration": "per-layer embeddings and shared caches, no formula yet",
    "KimiK3ForConditionalGeneration": "Kimi delta attention, no formula yet",
    "KimiLinearForCausalLM": "Kimi delta attention, no formula yet",
    "MistralLarge3ForCausalLM": "published as params.json, which is not read yet; use the catalogue id",
}
