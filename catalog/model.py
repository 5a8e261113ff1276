"""Model architectures: the shapes that decide bytes, operations and cache. Nothing here is guessed: a layout
without a formula carries `unplanned` with the reason, and a rule refuses it by name."""

from __future__ import annotations

from msgspec import Struct

from catalog.source import Sourced
from catalog.units import Bytes


class Moe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Routed experts. `layers` of them are MoE layers; the others are dense with `Model.intermediate`."""

    experts: int
    per_token: int
    intermediate: int
    layers: int
    shared: int = 0
    """Shared experts, always active, each as wide as a routed one unless `shared_intermediate` says otherwise."""
    shared_intermediate: int | None = None
    bias: bool = False
    """Biases on the router and on every expert's matrices (gpt-oss)."""
    latent: int | None = None
    """Width of the experts' input where it is not the hidden size (latent MoE)."""


class Mla(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multi-head latent attention: the cache holds `kv_lora + rope` values per layer and token, once."""

    kv_lora: int
    rope: int
    q_lora: int | None = None
    """None: queries are projected straight from the hidden state (DeepSeek-V2-Lite)."""
    nope: int | None = None
    value: int | None = None
    """Widths of a head's unrotated key part and of its value; None where no source states them."""
    index_bytes_per_token: int = 0
    """Bytes per layer and token of a sparse-attention indexer's own key cache (DSA)."""
    index_heads: int = 0
    index_dim: int = 0
    index_layers: int | None = None
    """Layers with an indexer of their own; None means every layer (GLM-5.2 shares most of them)."""


class Linear(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers with a fixed-size state instead of a growing cache: gated delta net, Mamba-2."""

    kind: str
    layers: int
    state_bytes: int
    """Bytes of state of all such layers for one sequence (convolution 16-bit, recurrent part as configured)."""
    input_rows: int | None = None
    """Outputs of the layer's input projections together (query, key, value, gates, decays); None where not known."""
    inner: int | None = None
    """Inputs of the output projection: value heads x value head width."""
    other_params: int = 0
    """Convolution, decays and norms of one layer: never quantized."""


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers whose cache stops growing at `tokens`: sliding window, or chunked attention."""

    layers: int
    tokens: int
    chunked: bool = False


class Image(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest picture that a vision tower takes: what an engine profiles its memory with."""

    tokens: int
    """Tokens that it becomes."""
    side: int
    """Pixels along each side."""


class Tensor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` equal tensors of `rows` (outputs) x `columns` (inputs); `part` decides lane and sharding."""

    part: str
    rows: int
    columns: int
    count: int = 1
    layers: int = 0
    """Layers over which `count` is spread evenly; 0 for what stands outside the layers (embedding, head)."""
    dtype: str | None = None
    """Stored number format where a checkpoint was read (`BF16`, `F8_E4M3`, a GGUF type); None where derived."""
    stored_bytes: float | None = None
    """Bytes of all `count` with their scales and zero points where a safetensors checkpoint was read."""

    @property
    def params(self) -> int:
        return self.rows * self.columns * self.count


class Model(Sourced, frozen=True, kw_only=True):
    """The text decoder of one model; vision and multi-token-prediction parts as parameter counts beside it."""

    family: str
    architecture: str
    """The class name in config.json `architectures`."""
    attention: str
    """The source's own description of the layout, kept to be read by people."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_position: int
    tied: bool
    intermediate: int | None = None
    """Width of the dense MLP; None where no source states it (then `total_params` carries the size)."""
    mlp_matrices: int = 3
    """3 for gated MLPs (gate, up, down), 2 for squared-ReLU ones."""
    dense_layers: int | None = None
    """Layers with a dense MLP; None means every layer that is no MoE layer."""
    attention_layers: int | None = None
    """Layers with a growing, full-length cache; None means every layer that has no window and no linear state."""
    window: Window | None = None
    linear: Linear | None = None
    global_kv_heads: int | None = None
    """KV heads of the full-length layers where they differ from the windowed ones (Gemma 4)."""
    global_head_dim: int | None = None
    value_dim: int | None = None
    """Width of a value head where it differs from the key head (`head_dim`)."""
    key_is_value: bool = False
    """Full-length layers have no value projection of their own; the cache still holds both (Gemma 4)."""
    attention_gate: bool = False
    """The query projection carries an output gate of its own width beside it (Qwen3-Next, Qwen3.5)."""
    moe: Moe | None = None
    mla: Mla | None = None
    sinks: bool = False
    """Attention sinks (gpt-oss): 8-bit KV in llama.cpp hurts these, see Q6xx."""
    attention_bias: bool = False
    native: str = "bf16"
    """Lane id in which the publisher ships the weights; `bf16` where a 16-bit original exists."""
    native_recipe: str = ""
    total_params: float | None = None
    """As published or recomputed; in parameters, not billions."""
    active_params: float | None = None
    extra_params: float = 0
    """Vision tower and similar, loaded in 16 bits beside the decoder."""
    extra_whole_params: float = 0
    """Of them, what no tensor-parallel rank divides: patch and position embeddings, some projectors."""
    image: Image | None = None
    """None for text models, and where no source states it."""
    rotary_dim: int | None = None
    """Values of a head that are rotated, where it is not the whole head."""
    rope_positions: int | None = None
    """Positions in the tables of rotations, all tables together, where it is not `max_position` (a linear scaling
    lengthens the table; windowed layers with a base of their own have a second one)."""
    mtp_params: float = 0
    """Multi-token-prediction layers: on disk, loaded only with speculative decoding."""
    native_bytes: Bytes | None = None
    """Size of the published weight files where a source states it."""
    license: str = ""
    unplanned: str | None = None
    """Why this layout cannot be planned; None for a layout with formulas."""
    tensors: tuple[Tensor, ...] = ()
    """Exact tensors where a checkpoint was read; empty where the shapes above decide."""
    inherited: str | None = None
    """The catalogue model whose evidence and artefacts a fine-tune takes over."""
    revision: str | None = None
    quantization: str | None = None
    """Lane id found in the checkpoint's own quantization_config …"""
    group_size: int | None = None
    """… and the weights that share a scale there, where four-bit integers have groups."""
