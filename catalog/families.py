"""One function per family of architectures: which pieces its layout has."""

from __future__ import annotations

from catalog.config import Config, MissingKey
from catalog.errors import Unsupported
from catalog.layouts import (
    Shapes,
    all_experts,
    embeddings,
    experts,
    gated_delta_net,
    grouped,
    latent,
    layers,
    mamba2,
    sliding,
    stated_head_dim,
    stepped_experts,
    two_tables,
    uniform,
    windows,
)
from catalog.model import Moe


def llama(c: Config) -> Shapes:
    """Plain decoders with gated MLPs: Llama, Granite, OLMo 2, SmolLM3, Seed-OSS, Phi-3 (its window exceeds its use)."""
    return {**grouped(c), **embeddings(c), "intermediate": c.integer("intermediate_size")}


def mistral(c: Config) -> Shapes:
    """Llama with a window on every layer where `sliding_window` is set (Mistral 7B v0.1)."""
    windowed = layers(c) if c.optional_integer("sliding_window") else 0
    return {**llama(c), **windows(c, windowed)}


def mistral3(c: Config) -> Shapes:
    """Mistral Small 3, Ministral 3 and Mistral Small 4 under one class: latent attention decides which."""
    if c.optional_integer("kv_lora_rank"):
        return {**latent(c), **experts(c), **embeddings(c)}
    return {**mistral(c), **stated_head_dim(c)}


def mixtral(c: Config) -> Shapes:
    windowed = layers(c) if c.optional_integer("sliding_window") else 0
    return {**grouped(c), **embeddings(c), **all_experts(c), **windows(c, windowed)}


def qwen2(c: Config) -> Shapes:
    """Biases on query, key and value; a window above `max_window_layers` only where `use_sliding_window` says so."""
    above = layers(c) - c.count("max_window_layers") if c.says("use_sliding_window") else 0
    return {**llama(c), **windows(c, max(above, 0)), "attention_bias": True}


def qwen2_moe(c: Config) -> Shapes:
    return {**grouped(c), **embeddings(c), **stepped_experts(c), "attention_bias": True}


def qwen3(c: Config) -> Shapes:
    above = layers(c) - c.count("max_window_layers") if c.says("use_sliding_window") else 0
    return {**llama(c), **stated_head_dim(c), **windows(c, max(above, 0))}


def qwen3_moe(c: Config) -> Shapes:
    return {**stated_head_dim(c), **embeddings(c), **stepped_experts(c)}


def qwen3_hybrid(c: Config) -> Shapes:
    """Qwen3-Next and Qwen3.5, dense or MoE: gated delta net beside gated attention."""
    routed = c.optional_integer("num_experts", "num_local_experts")
    mlp: Shapes = stepped_experts(c) if routed else {"intermediate": c.integer("intermediate_size")}
    gate = c.says("attn_output_gate") or c.text("model_type").startswith("qwen3_next")
    return {
        **stated_head_dim(c),
        **embeddings(c),
        **mlp,
        "linear": gated_delta_net(c),
        "attention_gate": gate,
    }


def gemma(c: Config) -> Shapes:
    return {**stated_head_dim(c), "intermediate": c.integer("intermediate_size"), "tied": True}


