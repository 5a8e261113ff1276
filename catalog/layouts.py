"""Pieces of a layout, read from config.json: attention, latent attention, experts, windows, linear attention.

Sources of the keys' meaning: the configuration and model classes of transformers, and vLLM's cache specifications
for what a state holds. A shape that config.json leaves out is refused by name, never filled with a default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from catalog.config import Config, section
from catalog.errors import BadInput, Unsupported
from catalog.model import Linear, Mla, Moe, Window

BITS16, BITS32 = 2, 4
"""Bytes of a 16-bit and a 32-bit number: convolution and recurrent state."""


class Shapes(TypedDict, total=False):
    """Fields of Model that a layout decides."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None
    rope_positions: int | None
    vocab: int
    max_position: int
    tied: bool
    intermediate: int | None
    mlp_matrices: int
    dense_layers: int | None
    attention_layers: int | None
    window: Window | None
    linear: Linear | None
    global_kv_heads: int | None
    global_head_dim: int | None
    key_is_value: bool
    attention_gate: bool
    attention_bias: bool
    sinks: bool
    moe: Moe | None
    mla: Mla | None


def common(c: Config) -> Shapes:
    """What every decoder states."""
    return {
        "layers": layers(c),
        "hidden": c.integer("hidden_size", "n_embd"),
        "heads": c.integer("num_attention_heads", "n_head"),
        "vocab": c.integer("vocab_size"),
        "max_position": c.integer("max_position_embeddings", "n_positions"),
    }


def layers(c: Config) -> int:
    """Number of layers; Nemotron-H may state the pattern alone."""
    return (
        c.optional_integer("num_hidden_layers", "n_layer")
        or len(c.words("layers_block_type"))
        or c.integer("num_hidden_layers")
    )


def embeddings(c: Config) -> Shapes:
    """Whether input and output embeddings are one; config.json has to say so."""
    return {"tied": c.flag("tie_word_embeddings")}


def grouped(c: Config) -> Shapes:
    """Grouped-query attention; the head's width is hidden / heads where config.json states no other."""
    heads, hidden = c.integer("num_attention_heads"), c.integer("hidden_size")
    head_dim = c.optional_integer("head_dim")
    if head_dim is None and hidden % heads:
        raise BadInput(f"hidden_size {hidden} is no multiple of {heads} heads and head_dim is missing", c.where)
    return {
        "kv_heads": c.integer("num_key_value_heads"),
        "head_dim": head_dim or hidden // heads,
        "attention_bias": c.says("attention_bias"),
    }


def stated_head_dim(c: Config) -> Shapes:
    """Grouped-query attention of the families whose head width is independent of the hidden size."""
    return {**grouped(c), "head_dim": c.integer("head_dim")}


def latent(c: Config) -> Shapes:
    """Multi-head latent attention, with the sparse indexer where config.json has one (one FP8 key of `index_head_dim`
    and a 32-bit scale per token and layer: vLLM's indexer cache)."""
    nope, rope = c.integer("qk_nope_head_dim"), c.integer("qk_rope_head_dim")
    dim, own = c.count("index_head_dim"), c.words("indexer_types")
    mla = Mla(
        kv_lora=c.integer("kv_lora_rank"),
        rope=rope,
        q_lora=c.optional_integer("q_lora_rank") or None,
        nope=nope,
        value=c.integer("v_head_dim"),
        index_bytes_per_token=dim + BITS32 if dim else 0,
        index_heads=c.count("index_n_heads"),
        index_dim=dim,
        index_layers=own.count("full") if own else None,
    )
    return {"kv_heads": c.integer("num_attention_heads"), "head_dim": nope + rope, "mla": mla}


def experts(c: Config) -> Shapes:
    """Routed and shared experts after the first dense layers (DeepSeek, GLM, Kimi, dots, MiniMax-M3)."""
    routed = layers(c) - dense_first(c)
    shapes: Shapes = {
        "moe": Moe(
            experts=c.integer("n_routed_experts", "num_local_experts", "num_experts"),
            per_token=c.integer("num_experts_per_tok"),
            intermediate=c.integer("moe_intermediate_size"),
            layers=routed,
            shared=c.count("n_shared_experts"),
        )
    }
    if dense_first(c):
        shapes["intermediate"] = c.integer("intermediate_size")
    return shapes


def dense_first(c: Config) -> int:
    """Dense layers before the routed ones; `moe_layer_freq` may list 0 or 1 per layer, any other rhythm is refused."""
    listed = c.words("moe_layer_freq")
    if listed:
        return listed.count("0")
    if c.count("moe_layer_freq") > 1:
        raise Unsupported("MoE layers at a frequency other than 1 are not known", f"{c.where}:moe_layer_freq")
    return c.count("first_k_dense_replace")


