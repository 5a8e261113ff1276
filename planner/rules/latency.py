"""L rules: whether the load is carried within the latency objectives."""

from __future__ import annotations

from planner.rules.rule import Measured, Pairing, Says, Shown, listed, rule, whole

FEW_USERS = 4
"""llama-server's default number of slots."""
FEW_RUNNING = 8
"""Running sequences up to which a draft has idle arithmetic to use (assumed)."""


@rule("L101", "refuse")
def misses_the_objective(case: Measured) -> Says | None:
    """Refuses a layout that misses a latency objective however few requests it gets.

    Why: more replicas do not make one token faster; more tensor parallel, fewer bits or another device do.
    Articles: A1: 70B on an A10G at 12 tokens/s per request: it does not fit; three A10G plan at 102 ms per token (p95)
    for six users. A3: 25 tokens/s are fast enough for interactive use: the request's objectives decide.
    Source: the step-time model (docs/accuracy/speed.md says how far to trust it).
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on l4 --qps 0.1 --lanes fp8 --tpot-p95-ms 10
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l4 --qps 0.1 --lanes fp8 --tpot-p95-ms 200
    """
    if case.served:
        return None
    return Says(
        because=f"{case.broken} of {case.value_s:.3g} s with hardly any load, {case.limit_s:.3g} s allowed",
        facts={"objective": case.broken, "value_s": round(case.value_s, 6), "limit_s": case.limit_s},
    )


@rule("L102", "refuse")
def too_few_devices(case: Measured) -> Says | None:
    """Refuses a layout that needs more devices for the load than there are.

    Why: beyond its sustainable rate a server only queues.
    Articles: A1: six requests give six times the throughput, hundreds of users per model. The step grows with the
    batch: 8B BF16 on an A100 11.2, 15.4, 28.9 ms per token for 1, 16, 64 users (12 and 25 times the tokens). The "2-24
    times" over naive serving has no baseline.
    Source: the step-time model.
    Fires: --model Qwen/Qwen3-8B --on l4 --qps 500
    Silent: --model Qwen/Qwen3-8B --on l4 --qps 0.1
    """
    most = case.placed.pairing.device.most
    if not case.served or case.devices <= most:
        return None
    load = case.placed.pairing.settled.load
    asked = f"{load.rate:g} requests/s" if load.rate is not None else f"{load.users} users"
    job = case.placed.pairing.settled.request.workload.batch
    asked = asked if job is None else f"{job.requests:,} requests within {job.deadline_s:g} s"
    return Says(
        because=f"{asked} need {case.devices:.0f} devices ({case.rate:.3g} requests/s per replica), {most} are available",
        facts={"devices": case.devices, "available": most, "rate_per_replica": round(case.rate, 6)},
    )


@rule("L201", "warn")
def fewer_bits_no_longer_help(case: Shown) -> Says | None:
    """Warns where a weight-only lane serves fewer requests than 16-bit weights would at the planned load.

    Why: weight-only kernels unpack and then multiply in 16 bits, so prompts and large batches get slower while only the
    reading of weights gets faster: unthrottled on an A100-80, BF16 made 10338 tokens/s, AWQ 9612, GPTQ-INT4 8147,
    GPTQ-INT8 7120.
    Articles: A1: AWQ on A100 for the best throughput; A2: AWQ best overall, INT8 twice as fast; A3: INT4 2-3 (3-4)
    times. At saturation (Qwen3-8B, vLLM 0.9.2): A100 AWQ 0.93, GPTQ-INT4 0.79, GPTQ-INT8 0.69; H100 AWQ 0.73, W4A16
    1.02; RTX 4090 AWQ 1.46 times BF16 (GSQ rows).
    Source: GPUStack performance lab, Qwen3-8B on vLLM 0.9.2 (speed.csv GSQ rows).
    Fires: --model Qwen/Qwen3-8B --on a100-sxm4-80 --users 256 --lanes awq-int4 --max-loss 20
    Silent: --model Qwen/Qwen3-8B --on a100-sxm4-80 --users 1 --lanes awq-int4 --max-loss 20
    """
    kernel = case.pairing.kernel
    plain = case.plain_rate
    if plain is None or kernel is None or not kernel.path.endswith("weight-only") or case.rate >= plain:
        return None
    slower, since = 1 - case.rate / plain, case.plain_slower_from
    already = "" if since is None else f", as it does from {since:.0f} on"
    return Says(
        because=f"at {case.batch:.0f} running sequences {case.pairing.lane.id} serves {slower:.0%} fewer requests than 16 bits would{already}; it computes in {kernel.math} ({listed(case.kernels)})",
        facts={
            "running_sequences": round(case.batch, 1),
            "slower": round(slower, 3),
            "slower_from": whole(since),
            "kernels": case.kernels,
        },
        source="speed.csv: GSQ rows",
    )


