"""L rules: whether the load is carried within the latency objectives."""

from __future__ import annotations

from planner.rules.rule import Measured, Pairing, Running, Says, rule

FEW_USERS = 4
"""llama-server's default number of slots."""


@rule("L101", "refuse")
def misses_the_objective(case: Measured) -> Says | None:
    """Refuses a layout that misses a latency objective however few requests it gets.

    Why: more replicas do not make one token faster; more tensor parallel, fewer bits or another device do.
    Source: the step-time model (docs/accuracy/speed.md says how far to trust it).
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
    Source: the step-time model.
    """
    most = case.placed.pairing.device.most
    if not case.served or case.devices <= most:
        return None
    load = case.placed.pairing.settled.load
    asked = f"{load.rate:g} requests/s" if load.rate is not None else f"{load.users} users"
    return Says(
        because=f"{asked} need {case.devices:.0f} devices ({case.rate:.3g} requests/s per replica), {most} are available",
        facts={"devices": case.devices, "available": most, "rate_per_replica": round(case.rate, 6)},
    )


@rule("L201", "warn")
def fewer_bits_no_longer_help(case: Running) -> Says | None:
    """Warns where a weight-only lane serves fewer requests than 16-bit weights would at the planned load.

    Why: weight-only kernels unpack and then multiply in 16 bits, so prompts and large batches get slower while only the
    reading of weights gets faster: unthrottled on an A100-80, BF16 made 10338 tokens/s, AWQ 9612, GPTQ-INT4 8147,
    GPTQ-INT8 7120.
    Source: GPUStack performance lab, Qwen3-8B on vLLM 0.9.2 (speed.csv GSQ rows).
    """
    kernel = case.pairing.kernel
    if kernel is None or not kernel.path.endswith("weight-only") or case.rate >= case.plain_rate:
        return None
    slower = 1 - case.rate / case.plain_rate
    return Says(
        because=f"at {case.batch:.0f} running sequences {case.pairing.lane.id} serves {slower:.0%} fewer requests than 16 bits would: it computes in {kernel.math}",
        facts={"running_sequences": round(case.batch, 1), "slower": round(slower, 3)},
        source="speed.csv: GSQ rows",
    )


@rule("L301", "prefer")
def llama_cpp_under_load(case: Pairing) -> Says | None:
    """Prefers vLLM to llama.cpp for traffic on a GPU that vLLM supports; llama.cpp is chosen when vLLM cannot serve.

    Why: llama.cpp's kernels are made for one stream, and no trusted measurement of it under concurrent load exists;
    the article on production quantization calls GGUF on server hardware a mistake (four to six times less throughput
    on an H100, a figure without a source).
    Source: speed.csv holds llama.cpp rows of one stream only.
    """
    device, load, engines = case.device.accelerator, case.settled.load, case.settled.engines
    traffic = load.users is None or load.users > FEW_USERS
    modern = device.kind == "gpu" and (device.vendor == "amd" or (device.cuda_capability or 0) >= 7.5)
    if case.engine.id != "llama.cpp" or "vllm" not in engines or not (traffic and modern):
        return None
    return Says(
        because="llama.cpp is made for few streams: vLLM is preferred for traffic on this device",
        facts={"users": load.users, "requests_per_s": load.rate},
        source="speed.csv: no llama.cpp row with concurrent users",
    )
