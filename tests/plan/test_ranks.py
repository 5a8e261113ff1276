"""Data-parallel attention: ranks hold attention and a cache each, and share the experts."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import engines, explain, hardware, pairing, rows, settle, speed, sweep
from planner.fits import Fits
from planner.launch import LaunchOptions
from planner.pairing import Option
from planner.plan import Candidate, Plan
from planner.ranks import fullest
from planner.request import Request
from planner.rooms import Terms, room
from planner.search import search
from planner.serving import device_work
from planner.settle import Settled
from planner.speed import Rates, Work
from planner.work import Layout, device_weight_bytes, devices_of
from tests.plan.asking import ask, catalog, device, planned
from tests.speed.deployments import rates, works

DEEPSEEK, QWEN, LLAMA = "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-70B-Instruct"
FITS = Fits(catalog().speed)
RANKS = st.sampled_from([1.0, 2.0, 4.0, 8.0, 16.0])
BUSY = ask(DEEPSEEK, device("h200-sxm5", 8), workload={"qps": 20.0}, lanes=["fp8"])
ALIKE = [field.name for field in fields(sweep.Swept) if field.name not in ("rows", "room", "misses")]


def options(request: Request) -> tuple[list[Option], Settled]:
    model = catalog().model(request.model)
    settled = settle.settle(request, model.max_position, catalog().as_of)
    return pairing.options(settled, model, hardware.devices(request, catalog()), catalog()).kept, settled


def terms(model: str, name: str, place: rows.Place, lane: str = "fp8") -> Terms[float]:
    kept, _ = options(ask(model, device(name, 8), lanes=[lane], engines=["vllm"]))
    return rows.terms_of(kept[0], place, 2048.0, FITS)


def among(work: Work[float], ranks: float) -> Work[float]:
    """A deployment on one device as `ranks` ranks."""
    routed = min(work.expert_flops, work.flops_per_token)
    return replace(work, pipeline=1.0, data=ranks, expert_bytes=work.expert_bytes / ranks, expert_flops=routed / ranks)


def choice(plan: Plan) -> Candidate:
    assert plan.choice is not None
    return plan.choice


@pytest.mark.parametrize(
    "request_",
    [
        BUSY,
        ask(QWEN, device("l40s", 8), workload={"qps": 9.0}),
        ask(DEEPSEEK, device("h100-sxm5-80", 8), slo={"ttft_ms": {"p95": 2000}, "tpot_ms": {"p95": 50}}),
    ],
)
def test_layouts_of_one_rank_do_not_notice_the_others(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of every row, to the last bit."""
    kept, settled = options(request_)
    beside, _ = rows.rows(kept, FITS)
    monkeypatch.setattr(rows, "LAYOUTS", rows.LAYOUTS[rows.LAYOUTS[:, 3] == 1])
    alone, _ = rows.rows(kept, FITS)
    for mixed, single in zip(beside, alone, strict=True):
        one = mixed.data == 1
        assert single.books == "llama.cpp" or 0 < one.sum() < one.size
        for name in ALIKE:
            found, expected = (getattr(sweep.sweep(each, settled), name) for each in (mixed, single))
            np.testing.assert_array_equal(found[one], expected)


def test_only_mixtures_under_vllm_are_tried_with_ranks() -> None:
    for model, several in ((LLAMA, False), (QWEN, True)):
        kept, _ = options(ask(model, device("h100-sxm5-80", 8)))
        for block in rows.rows(kept, FITS)[0]:
            assert bool((block.data > 1).any()) is (several and block.books == "vllm")
            split = block.data > 1
            assert block.expert[split].all()
            assert (block.pipeline[split] == 1).all()
            assert (block.tensor * block.pipeline * block.data <= 8).all()


@pytest.mark.parametrize("name", [DEEPSEEK, QWEN, "Qwen/Qwen3-Next-80B-A3B-Instruct"])
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_divide_experts_and_nothing_else(name: str, ranks: int) -> None:
    one = terms(name, "h200-sxm5", (1, 1, True, 1))
    all_of_it, experts = device_weight_bytes(one.weights, one.shape, one.layout), one.weights.expert_bytes
    split = terms(name, "h200-sxm5", (1, 1, True, ranks))
    held = device_weight_bytes(split.weights, split.shape, split.layout)
    whole = experts + one.weights.expert_whole_bytes
    assert all_of_it - held == pytest.approx(whole * (1 - 1 / ranks), rel=1e-9)
    assert devices_of(split.layout) == ranks


