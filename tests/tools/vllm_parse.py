"""Runs inside vLLM's environment: parses command lines as `vllm serve` does and builds the engine configuration.

usage: python vllm_parse.py
Each line of standard input is a JSON list of cases; the answer is a line that begins with RESULTS, and their list.
Case: {"argv": ["serve", MODEL, ...], "model_folder": folder with a config.json, or null to parse only}
Result: {"names": {...}, "config": {...} or null} or {"error": text}
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

RESULTS = "RESULTS "


def main() -> None:
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    serve = ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    for line in sys.stdin:
        results = [answer(parser, serve, case) for case in json.loads(line)]
        print(f"\n{RESULTS}{json.dumps(results)}", flush=True)


def answer(parser: Any, serve: Any, case: dict[str, Any]) -> dict[str, Any]:
    try:
        args = parser.parse_args(case["argv"])
        serve.validate(args)
        return {"names": names(args), "config": case["model_folder"] and config(args, case["model_folder"])}
    except SystemExit as refusal:
        return {"error": f"exit {refusal.code}"}
    except Exception as fault:  # noqa: BLE001 - whatever vLLM raises is the answer
        return {"error": f"{type(fault).__name__}: {fault}"}


def names(args: argparse.Namespace) -> dict[str, Any]:
    """What the parser understood of the strings that users chose."""
    return {
        "model": args.model_tag,
        "revision": args.revision,
        "served": args.served_model_name,
        "host": args.host,
        "port": args.port,
        "adapters": [[module.name, module.path] for module in args.lora_modules or []],
    }


def config(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """The numbers of vLLM's own engine configuration for a model of this geometry."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    args.model, args.model_tag, args.revision, args.skip_tokenizer_init = folder, folder, None, True
    built = AsyncEngineArgs.from_cli_args(args).create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    return {
        "dtype": str(built.model_config.dtype),
        "quantization": built.model_config.quantization,
        "max-model-len": built.model_config.max_model_len,
        "max-num-seqs": built.scheduler_config.max_num_seqs,
        "max-num-batched-tokens": built.scheduler_config.max_num_batched_tokens,
        "gpu-memory-utilization": built.cache_config.gpu_memory_utilization,
        "kv-cache-dtype": built.cache_config.cache_dtype,
        "tensor-parallel-size": built.parallel_config.tensor_parallel_size,
        "pipeline-parallel-size": built.parallel_config.pipeline_parallel_size,
        "data-parallel-size": built.parallel_config.data_parallel_size,
        "enable-expert-parallel": built.parallel_config.enable_expert_parallel,
        "enable-lora": built.lora_config is not None,
        "speculative-config": built.speculative_config and built.speculative_config.method,
    }


if __name__ == "__main__":
    main()
