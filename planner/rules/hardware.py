"""H rules: what devices, engines and layouts can do."""

from __future__ import annotations

from catalog.units import GIB
from planner.lanes.lane import GROUPS
from planner.rules.rule import Cached, Measured, Pairing, Says, Shown, rule

LITTLE_ROOM = 0.1
"""Share of the cache left over below which a plan is tight: about what memory estimates are off by on unseen models."""


@rule("H101", "refuse")
def no_kernel(case: Pairing) -> Says | None:
    """Refuses a lane that the engine version has no kernel for on this device, or whose groups no kernel takes.

    Why: the engine would stop at start-up, or fall back to code that nobody runs in production. Four-bit integers come
    in groups of 32, 64 or 128 weights (Marlin -1/32/64/128, Machete -1/64/128): a checkpoint in groups of 256 does not
    load.
    Articles: A1 and A2 pair formats with engines (GPTQ and AWQ with vLLM, GGUF with llama.cpp, "GPTQ requires CUDA")
    and say AWQ may not support mixtures of experts. The kernel rows decide: vLLM 0.33 has ROCm kernels for GPTQ, none
    on Metal, serves AWQ mixtures (two measured, -0.1 and -0.6 MMLU-Pro points), refuses GGUF and, on Blackwell, INT8
    W8A8 (vllm issue 54311).
    Source: the kernel rows of the engine's data file, read from its code.
    Fires: --model Qwen/Qwen3-8B --on b200-sxm --qps 1 --lanes int8-w8a8
    Silent: --model Qwen/Qwen3-8B --on h100-sxm5-80 --qps 1 --lanes int8-w8a8
    """
    if case.kernel is not None and not case.kernel.refuse:
        return _no_expert_kernel(case) or _odd_groups(case)
    facts = {
        "lane": case.lane.id,
        "engine": case.engine.version,
        "compute_capability": case.device.accelerator.compute_capability,
    }
    if case.kernel is None:
        because = (
            f"{case.engine.id} {case.engine.version} has no kernel for {case.lane.id} on {case.device.accelerator.name}"
        )
        return Says(because=because, facts=facts, source=case.engine.source)
    return Says(because=case.kernel.refuse or "", facts=facts, source=case.kernel.source)


def _no_expert_kernel(case: Pairing) -> Says | None:
    kernel = case.kernel
    if kernel is None or kernel.refuse_experts is None or case.model.moe is None:
        return None
    return Says(because=kernel.refuse_experts, facts={"lane": case.lane.id}, source=kernel.source)


def _odd_groups(case: Pairing) -> Says | None:
    group = case.method.recipe.group_size
    if case.lane.family != "4-bit integer" or case.engine.id != "vllm" or group is None or group in GROUPS:
        return None
    sizes = ", ".join(map(str, sorted(GROUPS)))
    name = case.artifact.repo if case.artifact is not None else case.lane.id
    return Says(
        because=f"{name} is quantized in groups of {group}: the four-bit kernels of vLLM take {sizes}",
        facts={"lane": case.lane.id, "group_size": group},
        source="vllm 0.33 kernels/mixed_precision: Marlin -1/32/64/128, Machete -1/64/128",
    )


@rule("H103", "refuse")
def unplanned_layout(case: Pairing) -> Says | None:
    """Refuses a model whose attention layout has no formula here.

    Why: its cache per token would be a guess, and a plan that guesses memory is worthless.
    Source: the model's own config.json.
    Fires: --model google/gemma-4-12B-it --on h200-sxm5:8 --qps 0.1
    Silent: --model Qwen/Qwen3-8B --on h200-sxm5:8 --qps 0.1
    """
    if case.model.unplanned is None:
        return None
    return Says(
        because=f"{case.model.id}: {case.model.unplanned}",
        facts={"attention": case.model.attention},
        source=case.model.source,
    )


