"""Runs inside vLLM's environment: its own planner divides a cache among layers, as it does at the start of a server.

usage: python oracle_script.py CASES.json RESULTS.json
It knows nothing of Lanewise: another interpreter runs it.
CASES: [{"model_folder", "context", "sequences", "step_tokens", "pool_bytes",
         "layers": [{"count", "kind": "full|window|latent", "heads", "width", "dtype", "window"}]}]
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
    specs = dict(layer for group in case["layers"] for layer in layers(group))
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
    return config


def layers(group: dict[str, Any]) -> list[tuple[str, Any]]:
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec

    dtype = torch.float8_e4m3fn if group["dtype"] == "fp8" else torch.bfloat16
    shape = {"num_kv_heads": group["heads"], "head_size": group["width"], "dtype": dtype}
    if group["kind"] == "window":
        made = [
            SlidingWindowSpec(block_size=16, sliding_window=group["window"], **shape) for _ in range(group["count"])
        ]
    elif group["kind"] == "latent":
        made = [MLAAttentionSpec(block_size=64, **shape) for _ in range(group["count"])]
    else:
        made = [FullAttentionSpec(block_size=16, **shape) for _ in range(group["count"])]
    return [(f"{group['kind']}.{index}", spec) for index, spec in enumerate(made)]


if __name__ == "__main__":
    main(*sys.argv[1:])
