"""vLLM: a candidate as `vllm serve`. Numbers go to the config file; names that users chose go to the command line.

`--flag=value` is used for names because vLLM's parser would read a name with a leading dash as another flag.
Checkpoints that are already quantized get no `--quantization`: vLLM reads it from the checkpoint.
"""

from __future__ import annotations

import json

from msgspec import UNSET

from catalog.engine import Engine
from catalog.errors import BadInput, Unsupported
from planner.launch import (
    Launch,
    LaunchOptions,
    Value,
    devices_per_replica,
    in_order,
    named,
    opened,
    serving_pool,
)
from planner.plan import Candidate, Pool

PORT = 8000
DTYPE = {"bf16": "bfloat16", "fp16": "float16"}
"""Lanes that fix the number format; the others follow the checkpoint (on Turing vLLM then takes float16)."""
NODES = "CPU_VISIBLE_MEMORY_NODES"
"""Memory nodes that a server on a CPU may use (vllm 0.33 utils/cpu_resource_utils.py); it binds its threads to them."""


def launch(candidate: Candidate, engine: Engine, options: LaunchOptions) -> Launch:
    """`vllm serve` for one replica of `candidate`. Raises Unsupported for flags this version does not have."""
    pool = serving_pool(candidate)
    model, revision = _weights(candidate, options)
    served = named(options.served_name or options.model, "$.launch.served_name")
    names = {"revision": revision, "served-model-name": served, "host": named(options.host, "$.launch.host")}
    words = [f"--{flag}={value}" for flag, value in names.items() if value is not None]
    adapters = [_adapter(adapter.name, adapter.path) for adapter in options.adapters]
    words += ["--lora-modules", *adapters] if adapters else []
    settings = _settings(candidate, pool, engine) | _lora(pool, options)
    for flag in (*names, *settings, *(["lora-modules"] if adapters else []), "config", "port"):
        engine.flag(f"--{flag}")
    return Launch(
        target="vllm",
        program=("vllm", "serve", opened(model), *words),
        settings=settings,
        env=_environment(candidate, options) | in_order(pool),
        model=opened(model),
        revision=revision,
        served_name=served,
        host=options.host,
        port=_port(options.port),
        replicas=pool.replicas,
        devices_per_replica=devices_per_replica(pool),
        device_variable=NODES if on_a_cpu(pool) else "CUDA_VISIBLE_DEVICES",
        devices=pool.settings.devices,
    )


def quantization(candidate: Candidate, engine: Engine) -> str | None:
    """The `--quantization` of weights that are quantized while loading; None for everything already quantized."""
    if not candidate.recipe.online:
        return None
    if candidate.recipe.name not in engine.online:
        raise Unsupported(
            f"vLLM {engine.version} quantizes {candidate.recipe.name} not while loading", "$.choice.recipe"
        )
    return engine.online[candidate.recipe.name]


def made_folder(candidate: Candidate, options: LaunchOptions) -> str:
    """Where the README's recipe writes a checkpoint that has to be made."""
    scheme = candidate.make.scheme if candidate.make else candidate.recipe.name
    return f"./{options.model.rstrip('/').rpartition('/')[2]}-{scheme}"


def _weights(candidate: Candidate, options: LaunchOptions) -> tuple[str, str | None]:
    """What vLLM opens, and at which revision."""
    if options.model_path is not None:
        return named(options.model_path, "$.launch.model_path"), None
    if candidate.artifact is not None:
        return named(candidate.artifact.repo, "$.choice.artifact.repo"), candidate.artifact.revision
    if candidate.make is not None and candidate.make.tool not in ("vllm", "none"):
        return named(made_folder(candidate, options), "$.model"), None
    base, revision = options.base
    return named(base, "$.model"), revision


def _settings(candidate: Candidate, pool: Pool, engine: Engine) -> dict[str, Value]:
    """The plan's own numbers under vLLM's names; what equals the default of every version is left out."""
    chosen = pool.settings
    settings: dict[str, Value | None] = {
        "dtype": "bfloat16" if on_a_cpu(pool) else DTYPE.get(candidate.lane, "auto"),
        "quantization": quantization(candidate, engine),
        "max-model-len": chosen.max_model_len,
        "max-num-seqs": chosen.max_num_seqs,
        "max-num-batched-tokens": chosen.max_num_batched_tokens,
        "gpu-memory-utilization": None if on_a_cpu(pool) else chosen.gpu_memory_utilization,
        "enforce-eager": True if on_a_cpu(pool) else None,
        "kv-cache-dtype": candidate.kv_cache_dtype,
        "tensor-parallel-size": pool.tensor_parallel,
        "pipeline-parallel-size": pool.pipeline_parallel,
        "data-parallel-size": pool.data_parallel if pool.data_parallel > 1 else None,
        "enable-expert-parallel": True if pool.expert_parallel > 1 else None,
        "speculative-config": _speculation(chosen.speculative),
    }
    return {flag: value for flag, value in settings.items() if value is not None}


def on_a_cpu(pool: Pool) -> bool:
    """Whether the plan states the cache's size: the CPU build takes it from the environment, and knows no share of a
    device's memory. Nothing is compiled there: a compiler need not be at hand, and a start takes seconds."""
    return pool.settings.kv_cache_gib is not UNSET


def _speculation(text: str | None) -> dict[str, object] | None:
    """vLLM takes speculative decoding as one JSON object."""
    if text is None:
        return None
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise BadInput(f"expected a JSON object as vLLM's --speculative-config, found {text!r}", "$.choice.settings")
    return config


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that `--max-lora-rank` takes (vllm 0.33 config/lora.py)."""


def _lora(pool: Pool, options: LaunchOptions) -> dict[str, Value]:
    """Adapters: as many as the plan counted memory for, or as are named here."""
    planned = pool.settings.max_loras or 0
    if not options.adapters and not planned:
        return {}
    rank = pool.settings.max_lora_rank or options.max_lora_rank
    return {
        "enable-lora": True,
        "max-loras": max(planned, len(options.adapters)),
        "max-lora-rank": next(allowed for allowed in RANKS if allowed >= rank),
    }


def _adapter(name: str, path: str) -> str:
    """The JSON form, because `name=path` is cut at the first `=` of either."""
    return json.dumps({"name": named(name, "$.launch.adapters"), "path": named(path, "$.launch.adapters")})


def _environment(candidate: Candidate, options: LaunchOptions) -> dict[str, str]:
    env: dict[str, str] = {}
    if options.air_gapped:
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if candidate.kernel.startswith("aiter-"):
        env["VLLM_ROCM_USE_AITER"] = "1"
    size = serving_pool(candidate).settings.kv_cache_gib
    if size is not UNSET:
        env["VLLM_CPU_KVCACHE_SPACE"] = str(size)
    if candidate.kernel.startswith("cpu-wna16-amx"):
        env["VLLM_CPU_INT4_W4A8"] = "0"  # else activations are rounded to 8 bits, which is not the planned lane
    return env


def _port(port: int | None) -> int:
    """vLLM refuses ports below 1024 (vllm 0.33.0 utils/argparse_utils.py check_port)."""
    if port is not None and not 1024 <= port <= 65535:
        raise BadInput(f"expected a port from 1024 to 65535, found {port}", "$.launch.port")
    return PORT if port is None else port
