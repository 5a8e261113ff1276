"""llama.cpp: a candidate as `llama-server`. Its parser takes `--flag value` only, and the next word whatever it is.

Slots are kept apart (`--parallel N` without `--kv-unified`): the plan promises `max_model_len` to each of
`max_num_seqs` requests at once, so the context is their product and no request can evict another.
The plan has decided layers, context and slots, so `--fit` is off: a machine that is too small fails at start.
"""

from __future__ import annotations

from catalog.engine import Engine
from catalog.errors import BadInput, Unsupported
from planner.launch import (
    Launch,
    LaunchOptions,
    Value,
    devices_per_replica,
    in_order,
    named,
    serving_pool,
)
from planner.plan import Candidate, Pool

PORT = 8080
CONTEXT_STEP = 256
"""Contexts are padded to this many cells (llama-context.cpp:292-304)."""
PHYSICAL_BATCH = 512
"""Default `--ubatch-size`: tokens computed at once; the compute buffer grows with it."""
EVERY_LAYER = 999
NEEDS_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "Q2_K_S")
"""Types that llama-quantize refuses to make without an importance matrix (llama-quant.cpp)."""
PINNED_BY = {"ggml-cuda": "CUDA_VISIBLE_DEVICES", "ggml-hip": "HIP_VISIBLE_DEVICES",
             "ggml-vulkan": "GGML_VK_VISIBLE_DEVICES"}  # fmt: skip


def launch(candidate: Candidate, engine: Engine, options: LaunchOptions) -> Launch:
    """`llama-server` for one replica of `candidate`. Raises Unsupported for flags this version does not have."""
    pool = serving_pool(candidate)
    if not candidate.lane.startswith("gguf:"):
        raise Unsupported(f"llama.cpp serves GGUF files, not {candidate.lane}", "$.choice.lane")
    source, model = _weights(candidate, options)
    served = named(options.served_name or options.model, "$.launch.served_name")
    alias = _without(",", served, "$.launch.served_name")
    names = {source: model, "--alias": alias, "--host": named(options.host, "$.launch.host")}
    if options.adapters:
        names["--lora"] = ",".join(_without(',"', adapter.path, "$.launch.adapters") for adapter in options.adapters)
    settings = _settings(candidate, pool) | ({"offline": True} if options.air_gapped else {})
    for flag in (*names, *(f"--{name}" for name in settings), "--port"):
        engine.flag(flag)
    return Launch(
        target="llamacpp",
        program=("llama-server", *(word for pair in names.items() for word in pair)),
        settings=settings,
        env=in_order(pool),
        model=model,
        revision=None,
        served_name=served,
        host=options.host,
        port=_port(options.port),
        replicas=pool.replicas,
        devices_per_replica=devices_per_replica(pool),
        device_variable=PINNED_BY.get(candidate.kernel),
        devices=pool.settings.devices,
    )


def file_type(candidate: Candidate) -> str:
    """The llama.cpp type after the colon: Q4_K_M of `gguf:Q4_K_M`."""
    return candidate.lane.partition(":")[2]


def made_file(candidate: Candidate, options: LaunchOptions) -> str:
    """Where the README's recipe writes a file that has to be made."""
    return f"./{options.model.rstrip('/').rpartition('/')[2]}-{file_type(candidate)}.gguf"


def _weights(candidate: Candidate, options: LaunchOptions) -> tuple[str, str]:
    """The flag that names the weights, and its value: a file here, or a repository and its type."""
    if options.model_path is not None:
        return "--model", named(options.model_path, "$.launch.model_path")
    if candidate.artifact is not None:
        return "--hf-repo", f"{named(candidate.artifact.repo, '$.choice.artifact.repo')}:{file_type(candidate)}"
    model = options.model if candidate.make is None else made_file(candidate, options)
    return "--model", named(model, "$.model")


def _settings(candidate: Candidate, pool: Pool) -> dict[str, Value]:
    """The plan's own numbers under llama-server's names."""
    chosen = pool.settings
    if chosen.speculative is not None:
        raise Unsupported("speculative decoding under llama.cpp is not planned yet", "$.choice.settings.speculative")
    if pool.tensor_parallel > 1 or pool.data_parallel > 1:
        raise Unsupported("llama.cpp splits layers over devices: pipeline_parallel alone", "$.choice.pools")
    per_slot = -(-chosen.max_model_len // CONTEXT_STEP) * CONTEXT_STEP
    settings: dict[str, Value] = {
        "ctx-size": per_slot * chosen.max_num_seqs,
        "parallel": chosen.max_num_seqs,
        "batch-size": chosen.max_num_batched_tokens,
        "ubatch-size": min(PHYSICAL_BATCH, chosen.max_num_batched_tokens),
        "cache-type-k": candidate.kv_cache_dtype,
        "cache-type-v": candidate.kv_cache_dtype,
        "flash-attn": "on",
        "fit": "off",
    }
    return settings | _placement(candidate, pool.pipeline_parallel) | {"metrics": True}


def _placement(candidate: Candidate, devices: int) -> dict[str, Value]:
    """Which layers go where: all of them on the plan's devices, and nothing on devices it did not count."""
    if candidate.kernel == "ggml-cpu":
        return {"device": "none", "n-gpu-layers": 0}
    if devices == 1:
        return {"n-gpu-layers": EVERY_LAYER, "split-mode": "none"}
    return {"n-gpu-layers": EVERY_LAYER, "split-mode": "layer", "tensor-split": ",".join(["1"] * devices)}


def _without(letters: str, text: str, path: str) -> str:
    """llama-server splits aliases at commas, and adapters as a CSV row; it offers no escape."""
    if set(letters) & set(text):
        raise BadInput(f"llama-server cannot take any of {letters!r} here, found {text!r}", path)
    return named(text, path)


def _port(port: int | None) -> int:
    if port is not None and not 1 <= port <= 65535:
        raise BadInput(f"expected a port from 1 to 65535, found {port}", "$.launch.port")
    return PORT if port is None else port
