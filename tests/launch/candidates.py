"""Representative candidates, written by hand: what the search could choose, without the search."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

import catalog.engine
from catalog.engine import Engine
from catalog.load import load
from planner.launch import Adapter, LaunchOptions
from planner.plan import ArtifactRef, Calibration, Candidate, Estimate, Finding, Make, Pool, Recipe, Settings
from planner.render import Reasons

DATA = Path(catalog.engine.__file__).parent / "data" / "engines"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
REASONS = Reasons(
    plan_id="plan-of-a-test",
    findings=(
        Finding(rule="Q3", effect="prefer", because="FP8 loses less on code than INT4.", source="arXiv 2411.02355"),
    ),
    sources=("a row of the evidence table",),
)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate, the user's choices, and the shape of the model that vLLM's parser checks it against."""

    candidate: Candidate
    options: LaunchOptions
    model: str = "dense"
    """Key of tests/tools/vllm_parser.py MODELS; it says nothing for llama.cpp."""


@cache
def engine(name: str) -> Engine:
    """The facts of one engine version: `vllm-0.33`."""
    return load().engine(*name.rsplit("-", 1))


def facts(candidate: Candidate) -> Engine:
    return engine({"vllm": "vllm-0.33", "llama.cpp": "llama.cpp-0.3.36"}[candidate.engine])


def settings(length: int, requests: int, batched: int = 8192, share: float = 0.92) -> Settings:
    return Settings(
        max_model_len=length, max_num_seqs=requests, max_num_batched_tokens=batched, gpu_memory_utilization=share
    )


def pool(accelerator: str, chosen: Settings, **layout: int) -> Pool:
    """One serving pool; `count` follows from the layout."""
    split = {"replicas": 1, "tensor_parallel": 1, "pipeline_parallel": 1, "data_parallel": 1, "expert_parallel": 1}
    split |= layout
    devices = split["replicas"] * split["tensor_parallel"] * split["pipeline_parallel"] * split["data_parallel"]
    return Pool(role="serve", accelerator=accelerator, count=devices, settings=chosen, **split)


def published(repo: str, publisher: str, revision: str | None = None) -> ArtifactRef:
    return ArtifactRef(
        repo=repo,
        revision=revision,
        publisher=publisher,
        license="llama3.1",
        gated=False,
        checked="2026-08-21",
        format="compressed-tensors",
        source="vllm-project/recipes@8959cf6",
    )


TEXT = Calibration(
    domains={"chat": 0.7, "code": 0.3}, languages={"de": 0.4, "en": 0.6}, chat_format=True, samples=512,
    sequence_length=2048, public=("ultrachat_200k", "evolcodealpaca"),
)  # fmt: skip
MADE = Make(
    tool="llm-compressor", scheme="W4A16", because="No W4A16 checkpoint of this model is published.", algorithm="GPTQ",
    symmetric=True, group_size=128, ignore=("lm_head",), calibration=TEXT, host_ram_bytes=16e9,
)  # fmt: skip


def vllm(lane: str, recipe: Recipe, kernel: str, pools: Pool, **more: object) -> Candidate:
    return msgspec.structs.replace(
        Candidate(
            lane=lane,
            recipe=recipe,
            kernel=kernel,
            engine="vllm",
            engine_version="0.33.0",
            image="vllm/vllm-openai:v0.33.0",
            kv_cache_dtype="auto",
            pools=(pools,),
            estimates={
                "ttft_p95_s": Estimate(value=0.412, low=0.3, high=0.6, basis="fitted", unit="s"),
                "kv_pool_bytes": Estimate(value=30 * 2**30, low=28 * 2**30, high=31 * 2**30, basis="fitted", unit="B"),
            },
        ),
        **more,
    )


def llamacpp(lane: str, kernel: str, pools: Pool, **more: object) -> Candidate:
    recipe = Recipe(name=lane.partition(":")[2], algorithm="k-quant")
    return vllm(
        lane,
        recipe,
        kernel,
        pools,
        **({"engine": "llama.cpp", "engine_version": "0.3.36", "kv_cache_dtype": "f16"} | more),
    )


BF16 = Recipe(name="bf16", algorithm="none", training="native")
CAST = Recipe(name="fp16", algorithm="cast")
DYNAMIC = Recipe(name="fp8-dynamic", algorithm="RTN", symmetric=True)
ONLINE = Recipe(name="fp8-online", algorithm="RTN", symmetric=True, online=True)
AWQ = Recipe(name="awq", algorithm="AWQ", symmetric=False, group_size=128)
GPTQ = Recipe(name="gptq", algorithm="GPTQ", symmetric=True, group_size=128)
RED_HAT_FP8 = published("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic", "RedHatAI", "4a3f0d2b")