@rule("L202", "note")
def gain_over_sixteen_bits(case: Shown) -> Says | None:
    """Notes how many more requests the lane serves than 16-bit weights on the same layout at the planned load.

    Why: a lane has no fixed factor: FP8 wins most where prompts and large batches are multiplied, weight-only lanes where
    few sequences run and weights are read; at saturation Qwen3-8B on an H100 made 1.15 (dynamic) to 1.24 (static) times
    the tokens of BF16.
    Articles: A3: FP8 1.4-1.8 times, most at large batches; "a clean 1.6 at 256". vLLM's page says up to 1.6. Measured
    H100 Qwen3-8B 1.15 (dynamic) to 1.24 (static); planned 8B 1.49 for one user, 1.38 for 256: large batches are
    compute-bound, so the gain falls. A3's static over dynamic 3 %: 7.7 % (GSQ-00040, GSQ-00043).
    Source: the step-time model (docs/accuracy/speed.md); speed.csv.
    Fires: --model Qwen/Qwen3-32B --on h100-sxm5-80 --qps 1 --lanes fp8
    Silent: --model Qwen/Qwen3-32B --on h100-sxm5-80 --qps 1 --lanes bf16
    """
    if case.plain_rate is None or case.rate <= case.plain_rate:
        return None
    gain, until = case.rate / case.plain_rate, case.plain_slower_from
    ends = "" if until is None else f"; from {until:.0f} on it is slower than they are"
    return Says(
        because=f"serves {gain:.2f} times the requests of 16-bit weights with {case.batch:.0f} running sequences{ends} ({listed(case.kernels)})",
        facts={
            "gain": round(gain, 3),
            "running_sequences": round(case.batch, 1),
            "slower_from": whole(until),
            "kernels": case.kernels,
        },
        source="the step-time model, docs/accuracy/speed.md",
    )


@rule("L103", "note")
def speculative_decoding(case: Shown) -> Says | None:
    """Notes that speculative decoding may shorten the time per token where few sequences run.

    Why: a draft uses arithmetic that a small batch leaves idle; a full batch has none to spare. How much it wins depends on
    the acceptance rate, which has to be measured again after any change of the target: rotated targets need a new draft.
    Articles: A1: speculative decoding lowers latency; A2: it doubles throughput. For few streams only; no clean
    measurement; acceptance must be re-measured after the target changes (vllm-ascend issue 5974).
    Source: no table of acceptance against precision was found; vllm-ascend issue 5974 (EAGLE3 over QuaRot).
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.05 --tpot-p95-ms 60
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on h100-sxm5-80:4 --qps 0.05
    """
    limited = any(name.startswith(("tpot", "e2e")) for name in case.pairing.settled.objectives.slo_s)
    wanted = limited or case.pairing.settled.objectives.objective == "latency"
    asked = case.pairing.settled.request.speculative is not None
    if asked or not wanted or case.batch > FEW_RUNNING or case.pairing.engine.id != "vllm":
        return None
    return Says(
        because=f"with {case.batch:.1f} running sequences a draft model or n-gram speculation may shorten TPOT: measure its acceptance",
        facts={"running_sequences": round(case.batch, 2)},
        source="unverified here: no acceptance measurement in the catalogue",
    )


@rule("L104", "note")
def common_prefix_is_cached(case: Shown) -> Says | None:
    """Notes that the tokens all prompts begin with are computed and kept once.

    Why: vLLM's prefix cache is on by default; only the rest of each prompt is computed, and the cache holds one copy.
    Articles: A2 offers prefix caching against KV-precision loss: it saves prompt time and does nothing for precision.
    Source: vllm 0.33 enable_prefix_caching default; the estimates count it.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 1 --prompt 2000 --set workload.shared_prefix_tokens=1500
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1 --prompt 2000
    """
    load = case.pairing.settled.load
    if not load.shared_prefix or case.pairing.engine.id != "vllm":
        return None
    share = min(1.0, load.shared_prefix / load.prompt.mean)
    return Says(
        because=f"{share:.0%} of the mean prompt is a common prefix: computed once, and cached once",
        facts={"shared_prefix_tokens": load.shared_prefix},
        source="vllm 0.33 config/cache.py enable_prefix_caching",
    )


@rule("L401", "note")
def quantized_at_every_start(case: Shown) -> Says | None:
    """Notes that weights which the engine quantizes while loading are read in 16 bits at every start.

    Why: a published or saved FP8 checkpoint is half as much to download and to read; what is served is the same.
    Articles: A3: add --quantization fp8 and the weights load in FP8; pre-quantized models start 30 % faster. An online
    lane reads the 16-bit checkpoint at every start (141 GB instead of 73 GB for 70B); the flag is a deprecated alias;
    the 30 % has no source. A2: 70 ms to move 140 GB is one decode step on an A100-80 (141 GB / 2,039 GB/s), not
    start-up.
    Source: vllm 0.33 model_loader: online quantization reads the original layer by layer.
    Fires: --model mistralai/Mistral-7B-Instruct-v0.3 --on l40s --qps 1 --lanes fp8 --set workload.lora.merged=true
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1 --lanes bf16
    """
    pairing = case.pairing
    if not pairing.method.recipe.online:
        return None
    original = 2.0 * pairing.params
    return Says(
        because=f"every start reads {original / 1e9:.0f} GB of 16-bit weights; a saved {pairing.lane.id} checkpoint would be about half",
        facts={"original_bytes": round(original)},
        source="vllm 0.33 model_executor/model_loader",
    )


