"""What a decoder weighs and remembers, from its shapes: weight tensors by part, and cached values per token.

Counts of parameters and values, never bytes: number formats belong to lanes and cache formats. Sources of the layouts:
the model classes of transformers and vLLM for the architectures named in `catalog/architectures.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from catalog.model import Linear, Mla, Model, Moe, Tensor

OUTSIDE_THE_DECODER = ("vision", "mtp")
"""Parts beside the decoder: not in `total_params`."""


class Group(Struct, frozen=True, kw_only=True):
    """Attention layers of one shape. Widths in values per head."""

    layers: int
    kv_heads: int
    key: int
    value: int
    key_is_value: bool = False

    @property
    def cached(self) -> int:
        """Values that one token leaves in the cache of one layer."""
        return self.kv_heads * (self.key + self.value)


# ---- layers ----------------------------------------------------------------------------------------------------------


def full_layers(model: Model) -> int:
    """Layers whose cache grows with the whole context."""
    if model.attention_layers is not None:
        return model.attention_layers
    return model.layers - window_layers(model) - (model.linear.layers if model.linear else 0)


def window_layers(model: Model) -> int:
    """Layers whose cache stops growing at the window."""
    return model.window.layers if model.window else 0


def dense_layers(model: Model) -> int:
    """Layers with a dense MLP."""
    if model.dense_layers is not None:
        return model.dense_layers
    return model.layers - (model.moe.layers if model.moe else 0)


def full_group(model: Model) -> Group:
    """The full-length attention layers of a model without latent attention."""
    key = model.global_head_dim or model.head_dim
    return Group(
        layers=full_layers(model),
        kv_heads=model.global_kv_heads or model.kv_heads,
        key=key,
        value=model.value_dim or key,
        key_is_value=model.key_is_value,
    )


def window_group(model: Model) -> Group:
    """The windowed attention layers."""
    return Group(
        layers=window_layers(model),
        kv_heads=model.kv_heads,
        key=model.head_dim,
        value=model.value_dim or model.head_dim,
    )


# ---- cache -----------------------------------------------------------------------------------------------------------


def values_per_full_layer(model: Model) -> int:
    """Cached values per token in one full-length layer: keys and values, or the latent vector once."""
    return model.mla.kv_lora + model.mla.rope if model.mla else full_group(model).cached


def kv_values_per_token(model: Model) -> int:
    """Cached values that grow with every token of context, over all full-length layers."""
    return full_layers(model) * values_per_full_layer(model)


def window_values_per_token(model: Model) -> int:
    """Cached values per token over all windowed layers, up to `window_tokens`."""
    return window_layers(model) * window_group(model).cached


def window_tokens(model: Model) -> int:
    """Tokens that a windowed layer remembers; 0 without such layers."""
    return model.window.tokens if model.window else 0


def window_values(model: Model) -> int:
    """Cached values of one sequence in all windowed layers once their windows are full."""
    return window_values_per_token(model) * window_tokens(model)


def state_bytes(model: Model) -> int:
    """Bytes of linear-attention state of one sequence, whatever its length."""
    return model.linear.state_bytes if model.linear else 0


def index_bytes_per_token(model: Model) -> int:
    """Bytes per token of a sparse-attention indexer's own cache, over all layers that have one."""
    if model.mla is None:
        return 0
    return index_layers(model, model.mla) * model.mla.index_bytes_per_token


def index_layers(model: Model, mla: Mla) -> int:
    """Layers with an indexer of their own."""
    if not mla.index_heads:
        return 0
    return full_layers(model) if mla.index_layers is None else mla.index_layers


# ---- weights ---------------------------------------------------------------------------------------------------------


def inventory(model: Model) -> tuple[Tensor, ...]:
    """Every weight tensor: exact where a checkpoint was read, from the shapes otherwise.

    What the shapes cannot say (a width that no source states) is one aggregate `rest` that fills up to `total_params`.
    """
    if model.tensors:
        return model.tensors
    known = () if model.unplanned else tuple(decoder(model))
    return (*known, *rest(model, params(known)), *beside(model))


