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
from planner.lanes import Method, loaded_bytes, part_bytes, whole_bytes
from planner.model_classes import EMBEDDING_ON_EVERY_STAGE, ROTATED_BY_TRANSFORMERS, ROUTERS_32_BIT, SEQUENCE_PARALLEL
from planner.ranks import all_of, beyond_one, gathered_bytes, several
from planner.remembered import remembered
from planner.speed import Work
from planner.trace import N, ceiling, doublings, largest, positive, smallest, step, whole

REPLICATED = ("attention.latent", "attention.index", "router", "norm")
"""Parts that every tensor-parallel rank holds whole."""
BIASES = ("expert.bias", "expert.down_bias")
"""Added, not multiplied with."""
BESIDE = ("mtp",)
"""Parts on disk that an engine does not load without speculative decoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights(Generic[N]):
    """Bytes of one model in one lane, by how a layout divides them; operations of one token."""

    split_bytes: N
    """Divided by tensor and pipeline parallel."""
    lead_bytes: N
    """Of `split_bytes`: MLPs of the dense layers before the first MoE layer."""
    shared_bytes: N
    """Of `split_bytes`: shared experts, in MoE layers alone."""
    unpacked_bytes: N
    """Latent attention: the second copy of a quantized up-projection, divided as `split_bytes` are."""
    widened_bytes: N
    """On every rank: what routers in 32 bits need more than in 16."""
    tower_bytes: N
    """Vision tower on the first stage, divided by tensor parallel."""
    tower_whole_bytes: N
    """Its embeddings and projector, on every tensor-parallel rank of that stage."""
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
    expert_whole_bytes: N
    """Scales per output row of the experts' down-projections: divided only where ranks hold whole experts."""
    expert_multiple: N
    """A rank's slice of an expert's width is padded to a multiple of this."""
    matrix_flops: N
    """2 x parameters that one token is multiplied with."""
    expert_flops: N
    """Of `matrix_flops`: those of routed experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Generic[N]):
    """A model's dimensions as formulas use them."""

    layers: N
    lead_layers: N
    """Dense layers before the first MoE layer."""
    embedding_everywhere: N
    """1 where every pipeline stage holds the embedding, 0 where the first and a tied last one do."""
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
    """Linear-attention state of one sequence."""
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
    shared_whole: N
    """1 where every device holds whole shared experts as soon as attention is data parallel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Generic[N]):
    """How one replica lies on its devices."""

    tensor: N
    pipeline: N
    expert: N = 0.0  # type: ignore[assignment]
    """1 where ranks hold whole experts (expert parallel), 0 where each holds a slice of all."""
    data: N = 1.0  # type: ignore[assignment]
    """Ranks of `tensor` devices that each hold all of attention; whole experts are spread over all of them."""


@remembered(512)  # of some twenty models in every lane
def weights(model: Model, method: Method) -> Weights[float]:
    """Sum the inventory by the way it is divided, as the engine keeps it in memory."""
    held = [tensor for tensor in tensors.inventory(model) if tensor.part not in BESIDE]
    sizes = part_bytes(model, method, loaded_bytes)

    def size(belongs: Callable[[str], bool]) -> float:
        return sum(size for part, size in sizes.items() if part not in BESIDE and belongs(part))

    def scales(expert: bool) -> float:
        return sum(whole_bytes(t, method) for t in held if t.part.startswith("expert.") is expert)

    padded = 1.0 if method.matrix_bytes is None else 64 * -(-model.vocab // 64) / model.vocab
    embedding, head = padded * size("embedding".__eq__), padded * size("head".__eq__)
    special = ("embedding", "head", "attention.k", "attention.v", "vision", *REPLICATED)
    split = size(lambda part: part not in special and not part.startswith("expert."))
    vision = size("vision".__eq__)
    tower_whole = vision * model.extra_whole_params / model.extra_params if model.extra_params else 0.0
    return Weights(
        split_bytes=split - scales(False),
        unpacked_bytes=unpacked_latent_bytes(model, held, method),
        lead_bytes=size(lambda part: part.startswith("mlp.")) if lead_layers(model) else 0.0,
        shared_bytes=size(lambda part: part.startswith("shared.")),
        tower_bytes=vision - tower_whole,
        tower_whole_bytes=tower_whole,
        expert_bytes=size(lambda part: part.startswith("expert.")) - scales(True),
        expert_whole_bytes=scales(True),
        expert_multiple=float(method.expert_multiple),
        key_value_bytes=size(lambda part: part in ("attention.k", "attention.v")),
        replicated_bytes=size(lambda part: part in REPLICATED) + scales(False),
        widened_bytes=widened_bytes(held, model, method),
        embedding_bytes=embedding,
        head_bytes=head,
        head_read_bytes=head or embedding,
        matrix_flops=2 * _multiplied(model, held),
        expert_flops=2 * _chosen(model, held),
    )


def widened_bytes(held: list[Tensor], model: Model, method: Method) -> float:
    """What routers in 32 bits need more than the 16 bits they are stored in (GGUF files hold them in 32 already)."""
    if method.matrix_bytes is None or model.architecture not in ROUTERS_32_BIT:
        return 0.0
    return sum(2.0 * tensor.params for tensor in held if tensor.part == "router")


def unpacked_latent_bytes(model: Model, held: list[Tensor], method: Method) -> float:
    """A second, 16-bit copy of a quantized latent up-projection: vLLM takes it apart into W_UK and W_UV while loading
    (mla_attention.py `process_weights_after_loading`); of a 16-bit one both are views."""
    if model.mla is None or method.matrix_bytes is None:
        return 0.0
    ups = [t for t in held if t.part == "attention.up" and t.columns == model.mla.kv_lora]
    return sum(2.0 * t.params for t in ups if loaded_bytes(t, method, model) < 2.0 * t.params)


def lead_layers(model: Model) -> int:
    """Dense layers before the first MoE layer; 0 where both kinds alternate or go together."""
    return model.layers - model.moe.layers if model.moe and model.dense_layers is None else 0


def _chosen(model: Model, held: list[Tensor]) -> float:
    """Parameters of the experts that one token is routed to."""
    if model.moe is None:
        return 0.0
    return model.moe.per_token / model.moe.experts * sum(t.params for t in held if t.part.startswith("expert."))


def _multiplied(model: Model, held: list[Tensor]) -> float:
    """Parameters one token is multiplied with: all matrices but idle experts, the embedding (a lookup) and vision."""
    share = model.moe.per_token / model.moe.experts if model.moe else 1.0
    matrices = [t for t in held if t.part not in ("embedding", "norm", "vision", *BIASES)]
    active = sum(t.params * (share if t.part.startswith("expert.") else 1.0) for t in matrices)
    return active + (model.vocab * model.hidden if model.tied else 0)


@remembered(64)
def shape(model: Model) -> Shape[float]:
    """The dimensions of a planned model."""
    moe, full = model.moe, tensors.full_layers(model)
    shared = moe.shared * (moe.shared_intermediate or moe.intermediate) if moe else 0
    dense = model.intermediate or 0 if tensors.dense_layers(model) or moe is None else 0
    image = model.image
    return Shape(
        layers=model.layers,
        lead_layers=lead_layers(model),
        embedding_everywhere=float(model.architecture in EMBEDDING_ON_EVERY_STAGE),
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
        shared_whole=float(model.architecture in SEQUENCE_PARALLEL),
        rope_bytes=_rope_bytes(model),
        latent_width=model.heads * (model.mla.nope or 128) + model.heads * (model.mla.value or 128) if model.mla else 0,
        image_tokens=image.tokens if image else 1,
        image_values=image.tokens * model.hidden + 3 * image.side**2 if image else 0,
        **_pages(model),
    )


def _rope_bytes(model: Model) -> float:
    """The table of cosines and sines, in 16 bits but for gpt-oss (vllm gpt_oss.py); none where vLLM runs the class of
    transformers, which computes them."""
    if model.architecture in ROTATED_BY_TRANSFORMERS:
        return 0.0
    number = 4.0 if model.architecture == "GptOssForCausalLM" else 2.0
    return number * (model.rope_positions or model.max_position) * _rotated(model)


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


def stored_bytes(held: Weights[float]) -> float:
    """All of a model once."""
    layers = held.split_bytes + held.expert_bytes + held.expert_whole_bytes + held.key_value_bytes
    tower = held.tower_bytes + held.tower_whole_bytes
    return layers + held.replicated_bytes + tower + held.embedding_bytes + held.head_bytes


def replaced(held: Weights[float], total_bytes: float) -> Weights[float]:
    """The same weights scaled to the size that the user states for the whole model."""
    factor = total_bytes / stored_bytes(held)
    names = [field.name for field in fields(held) if field.name.endswith("_bytes")]
    return replace(held, **{name: getattr(held, name) * factor for name in names})


@step
def device_weight_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """The fullest stage decides: the first has embedding and vision tower, the last the output matrix, and those
    before the last the layers that do not divide evenly."""
    later = largest(middle_stage_bytes(held, model, layout), last_stage_bytes(held, model, layout))
    return largest(first_stage_bytes(held, model, layout), later) + model.rope_bytes


@step
def first_stage_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """One layer more than the last stage only where all others have it too (vllm distributed/utils.py)."""
    even = whole(model.layers / layout.pipeline)
    layers = even + whole((model.layers - even * layout.pipeline) / largest(layout.pipeline - 1, 1.0))
    alone = 1 - smallest(layout.pipeline - 1, 1.0)
    tower = held.tower_bytes / layout.tensor + held.tower_whole_bytes
    vocabulary = held.embedding_bytes + alone * held.head_bytes
    routed = positive(layers - model.lead_layers)
    lead = held.lead_bytes / layout.tensor
    return lead + stage_layers_bytes(held, model, layout, (layers, routed)) + vocabulary / layout.tensor + tower


@step
def middle_stage_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """Stages between the first and the last, where there are any: they take what does not divide evenly."""
    even = whole(model.layers / layout.pipeline)
    between = smallest(positive(layout.pipeline - 2), 1.0)
    layers = between * (even + smallest(model.layers - even * layout.pipeline, 1.0))
    vocabulary = between * model.embedding_everywhere * held.embedding_bytes / layout.tensor
    return stage_layers_bytes(held, model, layout, (layers, layers)) + vocabulary


@step
def last_stage_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """Never more layers than another stage, and the output matrix (the embedding itself where both are tied)."""
    layers = whole(model.layers / layout.pipeline)
    routed = smallest(layers, model.layers - model.lead_layers)
    vocabulary = held.head_read_bytes
    # an untied head stands beside an embedding that is not used here
    vocabulary = largest(vocabulary, model.embedding_everywhere * (held.embedding_bytes + held.head_bytes))
    return stage_layers_bytes(held, model, layout, (layers, routed)) + vocabulary / layout.tensor


@step
def stage_layers_bytes(held: Weights[N], model: Shape[N], layout: Layout[N], counts: tuple[N, N]) -> N:
    """The stage's layers without the leading dense MLPs; `counts` = layers, and MoE layers among them."""
    layers, routed = counts
    split = (held.split_bytes - held.lead_bytes - held.shared_bytes + held.unpacked_bytes) / layout.tensor
    key_value = held.key_value_bytes / smallest(layout.tensor, model.kv_heads)
    each = (split + key_value + held.replicated_bytes + held.widened_bytes) / model.layers
    experts = device_expert_bytes(held, model, layout) + device_shared_bytes(held, model, layout)
    return layers * each + routed * experts / (model.layers - model.lead_layers)


