"""A model's tensors by the names that llama.cpp's converter gives them, layer by layer.

The lists are those of llama.cpp's loaders (`src/models/*.cpp`). An architecture that is not in ARCHITECTURES has no
such list; then a file's size is counted from aggregates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from catalog import tensors
from catalog.model import Linear, Mla, Model, Moe
from planner.lanes.mixture import Facts, Named

STATE_WIDTH = 128
"""Width of a head of a gated delta net and states of a Mamba-2 head, in every published model of both kinds."""
MAMBA_HEAD = 64
MAMBA_GROUPS = 8
"""Of Nemotron-H 30B and larger (config.json: mamba_head_dim, n_groups)."""
CONVOLUTION = 4
"""Tokens that a linear layer's convolution sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the layers of an architecture differ from a Llama's."""

    gguf: str
    """`general.architecture`."""
    head_norms: bool = False
    """A norm over each query and key head."""
    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    router_bias: bool = False
    """The routers' correction of expert probabilities (`exp_probs_b`)."""
    shared_router: bool = False
    """A gate in front of the shared expert."""
    every: int = 0
    """The last of so many layers attends to the whole context; 0 where layers are alike."""
    sinks: bool = False
    """Attention sinks, and biases on every matrix (gpt-oss)."""
    head_gate: bool = False
    """One gate per attention head (Step 3.5)."""


