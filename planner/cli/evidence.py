"""`lanewise evidence`: what is known of a lane's losses, and own measurements to know more."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.errors import BadInput
from planner.cli.common import Commands, write_document

if TYPE_CHECKING:
    from planner.settings import Settings

EXAMPLES = """examples:
  lanewise evidence --lane awq-int4 --task code --size 8B --context 32k    an estimate, and what it rests on
  lanewise evidence --source RedHatAI --task math                          rows, and their medians by source
  lanewise evidence --add measured.csv                                     columns: model, lane, task, task_family,
                                                                           baseline, quantized, and others if known"""
FILTERS = ("lane", "task", "size", "context", "model", "recipe", "source")
NO_MEASUREMENTS = "leave own measurements out"


def add_to(commands: Commands) -> None:
    """Declare `evidence`."""
    evidence = commands.add_parser(
        "evidence",
        help="what is known of a lane's losses, with citations; own measurements",
        description="Lane, task and size make an estimate, shown with the rows nearest to it and their sources; any of "
        "them alone is a filter. With --add and --remove, keep or forget measurements of your own: plans are made "
        "with them from then on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    asked = evidence.add_argument_group("question")
    asked.add_argument("--lane", help="lane id, for example awq-int4 or gguf:Q4_K_M; kv:fp8 for a cache format")
    asked.add_argument("--task", metavar="FAMILY", help="task family, for example code")
    asked.add_argument("--size", metavar="PARAMETERS", help="size of the model: 8B, 0.5b, 70e9")
    asked.add_argument("--context", metavar="TOKENS", help="context: 32k, 32768")
    asked.add_argument("--model", metavar="ID", help="rows of this model, by its id or a part of it")
    asked.add_argument("--recipe", help="rows of this recipe or training: gptq, qat")
    asked.add_argument("--source", metavar="TEXT", help="rows whose citation or address contains this")
    asked.add_argument("--own", action="store_true", help="own measurements alone")
    asked.add_argument("--no-measurements", action="store_true", help=NO_MEASUREMENTS)
    answer = evidence.add_argument_group("answer")
    answer.add_argument("--limit", type=int, default=12, metavar="N", help="rows at most (default: %(default)s)")
    answer.add_argument("--json", action="store_true", help="print one JSON document")
    kept = evidence.add_argument_group("own measurements").add_mutually_exclusive_group()
    kept.add_argument("--add", type=Path, metavar="FILE", help="keep the measurements of a CSV file, all or none")
    kept.add_argument("--remove", metavar="ID", help="forget one")
    evidence.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Answer, or change what is kept."""
    from planner import service, settings

    own = settings.from_environment()
    if arguments.add is not None or arguments.remove is not None:
        return _change(arguments, own)
    from planner import evidence

    catalog = service.catalogue(msgspec.structs.replace(own, measurements=not arguments.no_measurements))
    texts = {name: getattr(arguments, name) for name in FILTERS}
    found = evidence.answer(evidence.question(catalog, own=arguments.own, limit=arguments.limit, **texts), catalog)
    if arguments.json:
        write_document(service.encode(found))
    else:
        from planner import evidence_report

        evidence_report.show(found)
    return 0


def _change(arguments: argparse.Namespace, own: Settings) -> int:
    """Keep or forget measurements, and say what became of each."""
    from planner import measurements, service

    if mixed := [name for name in (*FILTERS, "own", "no_measurements") if getattr(arguments, name)]:
        flag = "--add" if arguments.add is not None else "--remove"
        raise BadInput(f"{flag} asks no question: leave --{mixed[0].replace('_', '-')} out", flag)
    if arguments.remove is not None:
        place = measurements.remove(arguments.remove, own)
        if arguments.json:
            write_document(service.encode({"removed": arguments.remove}))
        else:
            print(f"{arguments.remove}: removed from {place}")
        return 0
    found = measurements.add(arguments.add, service.facts(own), own)
    if arguments.json:
        write_document(service.encode(found))
        return 0
    for words, keys in ((f"added to {own.catalog_dir}", found.added), ("kept already", found.known)):
        for key in keys:
            print(f"{key}: {words}")
    return 0
