"""The pool in blocks, held to what vLLM's own planner answered for the same layers (research/engines.md §1.4)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from planner import memory, pages
from planner.memory import Accounting
from planner.work import Layout, shape
from tests.plan.asking import catalog

GIB = 2.0**30
ONE = Layout(tensor=1.0, pipeline=1.0)
ASKED = {
    "8B at 16 bits": ("meta-llama/Llama-3.1-8B-Instruct", 2.0, 16.0, 10, 8192, 5120, 81_920, 10.0),
    "8B at 8 bits": ("meta-llama/Llama-3.1-8B-Instruct", 1.0, 16.0, 10, 8192, 10_240, 163_840, 20.0),
    "12 windows of 128 and 12 full layers": ("openai/gpt-oss-20b", 2.0, 16.0, 10, 131_072, 27_306, 410_771, 3.134),
    "52 windows of 1024 and 10 full layers": ("google/gemma-3-27b-it", 2.0, 16.0, 20, 131_072, 16_384, 184_270, 1.406),
    "61 layers of latent attention": ("deepseek-ai/DeepSeek-V3", 2.0, 64.0, 20, 131_072, 4774, 305_536, 2.331),
}


def printed(name: str, fixed: Accounting[float]) -> tuple[float, float, float]:
    """Blocks, tokens and concurrency of a case."""
    key, cell, least, gib, context, *_ = ASKED[name]
    model = shape(catalog().model(key))
    block = pages.block_tokens(model, cell, ONE, least)
    blocks = pages.pool_blocks(gib * GIB, pages.block_bytes(model, cell, ONE, block))
    each = pages.sequence_blocks(model, fixed, block, float(context), fixed.steps_in_flight * 8192.0)
    fits = pages.concurrency(blocks, each)
    return blocks, pages.printed_tokens(model, fixed, (blocks, block), fits, float(context)), fits


@pytest.mark.parametrize("name", ASKED)
def test_blocks_tokens_and_concurrency_are_those_of_vllm(name: str) -> None:
    engine = catalog().engine("vllm", "0.33")
    fixed = memory.accounting(replace(engine, constants=engine.constants | {"steps_in_flight": 1.0}), "9.0")
    blocks, tokens, fits = printed(name, fixed)
    *_, expected_blocks, expected_tokens, expected_fits = ASKED[name]
    assert blocks == expected_blocks
    assert tokens == pytest.approx(expected_tokens, abs=64)
    assert fits == pytest.approx(expected_fits, abs=6e-4)


@pytest.mark.parametrize("name", ["12 windows of 128 and 12 full layers", "52 windows of 1024 and 10 full layers"])
def test_a_second_step_in_flight_costs_windows_room(name: str) -> None:
    _, _, now = printed(name, memory.accounting(catalog().engine("vllm", "0.33"), "9.0"))
    _, _, then = printed(name, memory.accounting(catalog().engine("vllm", "0.19"), "9.0"))
    assert now < then


def test_a_full_window_never_takes_more_than_a_full_layer() -> None:
    model, fixed = shape(catalog().model("google/gemma-3-27b-it")), memory.accounting(catalog().engine("vllm"), "9.0")
    for context in (100.0, 1024.0, 5000.0, 40_000.0):
        groups = model.full_groups + model.window_groups
        blocks = pages.sequence_blocks(model, fixed, 16.0, context, 2048.0)
        assert blocks <= groups * (context // 16 + 2)