def gemma2(c: Config) -> Shapes:
    """Every other layer windowed, the first one first."""
    return {**gemma(c), **windows(c, sliding(c, lambda count: (count + 1) // 2))}


def gemma3(c: Config) -> Shapes:
    """Five windowed layers to one, or as `sliding_window_pattern` says; both kinds have rotations of their own."""
    pattern = c.optional_integer("sliding_window_pattern") or 6
    windowed = windows(c, sliding(c, lambda count: count - count // pattern))
    return {**gemma(c), **windowed, "rope_positions": two_tables(c)}


def gemma4(c: Config) -> Shapes:
    """Global layers with heads of their own and one projection for keys and values; dense MLP beside the experts."""
    if c.count("num_kv_shared_layers") or c.count("hidden_size_per_layer_input"):
        raise Unsupported("layers that share a cache and per-layer embeddings have no formula yet", c.where)
    shapes: Shapes = {
        **gemma3(c),
        "rope_positions": None,
        "global_kv_heads": c.optional_integer("num_global_key_value_heads"),
        "global_head_dim": c.optional_integer("global_head_dim"),
        "key_is_value": c.says("attention_k_eq_v"),
    }
    if not c.says("enable_moe_block"):
        return shapes
    moe = Moe(
        experts=c.integer("num_experts", "num_local_experts"),
        per_token=c.integer("top_k_experts"),
        intermediate=c.integer("moe_intermediate_size", "expert_intermediate_size"),
        layers=layers(c),
    )
    return {**shapes, "moe": moe, "dense_layers": layers(c)}


def deepseek(c: Config) -> Shapes:
    return {**latent(c), **experts(c), **embeddings(c)}


def glm4_moe(c: Config) -> Shapes:
    return {**stated_head_dim(c), **experts(c), **embeddings(c)}


def dots1(c: Config) -> Shapes:
    return {**grouped(c), **experts(c), **embeddings(c)}


def gpt_oss(c: Config) -> Shapes:
    """Attention sinks; windowed layers by `layer_types`; biases on the experts too."""
    windowed = sliding(c, lambda count: (count + 1) // 2)
    return {
        **stated_head_dim(c),
        **all_experts(c, bias=True),
        **embeddings(c),
        **windows(c, windowed),
        "sinks": True,
    }


def llama4(c: Config) -> Shapes:
    """MoE every `interleave_moe_layer_step`-th layer with one shared expert; every fourth layer sees everything."""
    step, count = c.integer("interleave_moe_layer_step"), layers(c)
    routed = count // step
    moe = Moe(
        experts=c.integer("num_local_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("intermediate_size"),
        layers=routed,
        shared=1,
    )
    dense: Shapes = {}
    if step > 1:
        dense = {"dense_layers": count - routed, "intermediate": c.integer("intermediate_size_mlp")}
    return {**grouped(c), **windows(c, count - count // 4, chunked=True), **dense, "moe": moe, "tied": False}


def minimax_m2(c: Config) -> Shapes:
    return {**stated_head_dim(c), **all_experts(c), **embeddings(c)}


def minimax_m3(c: Config) -> Shapes:
    return {**stated_head_dim(c), **experts(c), **embeddings(c), "intermediate": c.integer("dense_intermediate_size")}


def nemotron_h(c: Config) -> Shapes:
    """One mixer per layer: M Mamba-2, E experts, - MLP, * attention. Squared ReLU: two matrices per MLP."""
    pattern = c.words("layers_block_type") or tuple(c.text("hybrid_override_pattern"))
    if not pattern:
        raise MissingKey("config.json has no `hybrid_override_pattern`", f"{c.where}:hybrid_override_pattern")
    kinds = {name: sum(block in spellings for block in pattern) for name, spellings in NEMOTRON_BLOCKS.items()}
    shapes: Shapes = {
        **grouped(c),
        **embeddings(c),
        "head_dim": c.integer("head_dim", "attention_head_dim"),
        "layers": len(pattern),
        "attention_layers": kinds["attention"],
        "dense_layers": kinds["mlp"],
        "intermediate": c.integer("intermediate_size") if kinds["mlp"] else None,
        "mlp_matrices": 2,
        "linear": mamba2(c, kinds["mamba"]),
    }
    return {**shapes, "moe": nemotron_experts(c, kinds["moe"])} if kinds["moe"] else shapes


def nemotron_experts(c: Config, count: int) -> Moe:
    return Moe(
        experts=c.integer("n_routed_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("moe_intermediate_size"),
        layers=count,
        shared=c.count("n_shared_experts"),
        shared_intermediate=c.optional_integer("moe_shared_expert_intermediate_size"),
        latent=c.optional_integer("moe_latent_size"),
    )


NEMOTRON_BLOCKS = {
    "mamba": ("M", "mamba"),
    "moe": ("E", "moe"),
    "mlp": ("-", "mlp"),
    "attention": ("*", "attention"),
}


def mimo_v2(c: Config) -> Shapes:
    """Windowed layers with KV heads of their own, values narrower than keys, sinks on the windowed layers."""
    windowed, routed = c.words("hybrid_layer_pattern").count("1"), c.words("moe_layer_freq").count("1")
    moe = Moe(
        experts=c.integer("n_routed_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("moe_intermediate_size"),
        layers=routed,
        shared=c.count("n_shared_experts"),
    )
    return {
        "kv_heads": c.integer("swa_num_key_value_heads"),
        "head_dim": c.integer("head_dim"),
        "value_dim": c.integer("v_head_dim"),
        "global_kv_heads": c.integer("num_key_value_heads"),
        "intermediate": c.integer("intermediate_size"),
        "moe": moe,
        "sinks": True,
        **windows(c, windowed),
        **embeddings(c),
    }


def hunyuan_moe(c: Config) -> Shapes:
    """Keys that are a number or one number per layer; mixed widths are refused."""
    return {
        **grouped(c),
        **embeddings(c),
        "moe": Moe(
            experts=c.integer("num_experts", "num_local_experts"),
            per_token=uniform(c, "moe_topk"),
            intermediate=uniform(c, "moe_intermediate_size"),
            layers=layers(c),
            shared=uniform(c, "num_shared_expert"),
        ),
    }


def gpt_j(c: Config) -> Shapes:
    """One key and value head per query head, an MLP without gate, four times as wide unless stated."""
    heads, hidden = c.integer("n_head"), c.integer("n_embd")
    return {
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate": c.optional_integer("n_inner") or 4 * hidden,
        "mlp_matrices": 2,
        **embeddings(c),
    }


def olmo3(c: Config) -> Shapes:
    """Three windowed layers to one."""
    return {**llama(c), **windows(c, sliding(c, lambda count: count - count // 4))}


def step3(c: Config) -> Shapes:
    """Windowed layers by `layer_types`; a shared expert of `share_expert_dim`."""
    dense, shared = c.count("first_k_dense_replace"), c.optional_integer("share_expert_dim")
    moe = Moe(
        experts=c.integer("num_experts", "num_local_experts"),
        per_token=c.integer("num_experts_per_tok"),
        intermediate=c.integer("moe_intermediate_size"),
        layers=layers(c) - dense,
        shared=1 if shared else 0,
        shared_intermediate=shared if shared != c.integer("moe_intermediate_size") else None,
    )
    return {
        **stated_head_dim(c),
        **windows(c, c.words("layer_types").count("sliding_attention")),
        "intermediate": c.integer("intermediate_size"),
        "moe": moe,
        "tied": c.says("tie_word_embeddings"),
    }
