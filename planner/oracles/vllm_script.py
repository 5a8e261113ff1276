"""Runs inside vLLM's environment: its own planner divides a cache among layers, as it does at the start of a server.

usage: python vllm_script.py CASES.json RESULTS.json
It knows nothing of Lanewise: another interpreter runs it.
CASES: [{"model_folder", "context", "sequences", "step_tokens", "pool_bytes", "tensor_parallel",
         "layers": [{"count", "kind": "full|window|latent|state", "heads", "width", "dtype", "window"}]}]
A model with layers of kind "state" is in "model_folder" itself: vLLM's model class says how large its states are.
RESULTS, in the same order: {"tokens", "concurrency", "blocks"} or {"error": text}
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(cases_file: str, results_file: str) -> None:
    with open(cases_file) as source:
        results = [answer(case) for case in json.load(source)]
    with open(results_file, "w") as target:
        json.dump(results, target)


def answer(case: dict[str, Any]) -> dict[str, Any]:
    from vllm.v1.core.kv_cache_planning import get_kv_cache_configs, get_kv_cache_groups
    from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity

    config = engine_config(case)
    if any(group["kind"] == "state" for group in case["layers"]):
        align(config, case["tensor_parallel"])
    specs = dict(layer for group in case["layers"] for layer in layers(group, config))
    groups = get_kv_cache_groups(config, dict(specs))
    try:
        planned = get_kv_cache_configs(config, [specs], [int(case["pool_bytes"])], groups)[0]
    except ValueError as refusal:
        return {"error": str(refusal)}
    tokens, concurrency = get_kv_cache_capacity(config, planned)
    return {"tokens": tokens, "concurrency": concurrency, "blocks": planned.num_blocks}


def engine_config(case: dict[str, Any]) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    args = EngineArgs(
        model=case["model_folder"],
        skip_tokenizer_init=True,
        max_model_len=case["context"],
        block_size=16,
        max_num_seqs=case["sequences"],
        max_num_batched_tokens=case["step_tokens"],
    )
    config = args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    config.cache_config.kv_cache_layout = "LBNHC"
    config.scheduler_config.async_scheduling = True  # as on a GPU: two steps in flight
    return config


CHECKPOINTS = 64
"""Tokens between the states that FlashInfer's kernel hands out (v1/attention/backends/gdn_attn.py)."""


def align(config: Any, tensor_parallel: int) -> None:
    """What a GPU's platform does to a hybrid model's block size once its layers are built."""
    from vllm.platforms.interface import Platform
    from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend

    config.parallel_config.tensor_parallel_size = tensor_parallel
    config.cache_config.block_size = CHECKPOINTS
    Platform._align_hybrid_block_size(config, FlashAttentionBackend)


def state(config: Any) -> Any:
    """One linear layer's state, as its layer class declares it on a GPU with FlashInfer's kernel."""
    from vllm.model_executor.models import ModelRegistry
    from vllm.v1.kv_cache_interface import MambaSpec

    model, cache = config.model_config, config.cache_config
    made, _ = ModelRegistry.resolve_model_cls(model.architecture, model_config=model)
    return MambaSpec(
        shapes=made.get_mamba_state_shape_from_config(config),
        dtypes=made.get_mamba_state_dtype_from_config(config),
        block_size=cache.mamba_block_size,
        page_size_padded=cache.mamba_page_size_padded,
        mamba_cache_mode=cache.mamba_cache_mode,
        num_prefill_checkpoint_blocks=1,
    )


def layers(group: dict[str, Any], config: Any) -> list[tuple[str, Any]]:
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec

    if group["kind"] == "state":
        return [(f"state.{index}", state(config)) for index in range(group["count"])]
    block = config.cache_config.block_size
    dtype = torch.float8_e4m3fn if group["dtype"] == "fp8" else torch.bfloat16
    shape = {"num_kv_heads": group["heads"], "head_size": group["width"], "dtype": dtype}
    if group["kind"] == "window":
        made = [
            SlidingWindowSpec(block_size=block, sliding_window=group["window"], **shape) for _ in range(group["count"])
        ]
    elif group["kind"] == "latent":
        made = [MLAAttentionSpec(block_size=64, **shape) for _ in range(group["count"])]
    else:
        made = [FullAttentionSpec(block_size=block, **shape) for _ in range(group["count"])]
    return [(f"{group['kind']}.{index}", spec) for index, spec in enumerate(made)]


if __name__ == "__main__":
    main(*sys.argv[1:])
