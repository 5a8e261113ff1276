"""Laws of weights and caches over the whole catalogue, against numbers that others measured."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import tensors
from catalog.load import load
from catalog.model import Linear, Mla, Model, Moe, Window

KNOWN = load().models
PLANNED = {key: model for key, model in KNOWN.items() if model.unplanned is None}
DRAFT = list(csv.DictReader((Path(__file__).parent / "cache_bytes.csv").read_text().splitlines()))
"""16-bit cache bytes per token and per sequence, computed apart from this code when the catalogue was drafted."""
DERIVED_SINCE = {
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "Qwen/Qwen3.5-2B",
    "Qwen/Qwen3.5-4B", "Qwen/Qwen3.5-9B", "XiaomiMiMo/MiMo-V2-Flash",
}  # fmt: skip
"""Models whose state or window the draft left blank."""
LOGGED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_312,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_560,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 107_769_861_184,
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": 23_572_403_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
}
"""Parameters that llama.cpp logged when it loaded these models (lhl/strix-halo-testing)."""


@pytest.mark.parametrize("model", PLANNED.values(), ids=PLANNED.keys())
def test_tensors_sum_to_the_stated_total(model: Model) -> None:
    assert tensors.params(tensors.inventory(model)) == pytest.approx(model.total_params, rel=5e-3)


@pytest.mark.parametrize("key", LOGGED)
def test_shapes_reproduce_what_an_engine_counted(key: str) -> None:
    """Without query and key norms and rotary tables, which are not in the shapes: under one in ten thousand."""
    assert tensors.params(tensors.inventory(KNOWN[key])) == pytest.approx(LOGGED[key], rel=1e-4)


def test_sixteen_bit_files_weigh_two_bytes_a_parameter() -> None:
    """Published file sizes are independent of the shapes."""
    files = [m for m in PLANNED.values() if m.native == "bf16" and m.native_bytes and tensors.complete(m)]
    assert len(files) >= 25
    for model in files:
        stored = tensors.params(tensors.inventory(model)) + model.extra_params + model.mtp_params
        assert 2 * stored == pytest.approx(model.native_bytes, rel=2e-3), model.id


@pytest.mark.parametrize("row", DRAFT, ids=[row["model"] for row in DRAFT])
def test_cache_bytes_agree_with_the_draft(row: dict[str, str]) -> None:
    model = KNOWN[row["model"]]
    if model.unplanned:
        assert row["bytes_per_token"] == "", "a drafted cache is planned"
        return
    if row["bytes_per_token"]:
        assert 2 * tensors.kv_values_per_token(model) == int(row["bytes_per_token"])
    fixed = 2 * tensors.window_values(model) + tensors.state_bytes(model)
    assert fixed == int(row["fixed_bytes"] or 0) or (model.id in DERIVED_SINCE and not row["fixed_bytes"])


def test_drafted_models_plan() -> None:
    assert len(DRAFT) == 125
    assert sum(row["model"] in PLANNED for row in DRAFT) >= 110


def test_every_unplanned_model_says_why_and_keeps_its_size() -> None:
    for model in KNOWN.values():
        if model.unplanned is not None:
            assert len(model.unplanned) > 20
            total = sum(tensor.params for tensor in tensors.inventory(model))
            assert total == pytest.approx(model.total_params, rel=1e-3)


@pytest.mark.parametrize("model", PLANNED.values(), ids=PLANNED.keys())
def test_counts_spread_evenly_over_layers(model: Model) -> None:
    for tensor in tensors.inventory(model):
        assert tensor.params > 0
        assert tensor.count % max(tensor.layers, 1) == 0
    layers = tensors.full_layers(model) + tensors.window_layers(model) + (model.linear.layers if model.linear else 0)
    assert layers <= model.layers
    assert tensors.active_params(model) <= tensors.params(tensors.inventory(model))


@pytest.mark.parametrize(
    ("key", "active"),
    [  # published by the vendors, who count embeddings differently
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 12.9e9),
        ("Qwen/Qwen3-30B-A3B", 3.3e9),
        ("Qwen/Qwen3-235B-A22B", 22e9),
        ("deepseek-ai/DeepSeek-V3", 37e9),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 17e9),
        ("rednote-hilab/dots.llm1.inst", 14e9),
        ("tencent/Hunyuan-A13B-Instruct", 13e9),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", 12.7e9),
    ],
)
def test_active_parameters(key: str, active: float) -> None:
    assert tensors.active_params(KNOWN[key]) == pytest.approx(active, rel=0.05)


def test_latent_attention_caches_one_vector() -> None:
    assert tensors.values_per_full_layer(KNOWN["deepseek-ai/DeepSeek-V3"]) == 512 + 64


def test_an_indexer_caches_beside_the_latent_vector() -> None:
    assert tensors.index_bytes_per_token(KNOWN["deepseek-ai/DeepSeek-V3.2"]) == 61 * 132
    assert tensors.index_bytes_per_token(KNOWN["zai-org/GLM-5.2"]) == 21 * 132
    assert tensors.index_bytes_per_token(KNOWN["deepseek-ai/DeepSeek-V3"]) == 0


def test_llama4_maverick_routes_every_second_layer() -> None:
    parts = {t.part: t for t in tensors.inventory(KNOWN["meta-llama/Llama-4-Maverick-17B-128E-Instruct"])}
    assert (parts["expert.gate"].rows, parts["expert.gate"].layers, parts["expert.gate"].count) == (8192, 24, 24 * 128)
    assert (parts["mlp.gate"].rows, parts["mlp.gate"].layers) == (16384, 24)


def plain(**changes: object) -> Model:
    """A small decoder; `changes` are fields of Model."""
    fields: dict[str, object] = {
        "id": "a/b", "source": "test", "confidence": "A", "family": "f", "architecture": "LlamaForCausalLM",
        "attention": "gqa", "layers": 8, "hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 8, "intermediate": 96,
        "vocab": 100, "max_position": 1024, "tied": False,
    }  # fmt: skip
    return msgspec.structs.replace(Model(**fields), **changes)  # type: ignore[arg-type]


@given(st.integers(0, 8), st.integers(1, 4096))
def test_a_window_never_costs_more_than_full_attention(layers: int, tokens: int) -> None:
    windowed = plain(window=Window(layers=layers, tokens=tokens))
    cached = tensors.kv_values_per_token(windowed) * tokens + tensors.window_values(windowed)
    assert cached == tensors.kv_values_per_token(plain()) * tokens
    assert tensors.params(tensors.inventory(windowed)) == tensors.params(tensors.inventory(plain()))


@given(st.integers(1, 8), st.integers(1, 64), st.integers(1, 64))
def test_experts_scale_with_their_number(layers: int, experts: int, width: int) -> None:
    one = plain(moe=Moe(experts=experts, per_token=1, intermediate=width, layers=layers))
    two = plain(moe=Moe(experts=2 * experts, per_token=1, intermediate=width, layers=layers))
    grown = tensors.params(tensors.inventory(two)) - tensors.params(tensors.inventory(one))
    assert grown == layers * experts * (3 * 64 * width + 64)
    assert tensors.active_params(two) - tensors.active_params(one) == pytest.approx(layers * experts * 64)


@given(st.integers(1, 10**9))
def test_the_rest_fills_up_to_the_total(missing: int) -> None:
    known = tensors.params(tensors.inventory(plain(intermediate=None)))
    model = plain(intermediate=None, total_params=float(known + missing))
    total = tensors.params(tensors.inventory(model))
    assert abs(total - model.total_params) <= model.layers * model.hidden / 2


def test_unknown_widths_leave_no_double_count() -> None:
    state = Linear(kind="k", layers=4, state_bytes=10)
    latent = Mla(kv_lora=16, rope=4)
    for model in (plain(linear=state, total_params=1e6), plain(mla=latent, total_params=1e6)):
        assert not tensors.complete(model)
        assert tensors.params(tensors.inventory(model)) == pytest.approx(1e6, rel=1e-3)