def device_shared_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """Shared experts: split by tensor parallel, or whole where its ranks deal out tokens instead."""
    split = held.shared_bytes / layout.tensor
    if not several(layout.data):
        return split
    return split + model.shared_whole * beyond_one(layout.data) * (held.shared_bytes - split)


@step
def device_expert_bytes(held: Weights[N], model: Shape[N], layout: Layout[N]) -> N:
    """Whole experts, or a slice of each whose width some kernels pad; scales per output row do not slice."""
    width = largest(model.expert_width, 1.0)
    slices = layout.tensor * held.expert_multiple
    padded = largest(ceiling(width / slices) * slices / width, 1.0)
    sliced = padded * held.expert_bytes / layout.tensor + held.expert_whole_bytes
    kept = (held.expert_bytes + held.expert_whole_bytes) / expert_devices(layout)
    return layout.expert * kept + (1 - layout.expert) * sliced


def devices_of(layout: Layout[N]) -> N:
    """Devices of one replica."""
    return all_of(layout.data, layout.tensor * layout.pipeline)


def expert_devices(layout: Layout[N]) -> N:
    """Devices that share the experts of a stage: whole ones are spread over all ranks."""
    return all_of(layout.data, layout.tensor)


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
    devices, experts = layout.tensor * layout.pipeline, expert_devices(layout) * layout.pipeline
    dense = (held.split_bytes + held.tower_bytes) / layout.tensor + held.key_value_bytes / smallest(
        layout.tensor, model.kv_heads
    )
    read = (
        dense + held.replicated_bytes + held.tower_whole_bytes + held.head_read_bytes / layout.tensor
    ) / layout.pipeline
    done = Work(
        layers=model.layers,
        dense_bytes=read,
        expert_bytes=(held.expert_bytes + held.expert_whole_bytes) / experts,
        expert_share=model.expert_share,
        flops_per_token=held.matrix_flops / devices,
        expert_flops=held.expert_flops / experts,
        attention_flops=model.attention_flops / devices,
        cache_bytes_per_token=cache_bytes_per_token(model, cell_bytes, layout),
        cache_bytes_fixed=cache_bytes_fixed(model, cell_bytes, layout, context),
        exchange_bytes_per_token=exchange_bytes(model, layout),
        exchanges=2 * model.layers * doublings(layout.tensor),
        pipeline=layout.pipeline,
    )
    return _among_ranks(done, held, model, layout) if several(layout.data) else done


def _among_ranks(done: Work[N], held: Weights[N], model: Shape[N], layout: Layout[N]) -> Work[N]:
    """The same where attention is data parallel: tokens travel to the experts and back."""
    devices, routed = expert_devices(layout), model.layers - model.lead_layers
    beyond = beyond_one(layout.data)
    return replace(
        done,
        data=layout.data,
        dense_bytes=done.dense_bytes + (device_shared_bytes(held, model, layout) - held.shared_bytes / layout.tensor),
        gathered_bytes_per_token=beyond * gathered_bytes(routed, model.hidden * model.value_bytes, devices),
        exchanges=done.exchanges + beyond * 2 * routed * doublings(devices),
    )


@step
def exchange_bytes(model: Shape[N], layout: Layout[N]) -> N:
    """Two all-reduces per layer, each sending 2 (t-1)/t of a 16-bit hidden vector per token."""
    return 2 * model.layers * model.hidden * model.value_bytes * 2 * (layout.tensor - 1) / layout.tensor