@rule("H104", "refuse")
def unconfirmed_facts(case: Pairing) -> Says | None:
    """Refuses a choice that would rest on facts from memory alone (confidence C).

    Why: a purchase must not hang on a number that nobody has looked up; `lanewise catalog doubts` lists them.
    Source: the catalogue's own confidence marks.
    Fires: --model Qwen/Qwen3-8B --on b100 --qps 1
    Silent: --model Qwen/Qwen3-8B --on b200-sxm --qps 1
    """
    device, math = case.device.accelerator, case.kernel.math if case.kernel else "bf16"
    if not device.in_doubt and case.model.confidence != "C":
        return None
    fields = ["bandwidth", *(["memory"] if case.device.ask is None or case.device.ask.memory_gib is None else [])]
    fields += [math] if device.peak(math) is not None else []
    doubtful = [name for name in fields if device.doubtful(name)]
    if case.model.confidence == "C":
        return Says(
            because=f"the dimensions of {case.model.id} are unconfirmed: read its folder or repository instead",
            facts={"confidence": "C"},
            source=case.model.source,
        )
    if not doubtful:
        return None
    return Says(
        because=f"{', '.join(doubtful)} of {device.name} {'is' if len(doubtful) == 1 else 'are'} unconfirmed: add an entry with a source",
        facts={"fields": doubtful},
        source=device.source_of(doubtful[0]),
    )


@rule("H105", "refuse")
def memory_unknown(case: Pairing) -> Says | None:
    """Refuses a device whose memory depends on the machine while the request does not state it.

    Why: hosts and unified-memory machines are sold with many sizes.
    Source: the contract: `memory_gib` or `host_ram_gib` in the request.
    Fires: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05
    Silent: --model Qwen/Qwen3-8B --on epyc-9654 --qps 0.05 --set hardware.accelerators[0].host_ram_gib=256
    """
    if case.device.memory is not None:
        return None
    return Says(because=f"state memory_gib or host_ram_gib: the memory of {case.device.accelerator.name} varies")


@rule("H106", "refuse")
def beyond_the_models_context(case: Pairing) -> Says | None:
    """Refuses a context longer than the model's positions.

    Why: vLLM refuses a max_model_len above max_position_embeddings; stretched positions must be configured by hand.
    Source: vllm config/model.py; max_position_embeddings in config.json.
    Fires: --model Qwen/Qwen2.5-7B-Instruct --on h100-sxm5-80 --qps 1 --context 131072
    Silent: --model Qwen/Qwen2.5-7B-Instruct --on h100-sxm5-80 --qps 1 --context 32768
    """
    context, most = case.settled.load.context, case.model.max_position
    if context <= most:
        return None
    return Says(
        because=f"{context:,} tokens of context exceed the model's {most:,} positions",
        facts={"context_tokens_max": context, "max_position": most},
        source=case.model.source,
    )


@rule("H107", "refuse")
def no_compute_rate(case: Pairing) -> Says | None:
    """Refuses a device for which no source states any matrix or fp32 rate.

    Why: prompt time would be a guess.
    Articles: A3 quotes 3,958 FP8 and 1,979 BF16 TFLOPS for an H100: with sparsity. Dense 1,979 and 989; B200 over H100
    is 2.27 times in FP8 (4,500 to 1,979), not 2; H200 has the same rates and 1.43 times the bandwidth (4.8 to 3.35
    TB/s), not double.
    Source: the catalogue.
    Fires: --model Qwen/Qwen3-8B --on apple-m5 --qps 0.05 --set hardware.accelerators[0].memory_gib=24
    Silent: --model Qwen/Qwen3-8B --on apple-m3 --qps 0.05 --set hardware.accelerators[0].memory_gib=24
    """
    device = case.device.accelerator
    if device.bf16 or device.fp16 or device.fp32 or device.kind == "cpu":
        return None
    return Says(because=f"no arithmetic rate of {device.name} is known: add one with its source", source=device.source)