def params(tensors: tuple[Tensor, ...]) -> int:
    """Parameters of the decoder: everything but vision and multi-token prediction."""
    return sum(tensor.params for tensor in tensors if tensor.part not in OUTSIDE_THE_DECODER)


def size(model: Model) -> float:
    """Parameters of the decoder: as stated, or counted where a checkpoint or config states none."""
    return model.total_params or float(params(inventory(model)))


def active_params(model: Model) -> float:
    """Parameters that one token passes through: all but the experts it is not routed to."""
    routed = sum(tensor.params for tensor in inventory(model) if tensor.part.startswith("expert."))
    idle = routed * (1 - model.moe.per_token / model.moe.experts) if model.moe else 0
    return params(inventory(model)) - idle


def decoder(model: Model) -> Iterator[Tensor]:
    """The tensors whose widths are known."""
    yield Tensor(part="embedding", rows=model.vocab, columns=model.hidden)
    if not model.tied:
        yield Tensor(part="head", rows=model.vocab, columns=model.hidden)
    yield from latent_attention(model, model.mla) if model.mla else attention(model)
    if model.linear:
        yield from linear(model, model.linear)
    if model.intermediate and dense_layers(model):
        yield from mlp(model, "mlp", model.intermediate, dense_layers(model), model.hidden)
    if model.moe:
        yield from experts(model, model.moe)
    yield from norms(model)


def attention(model: Model) -> Iterator[Tensor]:
    """Projections of grouped-query attention, full-length and windowed layers apart where their heads differ."""
    for group in (full_group(model), window_group(model)):
        if group.layers:
            yield from projections(model, group)


def projections(model: Model, group: Group) -> Iterator[Tensor]:
    gated = 2 if model.attention_gate else 1
    yield per_layer("attention.q", gated * model.heads * group.key, model.hidden, group.layers)
    yield per_layer("attention.k", group.kv_heads * group.key, model.hidden, group.layers)
    if not group.key_is_value:
        yield per_layer("attention.v", group.kv_heads * group.value, model.hidden, group.layers)
    yield per_layer("attention.o", model.hidden, model.heads * group.value, group.layers)


def latent_attention(model: Model, mla: Mla) -> Iterator[Tensor]:
    """Down-projections (`attention.latent`, the same on every rank) and up-projections (`attention.up`, by heads)."""
    layers = full_layers(model)
    yield per_layer("attention.latent", mla.kv_lora + mla.rope, model.hidden, layers)
    if mla.nope is None or mla.value is None:
        return
    query = model.heads * (mla.nope + mla.rope)
    if mla.q_lora:
        yield per_layer("attention.latent", mla.q_lora, model.hidden, layers)
        yield per_layer("attention.up", query, mla.q_lora, layers)
    else:
        yield per_layer("attention.q", query, model.hidden, layers)
    yield per_layer("attention.up", model.heads * (mla.nope + mla.value), mla.kv_lora, layers)
    yield per_layer("attention.o", model.hidden, model.heads * mla.value, layers)
    yield from indexer(model, mla)


def indexer(model: Model, mla: Mla) -> Iterator[Tensor]:
    """The sparse-attention indexer: query up-projection, one key, one weight per index head."""
    layers = index_layers(model, mla)
    if layers:
        yield per_layer("attention.index", mla.index_heads * mla.index_dim, mla.q_lora or model.hidden, layers)
        yield per_layer("attention.index", mla.index_dim + mla.index_heads, model.hidden, layers)


def linear(model: Model, state: Linear) -> Iterator[Tensor]:
    """Input and output projections of gated delta net or Mamba-2, and their small unquantized tensors."""
    if state.input_rows is None or state.inner is None:
        return
    yield per_layer("linear", state.input_rows, model.hidden, state.layers)
    yield per_layer("linear", model.hidden, state.inner, state.layers)
    yield per_layer("norm", state.other_params, 1, state.layers)