def test_shared_experts_are_whole_where_ranks_of_several_devices_deal_out_tokens() -> None:
    """Latent layers of DeepSeek's class; GLM-4.5's splits them as ever (vLLM's own: tests/memory)."""
    for name, whole in ((DEEPSEEK, True), ("zai-org/GLM-4.5-Air", False)):
        one = terms(name, "h200-sxm5", (2, 1, True, 1))
        four = replace(one, layout=replace(one.layout, data=4.0))
        lost = device_weight_bytes(one.weights, one.shape, one.layout)
        lost -= device_weight_bytes(four.weights, four.shape, four.layout)
        experts = (one.weights.expert_bytes + one.weights.expert_whole_bytes) / 2 * (1 - 1 / 4)
        assert experts - lost == pytest.approx(whole * one.weights.shared_bytes / 2, rel=1e-6)


def test_a_latent_cache_grows_with_ranks_and_not_with_tensor_parallel() -> None:
    """Tokens that eight devices hold together: every one of a tensor-parallel group keeps the same ones."""

    def tokens(place: rows.Place) -> float:
        made = terms(DEEPSEEK, "h200-sxm5", place)
        return room(made, 8.0, "vllm").cache_bytes / room(made, 8.0, "vllm").longest_bytes * made.layout.data

    held = [tokens(place) for place in ((8, 1, False, 1), (4, 1, True, 2), (2, 1, True, 4), (1, 1, True, 8))]
    assert held == sorted(held)
    assert held[-1] > 3 * held[0]


def test_activations_of_experts_see_the_tokens_of_all_ranks() -> None:
    taken = {n: room(terms(DEEPSEEK, "h200-sxm5", (1, 1, True, n)), 1.0, "vllm").activation_bytes for n in (1, 2, 4, 8)}
    grown = [(taken[n] - taken[1]) / (n - 1) for n in (2, 4, 8)]
    assert grown[0] > 0
    assert grown == pytest.approx([grown[0]] * 3, rel=1e-9)


@given(RANKS, st.floats(0.01, 5000.0), st.floats(1.0, 3.0))
def test_the_fullest_rank_has_its_share_and_less_than_one_more(ranks: float, tokens: float, more: float) -> None:
    most = fullest(ranks, tokens)
    assert min(tokens, tokens / ranks) <= most <= min(tokens, max(tokens / ranks + 0.5, 1.0))
    assert fullest(ranks, tokens * more) >= most
    assert fullest(1.0, tokens) == tokens


@settings(max_examples=200, deadline=None)
@given(works, rates, RANKS, st.floats(1.0, 512.0), st.floats(16.0, 20_000.0))
def test_ranks_obey_the_devices(
    work: Work[float], able: Rates[float], ranks: float, batch: float, context: float
) -> None:
    """No step beats the bytes and operations of the fullest rank; nobody alone is served sooner by more ranks than by
    what they take from the experts' bytes."""
    shared = among(work, ranks)
    step = speed.decode_step_s(shared, able, batch, context)
    cache = batch / ranks * (shared.cache_bytes_per_token * context + shared.cache_bytes_fixed)
    assert step >= (shared.dense_bytes + cache) / able.bandwidth * (1 - 1e-9)
    routed = shared.expert_flops * ranks
    own = batch / ranks * shared.flops_per_token
    assert step >= own / able.matrix_peak * (1 - 1e-9)
    assert speed.decode_step_s(shared, able, 2 * batch, context) >= step * (1 - 1e-9)
    alone = speed.prefill_s(shared, able, context, 0.0)
    assert alone >= context * (shared.flops_per_token - routed * (1 - 1 / ranks)) / able.matrix_peak * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(works, rates, RANKS, st.floats(1.0, 512.0))
