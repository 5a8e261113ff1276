"""From a model's tensors and a lane to what one device of a replica holds, reads, multiplies and sends.

Weights are summed once per model and lane; everything after that is a formula over a layout, for a float, an array
of layouts, or a traced number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Generic

from catalog import tensors
from catalog.model import Model, Tensor
from planner.lanes import Method, part_bytes
from planner.speed import Work
from planner.trace import N, doublings, largest, smallest, step

REPLICATED = ("attention.latent", "attention.index", "router", "norm")
"""Parts that every tensor-parallel rank holds whole."""
BESIDE = ("mtp",)
"""Parts on disk that an engine does not load without speculative decoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights(Generic[N]):
    """Bytes of one model in one lane, by how a layout divides them; operations of one token."""

    split_bytes: N
    """Divided by tensor and pipeline parallel."""
    expert_bytes: N
    """Routed experts: divided by tensor (or expert) and pipeline parallel."""
    key_value_bytes: N
    """K and V projections: divided by tensor parallel only as far as there are KV heads."""
    replicated_bytes: N
    """On every tensor-parallel rank: norms, routers, latent down-projections."""
    embedding_bytes: N
    head_bytes: N
    """The output matrix; 0 in memory when it is the embedding."""
    head_read_bytes: N
    """The output matrix as each step reads it, tied or not."""
    matrix_flops: N
    """2 x parameters that one token is multiplied with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Generic[N]):
    """A model's dimensions as formulas use them."""

    layers: N
    hidden: N
    vocab: N
    heads: N
    heads_width: N
    """heads x head_dim."""
    ffn: N
    """Widest dense MLP that one device computes (the shared experts in MoE layers)."""
    expert_width: N
    experts_per_token: N
    expert_share: N
    """Experts per token over experts; 1 for a dense model."""
    kv_heads: N
    """Heads that the cache divides into; 1 for latent attention."""
    cache_values: N
    """Values per token in all full-length layers."""
    index_bytes: N
    """Bytes per token of a sparse-attention indexer's cache."""
    window_values: N
    """Values per token in all windowed layers."""
    window_tokens: N
    state_bytes: N
    page_values: N
    """Values per token in the layers that share one page of vLLM's cache (one group of them)."""
    full_groups: N
    """Groups of full-length layers; each takes pages of its own …"""
    window_groups: N
    """… as do the groups of windowed layers …"""
    state_groups: N
    """… and of linear layers, one page per sequence."""
    layer_values: N
    """Values per token in one full-length layer."""
    layer_state_bytes: N
    """State of one linear layer and sequence."""
    """Linear-attention state of one sequence."""
    attention_flops: N
    """Per token and token of context, in all full-length layers."""
    latent_width: N
    """Latent attention: heads x (unrotated key + value width); 0 without."""
    image_tokens: N
    """Tokens of the largest picture; 1 for text models."""
    image_values: N
    """Values that one profiled picture keeps alive: what the encoder made of it, and its pixels."""
    rope_bytes: N
    """The table of rotations that every rank keeps."""
    value_bytes: N
    """A 16-bit activation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Generic[N]):
    """How one replica lies on its devices."""

    tensor: N
    pipeline: N


def weights(model: Model, method: Method) -> Weights[float]:
    """Sum the inventory by the way it is divided."""
    held = [tensor for tensor in tensors.inventory(model) if tensor.part not in BESIDE]
    sizes = part_bytes(model, method)

    def size(belongs: Callable[[str], bool]) -> float:
        return sum(size for part, size in sizes.items() if part not in BESIDE and belongs(part))

    embedding, head = size("embedding".__eq__), size("head".__eq__)
    special = ("embedding", "head", "attention.k", "attention.v", *REPLICATED)
    return Weights(
        split_bytes=size(lambda part: part not in special and not part.startswith("expert.")),
        expert_bytes=size(lambda part: part.startswith("expert.")),
        key_value_bytes=size(lambda part: part in ("attention.k", "attention.v")),
        replicated_bytes=size(lambda part: part in REPLICATED),
        embedding_bytes=embedding,
        head_bytes=head,
        head_read_bytes=head or embedding,
        matrix_flops=2 * _multiplied(model, held),
    )


def _multiplied(model: Model, held: list[Tensor]) -> float:
    """Parameters one token is multiplied with: all matrices but idle experts, the embedding (a lookup) and vision."""
    share = model.moe.per_token / model.moe.experts if model.moe else 1.0
    matrices = [t for t in held if t.part not in ("embedding", "norm", "vision")]
    active = sum(t.params * (share if t.part.startswith("expert.") else 1.0) for t in matrices)
    return active + (model.vocab * model.hidden if model.tied else 0)


def shape(model: Model) -> Shape[float]:
    """The dimensions of a planned model."""
    moe, full = model.moe, tensors.full_layers(model)
    shared = moe.shared * (moe.shared_intermediate or moe.intermediate) if moe else 0
    dense = model.intermediate or 0 if tensors.dense_layers(model) or moe is None else 0
    image = model.image
    return Shape(
        layers=model.layers,
        hidden=model.hidden,
        vocab=64 * -(-model.vocab // 64),
        heads=model.heads,
        heads_width=model.heads * (model.global_head_dim or model.head_dim),
        ffn=max(shared, dense) or (0 if moe else 4 * model.hidden),
        expert_width=moe.intermediate if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
        expert_share=moe.per_token / moe.experts if moe else 1.0,
        kv_heads=1 if model.mla else (model.global_kv_heads or model.kv_heads),
        cache_values=tensors.kv_values_per_token(model),
        index_bytes=tensors.index_bytes_per_token(model),
        window_values=tensors.window_values_per_token(model),
        window_tokens=tensors.window_tokens(model),
        state_bytes=tensors.state_bytes(model),
        attention_flops=2.0 * full * attention_width(model),
        value_bytes=2.0,
        rope_bytes=2.0 * (model.rope_positions or model.max_position) * _rotated(model),
        latent_width=model.heads * (model.mla.nope or 128) + model.heads * (model.mla.value or 128) if model.mla else 0,
        image_tokens=image.tokens if image else 1,
        image_values=image.tokens * model.hidden + 3 * image.side**2 if image else 0,
        **_pages(model),
    )


def _rotated(model: Model) -> int:
    """Values of a head that are rotated."""
    return model.mla.rope if model.mla else model.rotary_dim or model.head_dim


def _pages(model: Model) -> dict[str, float]:
    """How vLLM groups layers into pages (vllm 0.33.0 v1/core/kv_cache_planning.py): groups as large as the smaller
    kind of layers, or as the larger kind where that is less than half as large again."""
    full, window, linear = tensors.full_layers(model), tensors.window_layers(model), model.linear
    kinds = sorted(count for count in (full, window) if count) or [linear.layers if linear else model.layers]
    size = kinds[-1] if kinds[-1] < 1.5 * kinds[0] else kinds[0]
    values = max(tensors.values_per_full_layer(model), tensors.window_group(model).cached if window else 0)
    return {
        "page_values": size * values,
        "full_groups": -(-full // size),
        "window_groups": -(-window // size),
        "state_groups": -(-linear.layers // size) if linear else 0,
        "layer_values": tensors.values_per_full_layer(model),
        "layer_state_bytes": tensors.state_bytes(model) / linear.layers if linear else 0,
    }


def attention_width(model: Model) -> float:
    """Multiply-adds of one token with one token of context in one layer: scores and values of every head."""
    if model.mla:
        return model.heads * ((model.mla.nope or 128) + model.mla.rope + (model.mla.value or 128))
    key = model.global_head_dim or model.head_dim
    return model.heads * (key + (model.value_dim or key))


def replaced(held: Weights[float], total_bytes: float) -> Weights[float]:
    """The same weights scaled to the size that the user states for the whole model."""
    ours = held.split_bytes + held.expert_bytes + held.key_value_bytes + held.replicated_bytes
    factor = total_bytes / (ours + held.embedding_bytes + held.head_bytes)
    names = [field.name for field in fields(held) if field.name.endswith("_bytes")]
    return replace(held, **{name: getattr(held, name) * factor for name in names})


ADAPTED = ("attention.", "mlp.", "shared.")
"""Parts whose matrices an adapter changes; experts are left out."""


def adapter_bytes(model: Model, adapters: int, rank: int) -> float:
    """16-bit LoRA pairs of `rank` beside every attention and MLP matrix: rank x (inputs + outputs) values each."""
    matrices = [each for each in tensors.inventory(model) if each.part.startswith(ADAPTED) and each.columns > 1]
    return 2.0 * adapters * rank * sum(each.count * (each.rows + each.columns) for each in matrices)


@step
def device_weight_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """Each device holds its share of the layers, the whole of what is replicated, and its slice of the vocabulary."""
    layers = (held.split_bytes + held.expert_bytes) / layout.tensor
    key_value = held.key_value_bytes / smallest(layout.tensor, model.kv_heads)
    vocabulary = vocabulary_bytes(held, layout) / layout.tensor
    return (layers + key_value + held.replicated_bytes) / layout.pipeline + vocabulary + model.rope_bytes


@step
def vocabulary_bytes(held: Weights[N], layout: Layout[N]) -> N:
    """Embedding and output matrix; of a pipeline the first stage holds the one, the last the other (tied or not)."""
    both, one = held.embedding_bytes + held.head_bytes, largest(held.embedding_bytes, held.head_read_bytes)
    return both + smallest(layout.pipeline - 1, 1.0) * (one - both)


@step
def cache_bytes_per_token(model: Shape[N], cell_bytes: N, layout: Layout[N]) -> N:
    """A key and a value for every full-length layer and KV head on the device; latent attention keeps one vector."""
    held = model.cache_values * cell_bytes / smallest(layout.tensor, model.kv_heads)
    return (held + model.index_bytes) / layout.pipeline


@step
def cache_bytes_fixed(model: Shape[N], cell_bytes: N, layout: Layout[N], context: N) -> N:
    """Windowed layers remember their window, linear layers one state: neither grows with the context beyond it."""
    window = model.window_values * cell_bytes * smallest(model.window_tokens, context)
    return (window / smallest(layout.tensor, model.kv_heads) + model.state_bytes / layout.tensor) / layout.pipeline


@step
def sequence_bytes(per_token: N, fixed: N, tokens: N) -> N:
    """The cache of one sequence."""
    return per_token * tokens + fixed


def work(held: Weights[N], model: Shape[N], layout: Layout[N], cell_bytes: N, context: N) -> Work[N]:
    """What each device does per step. `cell_bytes` per cached value; `context` caps what windowed layers read."""
    devices = layout.tensor * layout.pipeline
    dense = held.split_bytes / layout.tensor + held.key_value_bytes / smallest(layout.tensor, model.kv_heads)
    return Work(
        layers=model.layers,
        dense_bytes=(dense + held.replicated_bytes + held.head_read_bytes / layout.tensor) / layout.pipeline,
        expert_bytes=held.expert_bytes / devices,
        expert_share=model.expert_share,
        flops_per_token=held.matrix_flops / devices,
        attention_flops=model.attention_flops / devices,
        cache_bytes_per_token=cache_bytes_per_token(model, cell_bytes, layout),
        cache_bytes_fixed=cache_bytes_fixed(model, cell_bytes, layout, context),
        exchange_bytes_per_token=exchange_bytes(model, layout),
        exchanges=2 * model.layers * doublings(layout.tensor),
        pipeline=layout.pipeline,
    )


@step
def exchange_bytes(model: Shape[N], layout: Layout[N]) -> N:
    """Two all-reduces per layer, each sending 2 (t-1)/t of a 16-bit hidden vector per token."""
    return 2 * model.layers * model.hidden * model.value_bytes * 2 * (layout.tensor - 1) / layout.tensor