def mlp(model: Model, part: str, width: int, layers: int, columns: int) -> Iterator[Tensor]:
    """Gate, up and down of one MLP (up and down where the activation has no gate)."""
    for name in ("gate", "up") if model.mlp_matrices == 3 else ("up",):
        yield per_layer(f"{part}.{name}", width, columns, layers)
    yield per_layer(f"{part}.down", columns, width, layers)


def experts(model: Model, moe: Moe) -> Iterator[Tensor]:
    """Router, routed experts, shared experts, and the projections around a latent expert space."""
    yield per_layer("router", moe.experts, model.hidden, moe.layers)
    if moe.bias:
        yield each(per_layer("expert.bias", (model.mlp_matrices - 1) * moe.intermediate, 1, moe.layers), moe.experts)
        yield each(per_layer("expert.down_bias", model.hidden, 1, moe.layers), moe.experts)
        yield per_layer("norm", moe.experts, 1, moe.layers)
    for tensor in mlp(model, "expert", moe.intermediate, moe.layers, moe.latent or model.hidden):
        yield each(tensor, moe.experts)
    if moe.shared:
        for tensor in mlp(model, "shared", moe.shared_intermediate or moe.intermediate, moe.layers, model.hidden):
            yield each(tensor, moe.shared)
    if moe.latent:
        yield per_layer("shared.latent", moe.latent, model.hidden, moe.layers)
        yield per_layer("shared.latent", model.hidden, moe.latent, moe.layers)


def norms(model: Model) -> Iterator[Tensor]:
    """Two norms per layer and the last one, and the biases of the query, key and value projections."""
    yield per_layer("norm", model.hidden, 1, 2 * model.layers)
    yield Tensor(part="norm", rows=model.hidden, columns=1)
    if model.attention_bias and model.mla is None:
        for group in (full_group(model), window_group(model)):
            rows = model.heads * group.key + group.cached
            if group.layers:
                yield per_layer("norm", rows, 1, group.layers)


def rest(model: Model, known: int) -> tuple[Tensor, ...]:
    """The aggregate of all tensors without stated widths, one per layer; nothing where every width is known."""
    missing = (model.total_params or 0) - known
    if complete(model) or missing <= 0:
        return ()
    return (per_layer("rest", round(missing / model.layers / model.hidden), model.hidden, model.layers),)


def complete(model: Model) -> bool:
    """Whether every width that `decoder` needs is known."""
    dense = model.intermediate is not None or not dense_layers(model)
    latent = model.mla is None or (model.mla.nope is not None and model.mla.value is not None)
    state = model.linear is None or (model.linear.input_rows is not None and model.linear.inner is not None)
    return model.unplanned is None and dense and latent and state


def beside(model: Model) -> tuple[Tensor, ...]:
    """Vision tower and multi-token-prediction layers, as aggregates of the stated sizes."""
    sizes = (("vision", model.extra_params), ("mtp", model.mtp_params))
    return tuple(
        Tensor(part=part, rows=round(size / model.hidden), columns=model.hidden) for part, size in sizes if size
    )


def per_layer(part: str, rows: int, columns: int, layers: int) -> Tensor:
    return Tensor(part=part, rows=rows, columns=columns, count=layers, layers=layers)


def each(tensor: Tensor, experts: int) -> Tensor:
    """The same tensor once per expert."""
    return Tensor(
        part=tensor.part,
        rows=tensor.rows,
        columns=tensor.columns,
        count=tensor.count * experts,
        layers=tensor.layers,
    )


def parts(model: Model) -> dict[str, int]:
    """Parameters by part."""
    names = dict.fromkeys(tensor.part for tensor in inventory(model))
    return {name: sum(t.params for t in inventory(model) if t.part == name) for name in names}