@rule("H110", "refuse")
def no_sixteen_bit_original(case: Pairing) -> Says | None:
    """Refuses 16-bit lanes of a model that was published in fewer bits.

    Why: its 8- or 4-bit weights are the original; widening them costs memory and wins nothing.
    Articles: A2 calls quantization-aware training a research matter. gpt-oss ships in MXFP4 and Kimi-K2.5 in INT4
    trained so: 16-bit lanes of such models are refused, their published format is the original.
    Source: quantization_config in the model's config.json.
    Fires: --model deepseek-ai/DeepSeek-V3 --on b200-sxm:8 --qps 0.5 --lanes bf16
    Silent: --model deepseek-ai/DeepSeek-V3 --on b200-sxm:8 --qps 0.5 --lanes fp8
    """
    native = case.model.native
    if case.lane.family != "16-bit" or native in ("bf16", "fp16"):
        return None
    return Says(
        because=f"{case.model.id} is published in {native}: there is no 16-bit original to serve",
        facts={"native": native},
        source=case.model.source,
    )


@rule("H111", "refuse")
def nothing_to_quantize_from(case: Pairing) -> Says | None:
    """Refuses to quantize anew a model without a 16-bit original; published checkpoints of it remain possible.

    Why: quantizing a quantized checkpoint adds the errors of both, and no tool's recipe covers it.
    Source: llm-compressor and llama-quantize take 16-bit input (requantizing needs a special flag).
    Fires: --model openai/gpt-oss-20b --on l40s --qps 0.5 --lanes awq-int4
    Silent: --model Qwen/Qwen3-14B --on l40s --qps 0.5 --lanes awq-int4
    """
    native = case.model.native
    unpublished = case.artifact is None and case.lane.id != native and case.lane.family != "16-bit"
    if not unpublished or native in ("bf16", "fp16"):
        return None
    return Says(
        because=f"no published {case.lane.id} checkpoint is known, and {case.model.id} has no 16-bit original to make one from",
        facts={"native": native},
        source=case.model.source,
    )


@rule("H112", "note")
def kernel_note(case: Pairing) -> Says | None:
    """Notes what the kernel of this lane does on this device, for example that FP8 runs weight-only on Ampere.

    Why: speed and memory follow the kernel, not the name of the lane.
    Articles: A3 denies L40 and RTX 4090 native FP8 and says emulated FP8 gains nothing. Both have compute capability
    8.9 and run FP8 W8A8; below 8.9 FP8 is weight-only: an A100 with 8B plans at 7.2 instead of 11.2 ms per token for
    one user, 34.4 instead of 28.9 for 64. A2 says vLLM expects Marlin for AWQ: Machete on 9.0, Marlin from 7.5.
    Source: the kernel rows of the engine's data file.
    Fires: --model Qwen/Qwen3-8B --on a100-sxm4-80 --qps 1 --lanes fp8
    Silent: --model Qwen/Qwen3-8B --on a100-sxm4-80 --qps 1 --lanes bf16
    """
    kernel = case.kernel
    if kernel is None or kernel.refuse:
        return None
    plain = (
        kernel.path.endswith("weight-only")
        and f"{kernel.name} reads {case.lane.id} weights and multiplies in {kernel.math}"
    )
    said = [note for note in (kernel.note or plain, case.model.moe is not None and kernel.experts) if note]
    if not said:
        return None
    return Says(because="; ".join(said), facts={"kernel": kernel.name, "math": kernel.math}, source=kernel.source)


@rule("H120", "refuse")
def no_such_cache(case: Cached) -> Says | None:
    """Refuses a cache format that the engine cannot use on this device, or only for shorter contexts.

    Why: the engine would refuse to start, or silently keep 16 bits. vLLM before 0.12 summed FP8 attention on Hopper in
    too few bits: needles at 128k were found in 13 of 100 cases, 89 with the fix, 91 without a quantized cache (Q1571,
    Q1572).
    Articles: A2 advises an 8-bit KV cache for multi-turn chat and long context from vLLM 0.4 on; which formats the
    attention kernels take depends on device and version (FA3 on 9.0 for e4m3, FlashInfer elsewhere).
    Source: the cache rows of the engine's data file.
    Fires: --model Qwen/Qwen3-8B --on t4:2 --qps 0.1
    Silent: --model Qwen/Qwen3-8B --on l4:2 --qps 0.1
    """
    row = case.format
    if row is not None and (row.refuse is None or case.pairing.settled.load.context <= row.refuse_above):
        return None
    because = row.refuse if row and row.refuse else f"{case.pairing.engine.id} has no {case.dtype} cache on this device"
    return Says(because=because, facts={"kv_cache_dtype": case.dtype}, source=row.source if row else "")


