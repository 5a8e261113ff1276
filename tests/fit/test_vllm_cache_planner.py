"""vLLM 0.33's own cache planner divides the pools that we hand out. Slow: needs the tool environment."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from catalog import tensors
from catalog.model import Model
from planner.picture import Outcome
from tests.fit.test_headroom import one, seen
from tests.plan.asking import catalog, device
from tests.tools.vllm_parser import vllm_parser

pytestmark = pytest.mark.slow
FULL = {
    "meta-llama/Llama-3.1-8B-Instruct": (1, 2, 4),
    "Qwen/Qwen3-32B": (1, 4),
    "Qwen/Qwen3-30B-A3B": (1, 4, 8),
    "deepseek-ai/DeepSeek-V3": (8,),
    "deepseek-ai/DeepSeek-V2-Lite-Chat": (1, 2),
}
"""Models of full and of latent attention, with tensor parallel sizes up to more devices than KV heads."""
WINDOWED = {"openai/gpt-oss-20b": (1, 4), "google/gemma-3-27b-it": (1, 4)}
CACHES, CONTEXTS = ("auto", "fp8"), (8192, 20_000)
Case = tuple[str, int, str, int]


def cases(models: dict[str, tuple[int, ...]]) -> list[Case]:
    sizes = [(model, tensor) for model, several in models.items() for tensor in several]
    return [(model, tensor, cache, context) for (model, tensor), cache, context in product(sizes, CACHES, CONTEXTS)]


def ours(case: Case) -> Outcome:
    model, tensor, cache, context = case
    lane = "mxfp4" if "gpt-oss" in model else "fp8"
    on = device("b200-sxm" if tensor == 8 else "h200-sxm5", tensor)
    return one(model, on, lane=lane, engine="vllm", tensor_parallel=tensor, kv_cache=cache, context=context)


def layers(model: Model, tensor: int, cache: str) -> list[dict[str, Any]]:
    """What one device caches, as vLLM's model files declare it."""
    full: dict[str, Any] = {"count": tensors.full_layers(model), "kind": "full", "dtype": cache, "window": 0}
    if model.mla is not None:
        return [full | {"kind": "latent", "heads": 1, "width": model.mla.kv_lora + model.mla.rope}]
    wide = {"heads": max(1, (model.global_kv_heads or model.kv_heads) // tensor)}
    made = [full | wide | {"width": model.global_head_dim or model.head_dim}]
    if model.window is not None:
        heads = max(1, model.kv_heads // tensor)
        window = {"count": model.window.layers, "window": model.window.tokens, "kind": "window"}
        made.append(full | window | {"heads": heads, "width": model.head_dim})
    return made


def theirs(asked: list[Case], pools: list[float], scratch: Path) -> list[dict[str, Any]]:
    written = []
    for case, pool in zip(asked, pools, strict=True):
        flags = ours(case).flags
        written.append(
            {
                "context": case[3],
                "sequences": flags.max_num_seqs,
                "step_tokens": flags.max_num_batched_tokens,
                "pool_bytes": pool,
                "layers": layers(catalog().model(case[0]), case[1], case[2]),
            }
        )
    return vllm_parser().plan_caches(written, scratch)


def pool(case: Case) -> float:
    return seen(ours(case)).parts[-1].bytes.value


def test_tokens_and_concurrency_agree_to_a_block(tmp_path: Path) -> None:
    """44 combinations: dense, experts and latent attention, tensor parallel, 16-bit and FP8 cache, two contexts."""
    asked = cases(FULL)
    assert len(asked) >= 40
    for case, answer in zip(asked, theirs(asked, [pool(case) for case in asked], tmp_path), strict=True):
        picture = seen(ours(case))
        block = 64 if catalog().model(case[0]).mla else 16
        tokens = answer["blocks"] * block
        assert abs(picture.kv_tokens - tokens) <= block + 1e-5 * tokens, case
        assert picture.max_concurrency == pytest.approx(answer["concurrency"], rel=2e-3), case


def test_it_starts_exactly_when_theirs_does(tmp_path: Path) -> None:
    """A pool of just what we call needed starts, one block less does not."""
    asked = [case for case in cases(FULL) if catalog().model(case[0]).mla is None]
    needed = [seen(ours(case)).needed_bytes * (1 + 1e-5) for case in asked]
    assert [case for case, made in zip(asked, theirs(asked, needed, tmp_path), strict=True) if "error" in made] == []
    blocks = [seen(ours(case)).sequence_bytes / -(-case[3] // 16) for case in asked]
    short = [size - block for size, block in zip(needed, blocks, strict=True)]
    started = [case for case, made in zip(asked, theirs(asked, short, tmp_path), strict=True) if "error" not in made]
    assert started == []


@pytest.mark.xfail(strict=True, reason="windowed layers also hold the tokens of one step, in equal groups: not counted")
def test_windowed_layers_agree(tmp_path: Path) -> None:
    asked = cases(WINDOWED)
    for case, answer in zip(asked, theirs(asked, [pool(case) for case in asked], tmp_path), strict=True):
        assert seen(ours(case)).max_concurrency == pytest.approx(answer["concurrency"], rel=0.02), case