def all_experts(c: Config, bias: bool = False) -> Shapes:
    """Every layer routed, experts as wide as `intermediate_size` (Mixtral, MiniMax-M2, gpt-oss)."""
    moe = Moe(
        experts=c.integer("num_local_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("intermediate_size"),
        layers=layers(c),
        bias=bias,
    )
    return {"moe": moe}


def stepped_experts(c: Config) -> Shapes:
    """Qwen: every `decoder_sparse_step`-th layer routed but those in `mlp_only_layers`; one gated shared expert."""
    step, dense = c.optional_integer("decoder_sparse_step") or 1, {int(layer) for layer in c.words("mlp_only_layers")}
    routed = sum((layer + 1) % step == 0 and layer not in dense for layer in range(layers(c)))
    shared = c.count("shared_expert_intermediate_size")
    moe = Moe(
        experts=c.integer("num_experts", "num_local_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("moe_intermediate_size"),
        layers=routed,
        shared=1 if shared else 0,
        shared_intermediate=shared if shared != c.integer("moe_intermediate_size") and shared else None,
    )
    return {"moe": moe, "intermediate": c.integer("intermediate_size") if routed < layers(c) else None}


def windows(c: Config, windowed: int, chunked: bool = False) -> Shapes:
    """`windowed` layers that forget; nothing where there are none."""
    if not windowed:
        return {}
    tokens = c.integer("attention_chunk_size") if chunked else c.integer("sliding_window")
    return {"window": Window(layers=windowed, tokens=tokens, chunked=chunked)}


def two_tables(c: Config) -> int:
    """Positions in the tables of rotations of full-length and windowed layers; linear scaling lengthens the first."""
    full = section(section(c.values, "rope_parameters"), "full_attention") or section(c.values, "rope_scaling")
    factor = full.get("factor") if (full.get("rope_type") or full.get("type")) == "linear" else 1
    limit = c.integer("max_position_embeddings")
    return limit + round(limit * factor) if isinstance(factor, (int, float)) else 2 * limit


def sliding(c: Config, otherwise: Callable[[int], int]) -> int:
    """Windowed layers by `layer_types`, or by the family's rule over the number of layers."""
    types = c.words("layer_types")
    return types.count("sliding_attention") if types else otherwise(layers(c))


def gated_delta_net(c: Config) -> Linear:
    """Qwen3-Next and Qwen3.5: state = last `kernel - 1` inputs of the convolution and one matrix per value head."""
    keys = c.integer("linear_num_key_heads") * c.integer("linear_key_head_dim")
    heads, width = c.integer("linear_num_value_heads"), c.integer("linear_value_head_dim")
    kernel, inner = c.integer("linear_conv_kernel_dim"), heads * width
    channels, count = 2 * keys + inner, linear_layers(c)
    recurrent = heads * c.integer("linear_key_head_dim") * width * BITS32
    return Linear(
        kind="gated delta net",
        layers=count,
        state_bytes=count * (channels * (kernel - 1) * BITS16 + recurrent),
        input_rows=2 * keys + 2 * inner + 2 * heads,
        inner=inner,
        other_params=channels * kernel + 2 * heads + width,
    )


def linear_layers(c: Config) -> int:
    """Layers of linear attention, by `layer_types` or the interval of full attention."""
    types = c.words("layer_types")
    if types:
        return types.count("linear_attention")
    return layers(c) - layers(c) // c.integer("full_attention_interval")


def mamba2(c: Config, count: int) -> Linear:
    """Nemotron-H: state in the precision that `mamba_ssm_cache_dtype` states (16 bits otherwise)."""
    heads, width, groups = c.integer("mamba_num_heads"), c.integer("mamba_head_dim"), c.integer("n_groups")
    state, kernel = c.integer("ssm_state_size"), c.integer("conv_kernel")
    inner = heads * width
    channels = inner + 2 * groups * state
    number = BITS32 if c.text("mamba_ssm_cache_dtype") == "float32" else BITS16
    return Linear(
        kind="mamba-2",
        layers=count,
        state_bytes=count * (channels * (kernel - 1) * BITS16 + inner * state * number),
        input_rows=inner + channels + heads,
        inner=inner,
        other_params=channels * (kernel + 1) + 3 * heads + inner,
    )


def uniform(c: Config, name: str) -> int:
    """A number that config.json may repeat per layer."""
    values = set(c.words(name))
    if len(values) > 1:
        raise Unsupported(f"`{name}` differs from layer to layer", f"{c.where}:{name}")
    return int(values.pop()) if values else c.integer(name)