@rule("L403", "note")
def spares_are_paid(case: Shown) -> Says | None:
    """Notes how many of the planned replicas are spares: they are in every price, and in the devices that are counted.

    Why: with N+1 the load is carried while one replica fails or is replaced; the spare is paid all the time.
    Source: `availability.spares` of the request; the replicas that the load needs come first.
    Fires: --model Qwen/Qwen3-8B --on l40s:4 --qps 1 --set availability.spares=1
    Silent: --model Qwen/Qwen3-8B --on l40s:4 --qps 1
    """
    spares = case.pairing.settled.load.spares
    if not spares or not case.replicas:
        return None
    later = (
        ""
        if case.ready_s is None
        else f"; one that fails is replaced within {case.ready_s:.0f} s where its checkpoint lies on the disk"
    )
    return Says(
        because=f"{spares} of {case.replicas} replicas {'is a spare' if spares == 1 else 'are spares'}, paid like the others{later}",
        facts={"spares": spares, "replicas": case.replicas},
        source="the request",
    )


@rule("L402", "note")
def added_replicas_take_time(case: Shown) -> Says | None:
    """Notes, where the load is said to vary, how long a replica takes that is added for a peak.

    Why: what a mean rate costs assumes that replicas come and go with the load. A new one imports its libraries, reads
    its weights, compiles and captures CUDA graphs first; without a local checkpoint it downloads them too.
    Source: published start-up logs (`starts` in the engine's data); disk and network as stated or assumed.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 1 --set workload.qps_mean=0.2
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1
    """
    load = case.pairing.settled.load
    varies = load.rate is not None and load.mean_rate is not None and load.mean_rate < load.rate
    if not varies or case.ready_s is None or case.ready_cold_s is None:
        return None
    return Says(
        because=f"a replica that is added serves after {case.ready_s:.0f} s with its checkpoint on the disk, {case.ready_cold_s:.0f} s without: what rises faster needs a spare",
        facts={"ready_s": round(case.ready_s, 1), "ready_cold_s": round(case.ready_cold_s, 1)},
        source="published start-up logs; see ready_s",
    )


@rule("L302", "note")
def where_llama_cpp_is_the_engine(case: Pairing) -> Says | None:
    """Notes that on CPUs, Apple chips and other devices without a vLLM GPU build llama.cpp's GGUF lanes are what is known.

    Why: vLLM's wheels are CUDA and ROCm, its CPU build has no measurement here; llama.cpp has CPU, Metal, Vulkan and
    more. Its numbers are those of few streams.
    Articles: A1 and A3: GGUF for CPU and Apple machines, Q4_K_M as the sweet spot. Applied. A2 calls GGUF CPU-only:
    llama.cpp runs CUDA, ROCm, Vulkan (RTX 4090, 8B Q4_K_M 127.7 tokens/s, XD-00064). A3: 25 tokens/s on an M3 Max: the
    M1 Max makes 34.5 (XD-00718).
    Source: kernel rows of both engines.
    Fires: --model Qwen/Qwen3-8B --on apple-m3-max-40c --qps 0.05 --set hardware.accelerators[0].memory_gib=64
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.05
    """
    device = case.device.accelerator
    elsewhere = device.kind == "cpu" or device.vendor in ("apple", "intel")
    if case.engine.id != "llama.cpp" or case.lane.family != "gguf" or not elsewhere:
        return None
    return Says(
        because=f"{device.name}: llama.cpp's GGUF lanes are what runs here, at four streams at most",
        source=case.engine.source,
    )


@rule("L301", "prefer")
def llama_cpp_under_load(case: Pairing) -> Says | None:
    """Prefers vLLM to llama.cpp for traffic on a GPU that vLLM supports; llama.cpp is chosen when vLLM cannot serve.

    Why: llama.cpp's kernels are made for one stream, and no trusted measurement of it under concurrent load exists;
    the article on production quantization calls GGUF on server hardware a mistake (four to six times less throughput
    on an H100, a figure without a source).
    Articles: A3: GGUF on servers is a mistake; vLLM with AWQ beats llama.cpp 4-6 times on an H100. No measurement of
    both exists; kept as a preference that may be waived.
    Source: speed.csv holds llama.cpp rows of one stream only.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 0.2 --lanes gguf:Q8_0
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.2 --lanes gguf:Q8_0 --engines llama.cpp
    """
    if case.engine.id != "llama.cpp" or "vllm" not in case.settled.engines:
        return None
    device, load = case.device.accelerator, case.settled.load
    traffic = load.users is None or load.users > FEW_USERS
    modern = device.kind == "gpu" and (device.vendor == "amd" or (device.cuda_capability or 0) >= 7.5)
    if not (traffic and modern):
        return None
    return Says(
        because="llama.cpp is made for few streams: vLLM is preferred for traffic on this device",
        facts={"users": load.users, "requests_per_s": load.rate},
        source="speed.csv: no llama.cpp row with concurrent users",
    )
