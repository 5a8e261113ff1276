"""What is predicted of a log and what a plan counts are one thing."""

from __future__ import annotations

import pytest

from planner import memory, startup
from planner.lanes import BY_ID
from planner.work import Layout, shape, weights
from tests.fit.test_headroom import one, seen
from tests.plan.asking import catalog, device


@pytest.mark.parametrize("version", ["0.19", "0.33"])
@pytest.mark.parametrize(
    ("name", "model", "tensor", "lane"),
    [
        ("h100-sxm5-80", "meta-llama/Llama-3.1-8B-Instruct", 1, "bf16"),
        ("l40s", "Qwen/Qwen3-30B-A3B", 2, "fp8"),
        ("h200-sxm5", "google/gemma-3-27b-it", 4, "fp8"),
        ("b200-sxm", "Qwen/Qwen3-Next-80B-A3B-Instruct", 2, "bf16"),
        ("a100-sxm4-80", "deepseek-ai/DeepSeek-V2-Lite-Chat", 1, "bf16"),
    ],
)
def test_a_start_logs_what_fit_counts(version: str, name: str, model: str, tensor: int, lane: str) -> None:
    versions = {"vllm": version}
    found = one(model, device(name, tensor), lane=lane, engine="vllm", engine_versions=versions, context=16_384)
    facts, engine, flags = catalog().model(model), catalog().engine("vllm", version), found.flags
    chosen = BY_ID[lane].method(found.recipe)
    assert chosen is not None
    accelerator = catalog().accelerator(name)
    use = startup.Settings(
        layout=Layout(tensor=float(tensor), pipeline=1.0),
        cell_bytes=2.0,
        context=16_384.0,
        slots=float(flags.max_num_seqs),
        chunk=float(flags.max_num_batched_tokens),
        memory=seen(found).device_bytes,
        share=flags.gpu_memory_utilization,
    )
    fixed = memory.accounting(engine, accelerator.compute_capability, version)
    block = float(engine.block(latent=facts.mla is not None))
    log = startup.vllm(shape(facts), weights(facts, chosen), fixed, use, block)
    parts = {part.name: part.bytes.value for part in seen(found).parts}
    assert log.weights == pytest.approx(parts["weights"], rel=1e-5)
    assert log.activation == pytest.approx(parts["activations"], rel=1e-5)
    assert log.outside == pytest.approx(parts["libraries"], rel=1e-5)
    assert log.cache == pytest.approx(parts["KV cache"], rel=1e-4)
    assert log.tokens == pytest.approx(seen(found).kv_tokens, rel=1e-4)
    assert log.concurrency == pytest.approx(seen(found).max_concurrency, rel=1e-4)
    assert log.starts is found.starts