def test_prompts_on_more_ranks_at_once_cost_each_less(
    work: Work[float], able: Rates[float], ranks: float, batch: float
) -> None:
    """As many prompt tokens: on one rank alone they take longest, dealt out evenly they take least."""
    shared, new = among(work, ranks), 512.0
    beside = speed.decoding(shared, able, batch)

    def joining(most: float) -> float:
        attention = speed.prompt_attention_s(shared, able, most, 256.0)
        longer = speed.lengthening_s(shared, able, beside, (new, most), attention)
        return speed.joining_s(shared, able, new, longer, most)

    parts = [joining(new / n) for n in (1.0, max(ranks / 2, 1.0), ranks)]
    assert parts == sorted(parts, reverse=True)


@settings(max_examples=100, deadline=None)
@given(works, rates, RANKS, st.floats(1.0, 512.0))
def test_one_rank_among_equals_multiplies_what_all_of_them_do(
    work: Work[float], able: Rates[float], ranks: float, own: float
) -> None:
    """The board's view of a rank as a replica of its own, where every rank has as many tokens."""
    shared, dense_tiles = among(work, ranks), replace(able, tile_rows=0.0)
    each = speed.each_rank(shared)
    together = speed.matrix_s(shared, dense_tiles, ranks * own, own)
    assert speed.matrix_s(each, dense_tiles, own) == pytest.approx(together, rel=1e-9)
    sent = speed.collective_s(each, able, own)
    assert sent == pytest.approx(shared.exchanges * able.exchange_s + speed.sent_s(shared, able, ranks * own, own))


def test_tokens_travel_once_to_experts_and_back_over_all_devices() -> None:
    """DeepSeek-V3, 58 MoE layers of 7168: 16-bit vectors of every token but one's own share, there and back."""
    done = device_work(terms(DEEPSEEK, "h200-sxm5", (1, 1, True, 8)), "vllm")
    assert done.gathered_bytes_per_token == 2 * 58 * 7168 * 2 * 7 / 8
    assert done.exchange_bytes_per_token == 0
    assert done.exchanges == 2 * 58 * 3


def test_a_latent_mixture_under_load_is_served_by_ranks() -> None:
    """The case that tensor parallel is worst at. The launch gives vLLM ranks, and each rank its own limits."""
    made = choice(planned(BUSY))
    pool = made.pools[0]
    assert pool.data_parallel > 1
    assert pool.pipeline_parallel == 1
    assert pool.expert_parallel == pool.tensor_parallel * pool.data_parallel
    assert pool.count == pool.replicas * pool.tensor_parallel * pool.data_parallel <= 8
    assert made.estimates["ttft_p95_s"].basis == "assumed"
    assert made.simulated is None
    launch = engines.launch(made, catalog().engine("vllm", "0.33"), LaunchOptions(model=DEEPSEEK))
    assert launch.settings["data-parallel-size"] == pool.data_parallel
    assert launch.settings["enable-expert-parallel"] is True
    assert launch.settings["max-num-seqs"] == pool.settings.max_num_seqs
    assert launch.devices_per_replica == pool.tensor_parallel * pool.data_parallel


def test_ranks_carry_more_of_a_latent_mixture_than_any_layout_without(monkeypatch: pytest.MonkeyPatch) -> None:
    best = choice(planned(BUSY)).estimates["requests_per_s_max"].value
    monkeypatch.setattr(rows, "LAYOUTS", rows.LAYOUTS[rows.LAYOUTS[:, 3] == 1])
    assert best > choice(planned(BUSY)).estimates["requests_per_s_max"].value


def test_its_derivation_names_the_fullest_rank() -> None:
    found = search(BUSY, catalog())
    assert found.choice is not None
    steps = {step.name: step for step in explain.derive(found.choice, found.fits)}
    assert steps["data"].value > 1
    assert steps["fullest"].why
    assert "fewest" in steps["fullest"].why
    assert "gathered_bytes" in steps


def test_devices_of_a_layout_are_all_its_ranks() -> None:
    assert devices_of(Layout(tensor=2.0, pipeline=1.0, expert=1.0, data=4.0)) == 8
    assert devices_of(Layout(tensor=2.0, pipeline=3.0)) == 6
