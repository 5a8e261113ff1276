"""`lanewise fit`: does it start, where does the memory go, and how much fits."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from catalog.errors import BadInput
from planner.cli.assign import assigned
from planner.cli.common import Commands, number, write_document
from planner.cli.plan import given, hardware, versions

EXAMPLES = """examples:
  lanewise fit Qwen/Qwen3-32B --on h100-sxm5-80                     every lane: what starts, what fits
  lanewise fit Qwen/Qwen3-32B --on h100-sxm5-80 --lane fp8 --context 32768
  lanewise fit Qwen/Qwen3-8B --here --lane gguf:Q4_K_M --sequences 4"""


def add_to(commands: Commands) -> None:
    """Declare `fit` and its flags."""
    fit = commands.add_parser(
        "fit",
        help="does it start, where does the memory go, how much context and how many sequences fit",
        description="Count the memory of one device: whether the engine starts and with what to spare, the longest "
        "context and the most sequences that fit, what to change. Exit code 0: it starts, 3: it does not.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.add_argument("model", metavar="MODEL", help="catalogue or hub id, a local folder, or a .gguf file")
    _add_hardware(fit.add_argument_group("hardware"))
    _add_flags(fit.add_argument_group("engine and its flags"))
    answer = fit.add_argument_group("answer")
    answer.add_argument("--json", action="store_true", help="print the answer as one JSON document")
    answer.add_argument(
        "--oracle",
        action="store_true",
        help="ask the engine's own planner too, where it is installed (llama-fit-params counts logits of every token, "
        "llama-server keeps one per slot)",
    )
    fit.set_defaults(run=run)


def _add_hardware(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--on", action="append", metavar="ACCELERATOR[:COUNT]", help="COUNT devices of one replica (default 1)"
    )
    group.add_argument("--here", action="store_true", help="this machine, with what is free on it now")
    group.add_argument("--inventory", type=Path, metavar="FILE", help="a machine as `lanewise probe --json` printed it")


def _add_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--lane", help="one lane, for example fp8 or gguf:Q4_K_M (default: a table of all)")
    group.add_argument("--engine", help="vllm or llama.cpp")
    group.add_argument("--engine-version", action="append", metavar="ENGINE=VERSION", help="this version: vllm=0.19")
    group.add_argument("--context", type=int, metavar="TOKENS", help="longest context (default: the model's own limit)")
    group.add_argument("--sequences", type=int, metavar="N", help="slots: --max-num-seqs, --parallel")
    group.add_argument("--tensor-parallel", type=int, metavar="N", help="devices that share every layer")
    group.add_argument("--pipeline-parallel", type=int, metavar="N", help="devices that share the layers among them")
    group.add_argument("--data-parallel", type=int, metavar="N", help="ranks with a cache each that share the experts")
    group.add_argument("--kv-cache", metavar="FORMAT", help="auto or fp8 (vLLM), f16 or q8_0 (llama.cpp)")
    group.add_argument(
        "--utilization", type=number, metavar="SHARE", help="vLLM's share of the memory, for example 0.9"
    )
    group.add_argument("--gpu-layers", type=int, metavar="N", help="llama.cpp: layers on devices (default: all)")
    group.add_argument("--tensor-split", type=shares, metavar="A,B", help="llama.cpp: shares of the layers by device")
    group.add_argument("--cpu-experts", type=int, metavar="N", help="llama.cpp: layers whose experts stay on the host")
    group.add_argument(
        "--set", action="append", metavar="PATH=VALUE", help="any field of the question: hardware.reserved.memory_gib=4"
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask, answer; 3 when nothing starts."""
    from planner import decode, service, settings

    own = settings.from_environment()
    found = service.make_headroom(decode.decode_ask(document(arguments)), own)
    if arguments.oracle:
        found = service.with_oracle(found, own)
    if arguments.json:
        write_document(service.encode(found))
    else:
        from planner import headroom_report

        headroom_report.show(found)
    return 0 if found.starts else 3


def shares(text: str) -> list[float]:
    """`3,1` as numbers, as llama.cpp spells a split."""
    return [number(part) for part in text.split(",")]


NAMES = ("lane", "engine", "context", "sequences", "tensor_parallel", "pipeline_parallel", "data_parallel", "kv_cache",
         "utilization", "gpu_layers", "tensor_split", "cpu_experts")  # fmt: skip
"""Flags that are fields of the question as they stand."""


def document(arguments: argparse.Namespace) -> bytes:
    """The question that the flags spell, as JSON."""
    spelled = {name: getattr(arguments, name) for name in NAMES}
    spelled |= {"model": arguments.model, "hardware": hardware(arguments)}
    spelled |= {"engine_versions": versions(arguments.engine_version)}
    asked = assigned(given(spelled), arguments.set or [])
    if "hardware" not in asked:
        raise BadInput("say where: --on ACCELERATOR[:COUNT], --here or --inventory FILE", "$.hardware")
    return msgspec.json.encode(asked)
