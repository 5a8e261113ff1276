"""vLLM 0.33's own cache planner divides the pools that we hand out. Slow: needs the tool environment."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from planner import cli
from planner.headroom.picture import Outcome
from planner.oracles import vllm_cache
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
"""Models of full and of latent attention, experts split and whole, with more devices than KV heads."""
WINDOWED = {"openai/gpt-oss-20b": (1, 4), "google/gemma-3-27b-it": (1, 4), "google/gemma-2-9b-it": (1, 2)}
HYBRID = {"Qwen/Qwen3-Next-80B-A3B-Instruct": (2, 4)}
NEXT: dict[str, Any] = {
    "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "hidden_size": 2048,
    "intermediate_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
    "head_dim": 256, "vocab_size": 151936, "max_position_embeddings": 262144, "torch_dtype": "bfloat16",
    "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512, "full_attention_interval": 4,
    "shared_expert_intermediate_size": 512, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
    "partial_rotary_factor": 0.25,
}  # fmt: skip
"""Qwen3-Next's config.json, whose states vLLM's model class computes."""
CACHES, CONTEXTS = ("auto", "fp8"), (8192, 20_000)
Case = tuple[str, int, str, int]


def cases(models: dict[str, tuple[int, ...]], caches: tuple[str, ...] = CACHES) -> list[Case]:
    sizes = [(model, tensor) for model, several in models.items() for tensor in several]
    return [(model, tensor, cache, min(context, catalog().model(model).max_position))
            for (model, tensor), cache, context in product(sizes, caches, CONTEXTS)]  # fmt: skip


def ours(case: Case) -> Outcome:
    model, tensor, cache, context = case
    lane = "mxfp4" if "gpt-oss" in model else "fp8"
    on = device("b200-sxm" if tensor == 8 else "h200-sxm5", tensor)
    return one(model, on, lane=lane, engine="vllm", tensor_parallel=tensor, kv_cache=cache, context=context)


def theirs(asked: list[Case], pools: list[float], **more: Any) -> list[dict[str, Any]]:
    found = [vllm_cache.case(ours(case), catalog().model(case[0])) for case in asked]
    given = [case | {"pool_bytes": pool} | more for case, pool in zip(found, pools, strict=True)]
    return vllm_cache.run(given, vllm_parser().source.parent)


def pool(case: Case) -> float:
    return seen(ours(case)).parts[-1].bytes.value


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("next")
    (folder / "config.json").write_text(json.dumps(NEXT))
    return folder


def compare(asked: list[Case], answers: list[dict[str, Any]]) -> None:
    """Blocks exactly but for the six digits of a printed pool; with them concurrency and tokens."""
    for case, answer in zip(asked, answers, strict=True):
        picture = seen(ours(case))
        assert picture.max_concurrency == pytest.approx(answer["concurrency"], rel=1e-4), case
        assert picture.kv_tokens == pytest.approx(answer["tokens"], rel=1e-4), case


def test_tokens_and_concurrency_agree() -> None:
    """44 combinations: dense, experts and latent attention, tensor parallel, 16-bit and FP8 cache, two contexts."""
    asked = cases(FULL)
    assert len(asked) >= 40
    compare(asked, theirs(asked, [pool(case) for case in asked]))


def test_windowed_layers_agree() -> None:
    asked = cases(WINDOWED)
    compare(asked, theirs(asked, [pool(case) for case in asked]))


def test_linear_layers_agree(hybrid: Path) -> None:
    """The size of a state and of its page are vLLM's own, from the model's config.json."""
    asked = cases(HYBRID, ("auto",))
    compare(asked, theirs(asked, [pool(case) for case in asked], model_folder=str(hybrid)))


def test_it_starts_exactly_when_theirs_does() -> None:
    """A pool of just what we call needed starts, a thousandth less does not."""
    asked = cases(FULL | WINDOWED)
    needed = [seen(ours(case)).needed_bytes for case in asked]
    enough = theirs(asked, [size * (1 + 1e-5) for size in needed])
    assert [case for case, made in zip(asked, enough, strict=True) if "error" in made] == []
    short = theirs(asked, [size * (1 - 1e-3) for size in needed])
    assert [case for case, made in zip(asked, short, strict=True) if "error" not in made] == []


def test_the_command_prints_both(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEWISE_TOOLS_DIR", str(vllm_parser().source.parent.parent))
    words = ("fit", "Qwen/Qwen3-32B", "--on", "h200-sxm5", "--lane", "fp8", "--oracle")
    assert cli.main(words) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    ours_ = next(line for line in lines if line.startswith("maximum concurrency"))
    theirs_ = next(line for line in lines if line.startswith("the engine's own planner"))
    assert f" {ours_.split()[2]} sequences" in theirs_
