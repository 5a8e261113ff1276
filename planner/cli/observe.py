"""`lanewise observe`: what engines and benchmarks print, beside what is predicted, and kept for later plans."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from catalog.errors import BadInput, LanewiseError
from planner.cli.common import Commands, write_document

if TYPE_CHECKING:
    from catalog.load import Catalog
    from planner.observe.deployment import Said
    from planner.settings import Settings

EXAMPLES = """examples:
  lanewise observe vllm.log --model Qwen/Qwen3-8B --accelerator l40s --lane fp8       a start beside its prediction
  lanewise observe run1.json run2.json run3.json … --add                              repeats, kept as their median
  lanewise observe http://localhost:8000/metrics                                      what a server counted so far
  lanewise observe --list; lanewise observe --remove run-c90c7ea31d3c                 what is kept; forget it"""


def add_to(commands: Commands) -> None:
    """Declare `observe`."""
    observe = commands.add_parser(
        "observe",
        help="read start-up logs, /metrics and benchmark results; compare them with predictions; learn from them",
        description="Start-up logs of vLLM and llama.cpp, their /metrics, and results of guidellm, `vllm bench serve` "
        "and llama-bench, from any machine. Lines and fields in a format that is not known are reported. With --add, "
        "plans for the same accelerator are made with what was measured from then on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    observe.add_argument(
        "files", nargs="*", metavar="FILE|URL", help="one deployment: a log, results, repeats of a run"
    )
    about = observe.add_argument_group("what the files do not say")
    about.add_argument("--model", metavar="ID", default="", help="catalogue or hub id, a local folder, or a .gguf file")
    about.add_argument("--accelerator", metavar="ID[:COUNT]", default="", help="catalogue id of the devices")
    about.add_argument("--lane", default="", help="lane id, for example fp8 or gguf:Q4_K_M")
    about.add_argument("--engine", choices=("vllm", "llama.cpp"), default="", help="who answered a benchmark")
    about.add_argument("--engine-version", metavar="VERSION", default="", help="its version: 0.33.0, b7000")
    about.add_argument("--machine", metavar="NAME", default="", help="a name for the host, shown by --list")
    kept = observe.add_argument_group("what is kept").add_mutually_exclusive_group()
    kept.add_argument("--add", action="store_true", help="keep the numbers: plans are made with them")
    kept.add_argument("--list", action="store_true", help="show what is kept")
    kept.add_argument("--remove", metavar="ID", help="forget a number, or all of a run")
    observe.add_argument("--json", action="store_true", help="print one JSON document")
    observe.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, compare, keep; or list, or forget."""
    from planner import settings

    own = settings.from_environment()
    if arguments.list or arguments.remove is not None:
        if arguments.files:
            flag = "--list" if arguments.list else "--remove"
            raise BadInput(f"{flag} reads no file: leave {arguments.files[0]} out", flag)
        return _list(arguments, own) if arguments.list else _forget(arguments, own)
    if not arguments.files:
        raise BadInput("say what to read: a log, a result, or the address of /metrics", "FILE|URL")
    return _read(arguments, own)


def _read(arguments: argparse.Namespace, own: Settings) -> int:
    from planner import service
    from planner.observe import answer

    said, readings = _said(arguments), answer.read(arguments.files)
    catalog = _facts(said.model or readings[0].setting("served model"), own, asked=bool(said.model))
    found = answer.observed(readings, said, catalog)
    if arguments.add:
        found = answer.keep(found, own)
    if arguments.json:
        write_document(service.encode(found))
    else:
        from planner.observe import tables

        tables.show(found)
    return 0


def _facts(model: str, own: Settings, *, asked: bool) -> Catalog:
    """With the model that is asked for, or that a receipt names, if this machine has it."""
    from planner import service

    try:
        return service.with_requested_model(model, own) if model else service.facts(own)
    except LanewiseError:
        if asked:
            raise
        return service.facts(own)


def _said(arguments: argparse.Namespace) -> Said:
    from planner.observe.deployment import Said

    device, _, count = arguments.accelerator.partition(":")
    if count and not (count.isdecimal() and int(count)):
        raise BadInput(f"expected ID or ID:COUNT, got {arguments.accelerator!r}", "--accelerator")
    return Said(
        model=arguments.model, accelerator=device, accelerators=int(count or 0), lane=arguments.lane,
        engine=arguments.engine, engine_version=arguments.engine_version, machine=arguments.machine,
    )  # fmt: skip


def _list(arguments: argparse.Namespace, own: Settings) -> int:
    from planner import service
    from planner.observe import answer

    rows = answer.kept(own)
    if arguments.json:
        write_document(service.encode({"observations": rows}))
    else:
        from planner.observe import tables

        tables.listed(rows)
    return 0


def _forget(arguments: argparse.Namespace, own: Settings) -> int:
    from planner import service
    from planner.observe import answer

    gone = answer.forget(arguments.remove, own)
    if arguments.json:
        write_document(service.encode({"removed": gone}))
    else:
        print(f"{arguments.remove}: {len(gone)} removed from {own.catalog_dir}")
    return 0