CASES: dict[str, Case] = {
    "fp8-h100-tp2": Case(
        candidate=vllm(
            "fp8", DYNAMIC, "cutlass-fp8", pool("h100-sxm5-80", settings(16384, 64), tensor_parallel=2),
            artifact=RED_HAT_FP8,
        ),
        options=LaunchOptions(model=LLAMA_70B),
        model="dense-fp8",
    ),
    "fp8-online-l40s-replicas": Case(
        candidate=vllm(
            "fp8", ONLINE, "cutlass-fp8", pool("l40s", settings(8192, 96, 4096), replicas=3),
            make=Make(tool="vllm", scheme="fp8_per_channel", because="nothing to make: vLLM quantizes while loading"),
        ),
        options=LaunchOptions(model=LLAMA_8B, revision="0e9e39f2", served_name="support-chat"),
    ),
    "awq-a10g": Case(
        candidate=vllm(
            "awq-int4", AWQ, "marlin weight-only", pool("a10g", settings(8192, 48, 2048, 0.9)),
            artifact=published("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "hugging-quants"),
        ),
        options=LaunchOptions(model=LLAMA_8B),
        model="dense-awq",
    ),
    "bf16-a100-tp4-pp2": Case(
        candidate=vllm(
            "bf16", BF16, "cublas-bf16",
            pool("a100-sxm4-80", settings(32768, 32, 2048), tensor_parallel=4, pipeline_parallel=2),
        ),
        options=LaunchOptions(model=LLAMA_70B, host="0.0.0.0", port=9000),
    ),
    "fp8-moe-ep-h200": Case(
        candidate=vllm(
            "fp8", Recipe(name="fp8-block", algorithm="RTN", training="native"), "deepgemm-block-fp8",
            pool("h200-sxm5", settings(32768, 256), tensor_parallel=4, data_parallel=2, expert_parallel=8),
            artifact=published("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "Qwen"),
        ),
        options=LaunchOptions(model="Qwen/Qwen3-30B-A3B-Instruct-2507"),
        model="experts-fp8",
    ),
    "fp8-kv-h100": Case(
        candidate=vllm(
            "fp8", DYNAMIC, "cutlass-fp8", pool("h100-sxm5-80", settings(65536, 24)), kv_cache_dtype="fp8",
            artifact=published("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "RedHatAI"),
        ),
        options=LaunchOptions(model=LLAMA_8B, air_gapped=True, model_path="/srv/models/llama-3.1-8b-fp8"),
        model="dense-fp8",
    ),
    "w4a16-to-make-4090": Case(
        candidate=vllm(
            "w4a16", GPTQ, "marlin weight-only", pool("rtx4090", settings(8192, 32, 2048)),
            make=MADE,
        ),
        options=LaunchOptions(model="Qwen/Qwen3-8B"),
    ),
    "fp16-t4-lora": Case(
        candidate=vllm("fp16", CAST, "cublas-fp16", pool("t4", settings(2048, 8, 2048))),
        options=LaunchOptions(
            model="Qwen/Qwen3-1.7B",
            adapters=(Adapter(name="billing", path="/srv/lora/billing"), Adapter(name="legal", path="/srv/lora/legal")),
            max_lora_rank=32,
        ),
    ),
    "bf16-speculative-h100": Case(
        candidate=vllm(
            "bf16", BF16, "cublas-bf16",
            pool(
                "h100-sxm5-80",
                msgspec.structs.replace(
                    settings(16384, 16),
                    speculative='{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}',
                ),
            ),
        ),
        options=LaunchOptions(model=LLAMA_8B),
    ),
    "bf16-cpu-two-sockets": Case(
        candidate=vllm(
            "bf16", BF16, "onednn-bf16",
            pool("epyc-9755", msgspec.structs.replace(settings(8192, 16, 2048), kv_cache_gib=18), replicas=2),
        ),
        options=LaunchOptions(model=LLAMA_8B),
    ),
    "gptq-cpu-amx": Case(
        candidate=vllm(
            "gptq-int4", GPTQ, "cpu-wna16-amx weight-only",
            pool("xeon-8480", msgspec.structs.replace(settings(4096, 8, 2048), kv_cache_gib=4)),
            kv_cache_dtype="fp8", make=MADE,
        ),
        options=LaunchOptions(model=LLAMA_8B),
    ),
    "gguf-cpu": Case(
        candidate=llamacpp(
            "gguf:Q4_K_M", "ggml-cpu", pool("epyc-9654", settings(8192, 2, 2048)),
            artifact=published("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "bartowski"),
        ),
        options=LaunchOptions(model=LLAMA_8B),
    ),
    "gguf-m3-max": Case(
        candidate=llamacpp(
            "gguf:Q5_K_M", "ggml-metal", pool("apple-m3-max-40c", settings(16000, 4, 2048)), kv_cache_dtype="q8_0",
            make=Make(tool="llama-quantize", scheme="Q5_K_M", because="No Q5_K_M file of this model is published."),
        ),
        options=LaunchOptions(model="Qwen/Qwen3-8B", served_name="qwen"),
    ),
    "gguf-two-gpus": Case(
        candidate=llamacpp(
            "gguf:Q4_K_M", "ggml-cuda", pool("rtx3090", settings(8192, 4, 2048), pipeline_parallel=2, replicas=2),
            artifact=published("bartowski/Meta-Llama-3.1-70B-Instruct-GGUF", "bartowski"),
        ),
        options=LaunchOptions(model=LLAMA_70B, air_gapped=True),
    ),
    "gguf-file": Case(
        candidate=llamacpp("gguf:Q8_0", "ggml-hip", pool("rx7900xtx", settings(4096, 1, 512))),
        options=LaunchOptions(
            model="/srv/models/Qwen3-8B-Q8_0.gguf", served_name="qwen3",
            adapters=(Adapter(name="billing", path="/srv/lora/billing.gguf"),),
        ),
    ),
}  # fmt: skip