@rule("H201", "refuse")
def cannot_start(case: Measured) -> Says | None:
    """Refuses a layout whose weights, activations and graphs leave the cache nothing.

    Why: the engine stops at start-up with "No available memory for the cache blocks".
    Articles: A1: 70B is 140 GB in BF16, 70 in INT8, 35 in INT4, about 20 with KV quantization, and runs on one 24 GB
    card. Planned: 131.4, 67.7 and 36.8-39.6 GiB (141, 73, 40-43 GB); KV bits do not shrink weights; every 4-bit lane is
    refused on a 24 GB card. A2: four A100-40 peak at 180 GB: 160 GB cannot, BF16 needs six. A3: Q4_K_M 75 % smaller: 69
    % (14.96 to 4.58 GiB).
    Source: the engine's memory accounting (docs/reference, constants in its data file).
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on l4 --qps 0.1 --lanes fp8
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l4 --qps 0.1 --lanes fp8
    """
    if case.cache_bytes > 0:
        return None
    return Says(
        because=f"weights of {case.weight_bytes / GIB:.1f} GiB per device and the engine's own memory exceed the {case.claimed_bytes / GIB:.1f} GiB it may claim",
        facts={
            "weight_bytes": round(case.weight_bytes),
            "claimed_bytes": round(case.claimed_bytes),
            "short_bytes": round(-case.cache_bytes),
        },
    )


@rule("H202", "refuse")
def longest_context_does_not_fit(case: Measured) -> Says | None:
    """Refuses a layout whose cache cannot hold one sequence of the longest context.

    Why: vLLM refuses to start with that max_model_len; llama.cpp would have to shrink the context.
    Articles: A1: hundreds of concurrent users from one model. The cache and the longest context bound them: 320 KiB per
    token of a 70B (A1-052).
    Source: vllm v1/core/kv_cache_utils.py check_enough_kv_cache_memory.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on rtx4090 --qps 0.05 --lanes bf16 --context 131072
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on rtx4090 --qps 0.05 --lanes bf16 --context 8192
    """
    if case.cache_bytes <= 0 or case.cache_bytes >= case.longest_bytes:
        return None
    context = case.placed.pairing.settled.load.context
    return Says(
        because=f"one sequence of {context:,} tokens needs {case.longest_bytes / GIB:.1f} GiB of cache per device, {case.cache_bytes / GIB:.1f} GiB are left",
        facts={"longest_bytes": round(case.longest_bytes), "cache_bytes": round(case.cache_bytes)},
    )


@rule("H203", "warn")
def little_room(case: Shown) -> Says | None:
    """Warns where less than a tenth of the cache is left over: an estimate that is a little off would not start.

    Why: other processes, another driver or a longer prompt take what is missing here.
    Articles: A1: 70B INT8 fits one A100-80; A2: memory about the model size suffices for INT8. It starts with 2.2 GiB
    left for the cache, about 7,000 tokens (A1-007b, A2-109a).
    Source: intervals of the memory estimates.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on rtx4090 --qps 0.02 --lanes bf16 --context 40960
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on rtx4090 --qps 0.02 --lanes bf16 --context 8192
    """
    left = case.cache_bytes - case.needed_bytes
    if case.cache_bytes <= 0 or left >= LITTLE_ROOM * case.cache_bytes:
        return None
    return Says(
        because=f"{case.needed_bytes / GIB:.1f} of {case.cache_bytes / GIB:.1f} GiB of cache are needed: little is left over",
        facts={"needed_bytes": round(case.needed_bytes), "cache_bytes": round(case.cache_bytes)},
    )