_GLM = Style(gguf="glm4moe", norms=("attn_norm", "post_attention_norm"), router_bias=True)
_NEXT = ("attn_norm", "post_attention_norm")
ARCHITECTURES = {
    "LlamaForCausalLM": Style(gguf="llama"),
    "MistralForCausalLM": Style(gguf="llama"),
    "Mistral3ForConditionalGeneration": Style(gguf="llama"),
    "MixtralForCausalLM": Style(gguf="llama"),
    "Qwen2ForCausalLM": Style(gguf="qwen2"),
    "Qwen3ForCausalLM": Style(gguf="qwen3", head_norms=True),
    "Qwen3MoeForCausalLM": Style(gguf="qwen3moe", head_norms=True),
    "DeepseekV2ForCausalLM": Style(gguf="deepseek2"),
    "DeepseekV3ForCausalLM": Style(gguf="deepseek2", router_bias=True),
    "Glm4MoeForCausalLM": _GLM,
    "GptOssForCausalLM": Style(gguf="gpt-oss", norms=_NEXT, every=2, sinks=True),
    "Step3p5ForCausalLM": Style(gguf="step35", head_norms=True, router_bias=True, head_gate=True, every=4),
    "Step3p7FlashForCausalLM": Style(gguf="step35", head_norms=True, router_bias=True, head_gate=True, every=4),
    "Qwen3NextForCausalLM": Style(gguf="qwen3next", head_norms=True, norms=_NEXT, shared_router=True, every=4),
    "Qwen3_5ForConditionalGeneration": Style(gguf="qwen35", head_norms=True, norms=_NEXT, every=4),
    "Qwen3_5ForCausalLM": Style(gguf="qwen35", head_norms=True, norms=_NEXT, every=4),
    "Qwen3_5MoeForConditionalGeneration": Style(
        gguf="qwen35moe", head_norms=True, norms=_NEXT, shared_router=True, every=4
    ),
    "Qwen3_5MoeForCausalLM": Style(gguf="qwen35moe", head_norms=True, norms=_NEXT, shared_router=True, every=4),
    "NemotronHForCausalLM": Style(gguf="nemotron_h_moe", norms=("attn_norm",), router_bias=True),
    **dict.fromkeys(
        ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
        Style(
            gguf="gemma3",
            head_norms=True,
            norms=("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
            every=6,
        ),
    ),
}


def style(model: Model) -> Style | None:
    """None for a layout without a list: an unknown architecture, unstated widths, layers in an unstated order."""
    found = ARCHITECTURES.get(model.architecture)
    if found is None or not tensors.complete(model) or (model.mla is not None) != (found.gguf == "deepseek2"):
        return None
    return found


def arrangement(model: Model) -> tuple[str, ...] | None:
    """What each layer attends with: `full`, `window` or `linear`; None where no regular order gives the counts."""
    every = (style(model) or Style(gguf="")).every
    if not every and model.linear is None:
        return ("full",) * model.layers
    other = "linear" if model.linear else "window" if model.window else "full"
    first = model.architecture.startswith("Step3")
    kinds = tuple(
        "full" if every and index % every == (0 if first else every - 1) else other for index in range(model.layers)
    )
    return kinds if kinds.count("full") == tensors.full_layers(model) else None


def named(model: Model, kinds: tuple[str, ...] | None = None) -> tuple[Named, ...]:
    """Every tensor of the file, in no particular order; empty for a layout without a list.

    `kinds` says what each layer is where its order is irregular: `full`, `window`, `linear` or `experts` (an MLP
    alone).
    """
    made, order = style(model), kinds or arrangement(model)
    if made is None or order is None:
        return ()
    return (*_outside(model), *(each for index in range(model.layers) for each in _layer(model, made, order, index)))


def facts(model: Model, kinds: tuple[str, ...] | None = None) -> Facts:
    """What llama.cpp's rules ask of the model."""
    grouped = model.heads if model.mla else model.heads // max(1, model.kv_heads)
    llama = model.architecture in ("LlamaForCausalLM", "Qwen2ForCausalLM")
    return Facts(
        layers=model.layers,
        grouped=0 if kinds and kinds[0] not in ("full", "window") and "experts" in kinds else grouped,
        experts=model.moe.experts if model.moe else 0,
        seventy=llama and model.layers == 80 and model.heads != model.kv_heads,
    )


def _outside(model: Model) -> Iterator[Named]:
    wide = (model.hidden, model.vocab)
    yield Named(name="token_embd.weight", shape=wide, part="embedding")
    yield Named(name="output_norm.weight", shape=(model.hidden,), part="norm")
    if not model.tied:
        yield Named(name="output.weight", shape=wide, part="head")


def _layer(model: Model, made: Style, kinds: tuple[str, ...], index: int) -> Iterator[Named]:
    def tensor(name: str, part: str, shape: tuple[int, ...]) -> Named:
        suffix = "" if "." in name or name in ("ssm_a", "ssm_d") else ".weight"
        return Named(name=f"blk.{index}.{name}{suffix}", shape=shape, part=part, layer=index)

    kind = kinds[index]
    rows = [_row(name, "norm", model.hidden) for name in made.norms]
    rows += _mixer(model, made, kind)
    alone = "experts" in kinds
    if not alone or kind == "experts":
        rows += _ffn(model, made, index, alone=alone)
    yield from (tensor(name, part, shape) for name, part, shape in rows)


Row = tuple[str, str, tuple[int, ...]]
"""Name within the layer, part, shape."""


def _row(name: str, part: str, *shape: int) -> Row:
    return name, part, shape


def _mixer(model: Model, made: Style, kind: str) -> list[Row]:
    """What mixes tokens in a layer of this kind."""
    if kind == "experts":
        return []
    if kind == "linear" and model.linear:
        return _mamba(model, model.linear) if model.linear.kind == "mamba-2" else _delta(model, made, model.linear)
    return _latent(model, model.mla) if model.mla else _attention(model, made, kind)


def _attention(model: Model, made: Style, kind: str) -> list[Row]:
    group = tensors.window_group(model) if kind == "window" else tensors.full_group(model)
    query, key, value = model.heads * group.key, group.kv_heads * group.key, group.kv_heads * group.value
    gated = query * (2 if model.attention_gate else 1)
    rows: list[Row] = [
        _row("attn_q", "attention.q", model.hidden, gated),
        _row("attn_k", "attention.k", model.hidden, key),
        _row("attn_v", "attention.v", model.hidden, value),
        _row("attn_output", "attention.o", model.heads * group.value, model.hidden),
    ]
    if made.head_norms:
        rows += [_row("attn_q_norm", "norm", group.key), _row("attn_k_norm", "norm", group.key)]
    if model.attention_bias or made.sinks:
        rows += [
            _row("attn_q.bias", "norm", query),
            _row("attn_k.bias", "norm", key),
            _row("attn_v.bias", "norm", value),
        ]
    if made.sinks:
        rows += [_row("attn_output.bias", "norm", model.hidden), _row("attn_sinks", "norm", model.heads)]
    if made.head_gate:
        rows += [_row("attn_gate", "attention.q", model.hidden, model.heads)]
    return rows


def _latent(model: Model, mla: Mla) -> list[Row]:
    nope, value = mla.nope or 0, mla.value or 0
    rows: list[Row] = [
        _row("attn_kv_a_mqa", "attention.latent", model.hidden, mla.kv_lora + mla.rope),
        _row("attn_kv_a_norm", "norm", mla.kv_lora),
        _row("attn_k_b", "attention.up", nope, mla.kv_lora, model.heads),
        _row("attn_v_b", "attention.up", mla.kv_lora, value, model.heads),
        _row("attn_output", "attention.o", model.heads * value, model.hidden),
    ]
    query = model.heads * (nope + mla.rope)
    if not mla.q_lora:
        return [*rows, _row("attn_q", "attention.q", model.hidden, query)]
    down: list[Row] = [
        _row("attn_q_a", "attention.latent", model.hidden, mla.q_lora),
        _row("attn_q_a_norm", "norm", mla.q_lora),
    ]
    return [*rows, *down, _row("attn_q_b", "attention.up", mla.q_lora, query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Widths of a linear layer."""

    inner: int
    heads: int
    groups: int
    width: int
    """Values that one group's key (or B and C) holds."""

    @property
    def convolved(self) -> int:
        """Channels of the convolution."""
        return self.inner + 2 * self.groups * self.width

    @property
    def bytes(self) -> int:
        """llama.cpp's state of one layer and sequence, all of it in 32 bits: the last tokens and the matrix."""
        return 4 * ((CONVOLUTION - 1) * self.convolved + self.inner * self.width)


def state(linear: Linear) -> State:
    """The widths, from the sums that the catalogue keeps."""
    inner, rows = linear.inner or 0, linear.input_rows or 0
    if linear.kind == "mamba-2":
        return State(inner=inner, heads=inner // MAMBA_HEAD, groups=MAMBA_GROUPS, width=STATE_WIDTH)
    heads = inner // STATE_WIDTH
    groups = (rows - 2 * inner - 2 * heads) // 2 // STATE_WIDTH
    return State(inner=inner, heads=heads, groups=groups, width=STATE_WIDTH)


def _delta(model: Model, made: Style, linear: Linear) -> list[Row]:
    """A gated delta net."""
    use = state(linear)
    small = ("ssm_ba",) if made.gguf == "qwen3next" else ("ssm_alpha", "ssm_beta")
    return [
        _row("attn_qkv", "linear", model.hidden, use.convolved),
        _row("attn_gate", "linear", model.hidden, use.inner),
        *(_row(name, "linear", model.hidden, 2 * use.heads // len(small)) for name in small),
        _row("ssm_out", "linear", use.inner, model.hidden),
        _row("ssm_conv1d", "norm", CONVOLUTION, use.convolved),
        _row("ssm_dt.bias", "norm", use.heads),
        _row("ssm_a", "norm", use.heads),
        _row("ssm_norm", "norm", use.width),
    ]


def _mamba(model: Model, linear: Linear) -> list[Row]:
    use = state(linear)
    return [
        _row("ssm_in", "linear", model.hidden, linear.input_rows or 0),
        _row("ssm_out", "linear", use.inner, model.hidden),
        _row("ssm_conv1d", "norm", CONVOLUTION, use.convolved),
        _row("ssm_conv1d.bias", "norm", use.convolved),
        _row("ssm_dt.bias", "norm", use.heads),
        _row("ssm_a", "norm", 1, use.heads),
        _row("ssm_d", "norm", 1, use.heads),
        _row("ssm_norm", "norm", use.inner // use.groups, use.groups),
    ]


def _ffn(model: Model, made: Style, index: int, *, alone: bool) -> list[Row]:
    moe = model.moe
    if moe is None or (not alone and index < model.layers - moe.layers):
        return _mlp(model, "ffn_{}", "mlp", model.hidden, model.intermediate or 0)
    return _experts(model, made, moe)


def _mlp(model: Model, name: str, part: str, columns: int, width: int, *experts: int) -> list[Row]:
    ways = ("gate", "up") if model.mlp_matrices == 3 else ("up",)
    rows: list[Row] = [_row(name.format(way), f"{part}.{way}", columns, width, *experts) for way in ways]
    return [*rows, _row(name.format("down"), f"{part}.down", width, columns, *experts)]


def _experts(model: Model, made: Style, moe: Moe) -> list[Row]:
    rows: list[Row] = [_row("ffn_gate_inp", "router", model.hidden, moe.experts)]
    rows += _mlp(model, "ffn_{}_exps", "expert", moe.latent or model.hidden, moe.intermediate, moe.experts)
    if moe.shared:
        width = moe.shared * (moe.shared_intermediate or moe.intermediate)
        rows += _mlp(model, "ffn_{}_shexp", "shared", model.hidden, width)
    if made.router_bias:
        rows += [_row("exp_probs_b.bias", "router", moe.experts)]
    if made.shared_router:
        rows += [_row("ffn_gate_inp_shexp", "router", model.hidden)]
    if moe.latent:
        rows += [_row("ffn_latent_down", "shared.latent", model.hidden, moe.latent)]
        rows += [_row("ffn_latent_up", "shared.latent", moe.latent, model.hidden)]
    if made.sinks:
        rows += [_row("ffn_gate_inp.bias", "router", moe.experts)]
        rows += [_row(f"ffn_{way}_exps.bias", "norm", moe.intermediate, moe.experts) for way in ("gate", "up")]
        rows += [_row("ffn_down_exps.bias", "norm", model.hidden, moe.experts)]
    return rows
